"""How much a file of feedback may unpack to, and how much one row may hold.

A packed file of a few kilobytes can stand for any number of gigabytes. Text packs to a fifth or a tenth, text that
repeats itself to a fiftieth; what packs better than that is no feedback.
"""

from trueup.errors import InputError

ALWAYS = 2**28
"""Bytes that any file may unpack to, however small it is."""
RATIO = 100
"""Times its own size that a larger file may unpack to."""
MOST_KEYS = 1000
"""Keys of one row, or columns of one table."""


def unpacked_limit(size: int) -> int:
    """Bytes that a packed file of this many bytes may unpack to."""
    return max(ALWAYS, RATIO * size)


def unpacks_to_too_much(name: str, size: int) -> InputError:
    """The refusal of a packed file of this many bytes."""
    most = unpacked_limit(size) / 2**20
    return InputError(
        f"{name}: these {size} bytes unpack to more than {most:.0f} MiB, which no feedback does; if it is what you "
        "want, give it unpacked, as JSON lines"
    )


def too_many_keys(number: int, of: str) -> str:
    """What is wrong with a row or table that has this many keys; empty where nothing is."""
    if number <= MOST_KEYS:
        return ""
    return f"{of} has {number} keys; at most {MOST_KEYS} are read: leave out those that are not feedback"
