"""Access to the fields of a row. A fault names file, row, key path, what was found, what is expected."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from trueup.errors import InputError
from trueup.feedback.records import Origin
from trueup.words import did_you_mean, listed, nearest, printable, shortened

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a row: `Place(Origin("a.jsonl", 3), "chosen[1].content")`."""

    origin: Origin
    path: str = ""

    def key(self, name: str) -> "Place":
        """The place of a key of the object here."""
        return Place(self.origin, f"{self.path}.{printable(name)}" if self.path else printable(name))

    def item(self, index: int) -> "Place":
        """The place of an item of the list here."""
        return Place(self.origin, f"{self.path}[{index}]")

    def fault(self, problem: str) -> InputError:
        """The error to raise for `problem` at this place."""
        return InputError(f"{self.origin}: {self.path}: {problem}")

    def unexpected(self, found: object, expected: str) -> InputError:
        """The error to raise for a value of the wrong kind at this place."""
        return self.fault(f"found {described(found)}, expected {expected}")


def described(value: object) -> str:
    """A value as an error message shows it: `text 'yes'`, `a list of 2`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {shortened(value)}"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, int):
        return "the number " + (str(value) if abs(value) < 10**20 else "with more than 20 digits")
    if isinstance(value, Mapping):
        return f"an object with the keys {listed(map(printable, value), 12)}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return type(value).__name__


def needed(row: Mapping[str, object], key: str, place: Place, why: str = "") -> object:
    """The value of a key that must be there; `why` ends the message where it is not."""
    if key not in row:
        near = nearest(key, row)
        found = (
            f"; found {shortened(near)} instead"
            if near is not None
            else f"; the row has {listed(map(printable, row), 12)}"
        )
        raise place.key(key).fault(f"the key is missing{found}{'; ' if why else ''}{why}")
    return row[key]


def text(value: object, place: Place) -> str:
    """The value as text."""
    if not isinstance(value, str):
        raise place.unexpected(value, "text")
    return value


def number(value: object, place: Place) -> float:
    """The value as a finite number; true and false are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.unexpected(value, "a finite number")
    try:
        made = float(value)
    except OverflowError:
        made = math.inf
    if not math.isfinite(made):
        raise place.unexpected(value, "a finite number")
    return made


def integer(value: object, place: Place, lowest: int, highest: int | None = None) -> int:
    """The value as a whole number in a range; 2.0 is one."""
    made = number(value, place)
    if made != int(made) or made < lowest or (highest is not None and made > highest):
        span = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise place.unexpected(value, f"a whole number {span}")
    return int(made)


OPPOSITES = (
    *(("yes", "no"), ("1", "-1"), ("up", "down"), ("thumbs_up", "thumbs_down"), ("good", "bad")),
    *(("like", "dislike"), ("positive", "negative"), ("\U0001f44d", "\U0001f44e")),
    *(("thumbs up", "thumbs down"), ("thumbs-up", "thumbs-down"), ("liked", "disliked"), ("y", "n")),
    *(("upvote", "downvote"), ("accepted", "rejected"), ("correct", "incorrect"), ("helpful", "unhelpful")),
)
"""Values with which people label responses, the good one first."""


def opposite(value: object) -> tuple[str, str] | None:
    """The two values of which this is one, the good one first; None where it is none that is known."""
    written = str(value).strip()
    return next((pair for pair in OPPOSITES if written.lower() in pair), None)


def given(option: str, *words: str) -> str:
    """An option as it is typed: `--values 'thumbs up=true'`."""
    typed = (word if word.isprintable() and " " not in word else repr(word) for word in words)
    return f"--{option} {' '.join(typed)}"


def meaning(good: str, bad: str) -> str:
    """The option that says which value is good, and which is bad."""
    return given("values", f"{good}=true", f"{bad}=false")


def label(value: object, place: Place) -> float:
    """The value as a desirability in [0, 1]; true is 1 and false is 0."""
    values = meaning(*(opposite(value) or ("GOOD", "BAD")))
    remedy = f"write true for good and false for bad, or say what the values mean, as in {values}"
    if value is None:
        remedy = "leave out the rows that have none"
    expected = f"true, false or a number from 0 to 1; {remedy}"
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise place.unexpected(value, expected)
    return float(value)


def position(value: object, place: Place, count: int) -> int:
    """The value as the position of one of `count` responses, counted from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise place.unexpected(value, f"the position of a response, from 0 to {count - 1}")
    return value


def optional(
    row: Mapping[str, object], key: str, place: Place, read: Callable[[object, Place], T]
) -> T | None:
    """What is read under a key that may be absent or null."""
    value = row.get(key)
    return None if value is None else read(value, place.key(key))


def items(value: object, place: Place, of: str) -> list[object]:
    """The value as a list; `of` says of what, for the message."""
    if not isinstance(value, list):
        raise place.unexpected(value, f"a list of {of}")
    return value


def fields(value: object, place: Place, known: tuple[str, ...] = ()) -> Mapping[str, object]:
    """The value as an object; with `known`, one that holds no other keys."""
    if not isinstance(value, dict):
        like = "{" + ", ".join(f'"{name}": ...' for name in known[:2]) + "}" if known else "{...}"
        raise place.unexpected(value, f"an object {like}")
    for name in value:
        if known and name not in known:
            raise place.key(name).fault(
                f"unknown key (known: {', '.join(known)}){did_you_mean(name, known, quoted=True)}"
            )
    return value


def text_under(row: Mapping[str, object], key: str, place: Place) -> str:
    """The text under a key that must be there."""
    return text(needed(row, key, place), place.key(key))


def objects(
    row: Mapping[str, object], key: str, place: Place, of: str = "objects"
) -> list[tuple[Mapping[str, object], Place]]:
    """The objects in the list under a key, each with its place; `of` says what they are, for the message."""
    at = place.key(key)
    listed = items(needed(row, key, place), at, of)
    return [(fields(value, at.item(index)), at.item(index)) for index, value in enumerate(listed)]
