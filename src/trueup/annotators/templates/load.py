"""Templates by name or by file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from trueup.annotators.templates.template import Template, checked
from trueup.errors import InputError
from trueup.words import did_you_mean

TEMPLATES = ("helpfulness", "harmlessness", "summary")
"""Those that come with trueup."""


def load_template(name: str) -> Template:
    """A template that comes with trueup, or one in a file, ready to be used.

    Raises:
        InputError: there is none, or `checked` refuses it.
    """
    if name in TEMPLATES:
        return checked(name, template_source(name))
    try:
        source = Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = did_you_mean(name, TEMPLATES, quoted=True)
        raise InputError(
            f"template {name}: no such file{hint}; give {_either(TEMPLATES)}, or a file with a Jinja template"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise InputError(f"template {name!r}: the file cannot be read: {reason}") from None
    return checked(name, source)


def template_source(name: str) -> str:
    """The text of a template that comes with trueup, to be copied.

    Raises:
        InputError: there is none of this name.
    """
    if name not in TEMPLATES:
        raise InputError(
            f"there is no template {name!r}{did_you_mean(name, TEMPLATES, quoted=True)}; "
            f"there is {_either(TEMPLATES)}"
        )
    return files(__package__).joinpath(f"{name}.jinja").read_text(encoding="utf-8")


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
