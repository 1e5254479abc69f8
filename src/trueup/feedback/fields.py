"""Values of a row with their places. A fault names file, row, key path, what was found, what is expected."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trueup import errors, words
from trueup.feedback.records import Origin

T = TypeVar("T")
OPPOSITES = "yes/no,1/-1,up/down,thumbs_up/thumbs_down,good/bad,like/dislike,positive/negative,\U0001f44d/\U0001f44e,"
OPPOSITES += "thumbs up/thumbs down,thumbs-up/thumbs-down,liked/disliked,y/n,upvote/downvote,accepted/rejected,"
OPPOSITES += "correct/incorrect,helpful/unhelpful"
"""Values with which people label responses, the good one first."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value, and where it stands: `Field(row, Origin("a.jsonl", 3))["chosen"].items("messages")[1]["content"]`."""

    value: Any
    origin: Origin
    path: str = ""

    def at(self, key: str | int, value: object = None) -> "Field":
        if isinstance(key, int):
            return Field(value, self.origin, f"{self.path}[{key}]")
        return Field(value, self.origin, f"{self.path}.{words.printable(key)}" if self.path else words.printable(key))

    def fault(self, problem: str) -> errors.InputError:
        return errors.InputError(f"{self.origin}: {self.path}: {problem}")

    def unexpected(self, expected: str) -> errors.InputError:
        return self.fault(f"found {described(self.value)}, expected {expected}")

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def __getitem__(self, key: str) -> "Field":
        return self.needed(key)

    def needed(self, key: str, why: str = "") -> "Field":
        """What stands under a key that must be there; `why` ends the message where it is not."""
        if key not in self.value:
            near = words.nearest(key, self.value)
            there = f"the row has {words.listed(map(words.printable, self.value), 12)}"
            found = there if near is None else f"found {words.shortened(near)} instead"
            raise self.at(key).fault(f"the key is missing; {found}{'; ' if why else ''}{why}")
        return self.at(key, self.value[key])

    def get(self, key: str) -> "Field | None":
        value = self.value.get(key)
        return None if value is None else self.at(key, value)

    def optional(self, key: str, read: "Callable[[Field], T]") -> T | None:
        found = self.get(key)
        return None if found is None else read(found)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.unexpected("text")
        return self.value

    def number(self) -> float:
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        try:
            made = float(self.value) if number else math.inf
        except OverflowError:
            made = math.inf
        if not math.isfinite(made):
            raise self.unexpected("a finite number")
        return made

    def integer(self, lowest: int, highest: int | None = None) -> int:
        made = self.number()
        if made != int(made) or made < lowest or (highest is not None and made > highest):
            span = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
            raise self.unexpected(f"a whole number {span}")
        return int(made)

    def label(self) -> float:
        if not isinstance(self.value, bool | int | float) or not 0 <= self.value <= 1:
            values = meaning(*(opposite(self.value) or ("GOOD", "BAD")))
            remedy = f"write true for good and false for bad, or say what the values mean, as in {values}"
            if self.value is None:
                remedy = "leave out the rows that have none"
            raise self.unexpected(f"true, false or a number from 0 to 1; {remedy}")
        return float(self.value)

    def position(self, count: int) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 0 <= self.value < count:
            raise self.unexpected(f"the position of a response, from 0 to {count - 1}")
        return self.value

    def items(self, of: str) -> "list[Field]":
        if not isinstance(self.value, list):
            raise self.unexpected(f"a list of {of}")
        return [self.at(index, one) for index, one in enumerate(self.value)]

    def object(self, known: tuple[str, ...] = ()) -> "Field":
        """Itself, which is an object; with `known`, one that holds no other keys."""
        if not isinstance(self.value, dict):
            like = "{" + ", ".join(f'"{name}": ...' for name in known[:2]) + "}" if known else "{...}"
            raise self.unexpected(f"an object {like}")
        for name in self.value:
            if known and name not in known:
                hint = words.did_you_mean(name, known, quoted=True)
                raise self.at(name).fault(f"unknown key (known: {', '.join(known)}){hint}")
        return self

    def objects(self, of: str = "objects") -> "list[Field]":
        return [one.object() for one in self.items(of)]


def described(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"text {words.shortened(value)}"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, int):
        return "the number " + (str(value) if abs(value) < 10**20 else "with more than 20 digits")
    if isinstance(value, Mapping):
        return (
            f"an object with the keys {words.listed(map(words.printable, value), 12)}" if value else "an empty object"
        )
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return type(value).__name__


def opposite(value: object) -> Sequence[str] | None:
    """The two values of which this is one, the good one first; None where it is none that is known."""
    pairs = (pair.split("/") for pair in OPPOSITES.split(","))
    return next((pair for pair in pairs if str(value).strip().lower() in pair), None)


def meaning(good: str, bad: str) -> str:
    both = (f"{good}=true", f"{bad}=false")
    typed = (word if word.isprintable() and " " not in word else repr(word) for word in both)
    return f"--values {' '.join(typed)}"
