"""The name a user most likely meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the known dotted name closest to the one given, or None where none is close.

    Example: `nearest("reference.alhpa", ["beta", "reference.alpha"])` is "reference.alpha", and so is
    `nearest("alpha", ...)`. Of equally close names the first wins.
    """
    names = {_plain(name): name for name in reversed(list(known))}
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


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean NAME?`, or nothing where no known name is close."""
    name = nearest(given, known)
    return f"; did you mean {name}?" if name else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
