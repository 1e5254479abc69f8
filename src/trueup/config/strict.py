"""What all settings share: nothing unknown, nothing that is not finite, docstrings that become help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    allow_inf_nan=False,
    coerce_numbers_to_str=True,
    use_attribute_docstrings=True,
    protected_namespaces=(),
    hide_input_in_errors=True,
)
UNFIT = "unfit"
"""Type of an error whose message continues the setting's name, and does not show the value: it may be a secret."""


def one_or_several(value: Any) -> Any:
    """A single text is a list of one."""
    return (value,) if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(one_or_several)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Named:
    """Marks a setting of several kinds that may be given as one name as well: `annotator: world:gold`."""

    forms: str
    """The names, in words."""


@dataclass(frozen=True, slots=True)
class Escaped:
    r"""Marks a setting that is a text in which `\n`, `\t` and `\\` are read as escapes on the command line."""


def unescaped(text: str) -> str:
    r"""Return the text with `\n`, `\t` and `\\` as the characters they stand for; any other backslash stays."""
    meant = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
    return re.sub(r"\\[nt\\]", lambda found: meant[found[0]], text)


def _plain_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        readable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        readable = False
        parts = None
    if parts is not None and "@" in parts.netloc:
        raise PydanticCustomError(
            UNFIT,
            "holds a user's name or password, which would stand in run.yaml; give the URL without them, and the key in "
            "the environment variable that key_variable names",
        )
    if not readable or parts is None:
        raise PydanticCustomError(UNFIT, "must be a URL, as in http://localhost:8000/v1")
    if parts.query or parts.fragment:
        raise PydanticCustomError(
            UNFIT,
            "must end with its path, as in http://localhost:8000/v1; give a key in the environment variable that "
            "key_variable names",
        )
    return url


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise PydanticCustomError(
            UNFIT,
            "must be the name of an environment variable, not the key itself; export the key under a name and give it",
        )
    return name


Url = Annotated[str, AfterValidator(_plain_url)]
"""Of a server; it holds no secret."""
Variable = Annotated[str, AfterValidator(_variable)]
"""Name of an environment variable."""
