"""Sources of a mixture: how much of each is learned from.

In YAML a source is `{path: a.jsonl, weight: 2, limit: 1000}`; as one text, as on the command line, it is
`a.jsonl?weight=2&limit=1000`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from trueup.errors import InputError
from trueup.words import as_given, did_you_mean

KEYS = ("path", "weight", "limit")
GIVEN = re.compile(r"(?<=[?&])(weight|limit)=([^&]*)(&|$)")


@dataclass(frozen=True, slots=True)
class Part:
    """A source and what is taken of it: `Part("a.jsonl", weight=2.0, limit=1000)`."""

    name: str
    """Of a file, of the hub or of the world."""
    weight: float = 1.0
    """How often each of its examples stands in a pass; 0.5 leaves half of them out."""
    limit: int | None = None
    """Most examples taken, the first ones."""

    @property
    def taken_as_it_is(self) -> bool:
        return self.weight == 1 and self.limit is None


def part_of(given: str) -> Part:
    """The part of a mixture that a text names; a name without weight and limit is taken as it is.

    Raises:
        InputError: the weight or the limit is not above 0, or stands there twice.
    """
    found = GIVEN.findall(given)
    if not found:
        return Part(given)
    name = GIVEN.sub("", given).rstrip("?&")
    chosen = {key: value for key, value, _ in found}
    if len(chosen) < len(found):
        raise InputError(f"{given!r}: weight and limit may be given once")
    try:
        weight, limit = float(chosen.get("weight", 1)), int(chosen["limit"]) if "limit" in chosen else None
    except ValueError:
        weight, limit = math.nan, None
    if not 0 < weight < math.inf or (limit is not None and limit < 1):
        raise InputError(
            f"{given!r}: weight must be a number above 0, how often each example stands in a pass, and limit a whole "
            "number of at least 1, how many examples are taken"
        )
    return Part(name, weight, limit)


def as_text(source: Any) -> Any:
    """A source given as a mapping as one text; whatever else as it is."""
    if not isinstance(source, Mapping):
        return source
    unknown = next((key for key in source if key not in KEYS), None)
    if unknown is not None:
        hint = did_you_mean(str(unknown), KEYS) or f"; a source of a mixture has {', '.join(KEYS)}"
        raise PydanticCustomError("unfit", f"has the unknown key {as_given(unknown)}{hint}")
    if not isinstance(source.get("path"), str) or not source["path"]:
        raise PydanticCustomError(
            "unfit", "needs a path in each source of a mixture, as in {path: a.jsonl, weight: 2}"
        )
    path = source["path"]
    query = "&".join(f"{key}={source[key]}" for key in KEYS[1:] if source.get(key) is not None)
    made = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
    try:
        part_of(made)
    except InputError as error:
        raise PydanticCustomError(
            "unfit", f"cannot be read: {error}".replace("{", "(").replace("}", ")")
        ) from None
    return made
