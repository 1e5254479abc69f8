"""The settings of data: the sources of a mixture, and what the columns of a user's tables are."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from trueup import errors
from trueup.settings.schema import Plain, Role, unfit
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
    found = GIVEN.findall(given)
    if not found:
        return Part(given)
    name = GIVEN.sub("", given).rstrip("?&")
    chosen = {key: value for key, value, _ in found}
    if len(chosen) < len(found):
        raise errors.InputError(f"{given!r}: weight and limit may be given once")
    try:
        weight, limit = float(chosen.get("weight", 1)), int(chosen["limit"]) if "limit" in chosen else None
    except ValueError:
        weight, limit = math.nan, None
    if not 0 < weight < math.inf or (limit is not None and limit < 1):
        raise errors.InputError(f"{given!r}: weight must be a number above 0, and limit a whole number of at least 1")
    return Part(name, weight, limit)


def _as_text(source: Any) -> Any:
    """A source given as a mapping as one text; whatever else as it is."""
    if not isinstance(source, Mapping):
        return source
    unknown = next((key for key in source if key not in KEYS), None)
    if unknown is not None:
        hint = did_you_mean(str(unknown), KEYS) or f"; a source of a mixture has {', '.join(KEYS)}"
        raise unfit(f"has the unknown key {as_given(unknown)}{hint}")
    path = source.get("path")
    if not isinstance(path, str) or not path:
        raise unfit("needs a path in each source of a mixture, as in {path: a.jsonl, weight: 2}")
    query = "&".join(f"{key}={source[key]}" for key in KEYS[1:] if source.get(key) is not None)
    made = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
    try:
        part_of(made)
    except errors.InputError as error:
        raise unfit(f"cannot be read: {error}") from None
    return made


def _sources(value: Any) -> Any:
    several = (value,) if isinstance(value, str | Mapping) else value
    return tuple(map(_as_text, several)) if isinstance(several, list | tuple) else several


def _unweighted(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sources to evaluate on, each as it is or up to a limit."""
    for name in names:
        try:
            weight = part_of(name).weight
        except errors.InputError as error:
            raise unfit(f"cannot be read: {error}") from None
        if weight != 1:
            raise unfit(f"has a weight in {name!r}, and what is held out is measured once; leave it out")
    return names


Sources = Annotated[tuple[Plain, ...], BeforeValidator(_sources)]
HeldOut = Annotated[Sources, AfterValidator(_unweighted)]

NAMES = (
    *("prompt", "response", "chosen", "rejected", "label", "score", "system", "messages"),
    *("conversations", "completion", "tools", "source"),
)


def as_pairs(given: Any) -> Any:
    """A mapping, as YAML has it, or one text, as texts with an equals sign each."""
    if isinstance(given, Mapping):
        words = ((name, one if isinstance(one, str) else json.dumps(one)) for name, one in given.items())
        return tuple(f"{name}={word}" for name, word in words)
    return (given,) if isinstance(given, str) else given


def _columns(pairs: tuple[str, ...]) -> tuple[str, ...]:
    taken: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise unfit(f"must say what a column is, as in prompt=user_message; got {pair!r}")
        if ours not in NAMES:
            known = f"{', '.join(NAMES)}{did_you_mean(ours, NAMES)}"
            raise unfit(f"{pair!r}: {ours!r} is none of {known}; the column's name stands last")
        if ours in taken or theirs in taken.values():
            raise unfit(f"{pair!r}: {ours if ours in taken else theirs!r} is given twice")
        taken[ours] = theirs
    return pairs


def _values(pairs: tuple[str, ...]) -> tuple[str, ...]:
    taken: dict[str, object] = {}
    for pair in pairs:
        name, equals, meaning = pair.rpartition("=")
        try:
            meant = json.loads(meaning.lower())
        except ValueError:
            meant = None
        sound = isinstance(meant, bool | int | float) and math.isfinite(meant)
        if not equals or not name or not sound:
            raise unfit(f"must say which value is good, as in thumbs_up=true thumbs_down=false; got {pair!r}")
        key = name.strip().lower()
        if taken.setdefault(key, meant) != meant:
            raise unfit(f"{name!r} is given twice, with two meanings")
    return pairs


COLUMNS = (
    "What the columns of a table of your own are, as in prompt=user_message response=bot_reply label=feedback; also "
    "chosen, rejected, score, system and messages."
)
VALUES = "What the values of its labels mean, as in thumbs_up=true thumbs_down=false."
Pairs = Annotated[tuple[str, ...], BeforeValidator(as_pairs), Role(affects="examples", pairs=True)]
Columns = Annotated[Pairs, AfterValidator(_columns), Field(description=COLUMNS)]
Values = Annotated[Pairs, AfterValidator(_values), Field(description=VALUES)]
