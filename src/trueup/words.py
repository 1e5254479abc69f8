"""Words of messages: lists, counts, excerpts, the name that was meant, why something failed."""

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches

logger = logging.getLogger("trueup")  # whatever people are told goes through it

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tabs and line ends, marks of direction, and halves of characters."""


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first few names and how many more there are: `a, b and 3 more`; `none` where there is none."""
    every = list(names)
    more = len(every) - most
    return (", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")) or "none"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def numbered(rows: Iterable[int], noun: str = "row") -> str:
    """Row numbers, the first few: `rows 3, 8, 12, ...`."""
    every = list(rows)
    more = ["..."] if len(every) > 5 else []
    return f"{noun}{'' if len(every) == 1 else 's'} " + ", ".join([*map(str, every[:5]), *more])


def printable(name: str, limit: int = 40) -> str:
    """A key as a message can show it: on one line, cut after `limit` characters."""
    cut = name if len(name) <= limit else name[:limit] + "..."
    return cut if cut.isprintable() else repr(cut)


def shortened(text: str, limit: int = 40) -> str:
    """The text in quotes, on one line, cut after `limit` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "...")


def spelled(text: str) -> str:
    r"""The text with what would steer a terminal or hide in it spelled out: `\x1b[2J` for what clears the screen."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(said: object) -> str:
    """A text, or what an error says, on one line; the error's kind where it says nothing."""
    words = spelled(" ".join(str(said).split()))
    return words or (type(said).__name__ if isinstance(said, BaseException) else "")


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or one_line(error)


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to the one given, or None; of a dotted name the last part will do."""
    names = _by_plain(known)
    plain = _plain(given)
    if plain in names:
        return names[plain]
    last = plain.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in names}
    if last in by_last:
        return names[by_last[last]]
    if close := get_close_matches(plain, names, n=1):
        return names[close[0]]
    if close := get_close_matches(last, by_last, n=1, cutoff=0.7):
        return names[by_last[close[0]]]
    return None


def near_names(given: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that are close to the one given, the closest first."""
    names = _by_plain(known)
    return [names[close] for close in get_close_matches(_plain(given), names)]


def did_you_mean(given: str, known: Iterable[str], *, quoted: bool = False) -> str:
    """Return `; did you mean NAME?`, or nothing where no known name is close."""
    name = nearest(given, known)
    return f"; did you mean {repr(name) if quoted else name}?" if name else ""


def as_given(value: object) -> str:
    """The value as a message quotes it: short, and a number given as text without its quotes."""
    text = ascii(value)
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            text = value.strip()
    return text if len(text) <= 80 else f"{text[:77]}..."


def named(path: str) -> str:
    """The name as a message shows it: as it is, unless that would not be seen or would break the line."""
    return path if path.strip() and path.isprintable() else ascii(path)


def one_of(choices: Sequence[str], given: object) -> str:
    """Return `one of A, B, C; got 'x'; did you mean A?`; a sole choice stands alone."""
    allowed = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    close = did_you_mean(given, choices) if isinstance(given, str) else ""
    return f"{allowed}; got {as_given(given)}{close}"


def _by_plain(known: Iterable[str]) -> dict[str, str]:
    return {_plain(name): name for name in reversed(list(known))}


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
