"""A problem that was found, with every place where it stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trueup.feedback.counts import numbered
from trueup.feedback.records import Example, Origin
from trueup.inspection.kinds import Kind


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of problem and where it is: `Problem(EMPTY_PROMPT, 1, (Origin("a.jsonl", 3),))`."""

    kind: Kind
    count: int
    """How many rows have it; 1 where it concerns a file or the data as a whole."""
    origins: tuple[Origin, ...] = ()
    details: tuple[str, ...] = ()
    """A line on each place, where there is more to say of it."""
    about: str = ""
    """What is said of the case at hand: the number, the reason, the key."""

    @property
    def what(self) -> str:
        """The clause that names it."""
        return self.kind.what.replace("{}", self.about)


def found(
    kind: Kind, examples: Sequence[Example], details: Iterable[str] = (), about: object = ""
) -> list[Problem]:
    """The problem of some examples; nothing where there are none."""
    origins = tuple(example.origin for example in examples if example.origin is not None)
    return [Problem(kind, len(examples), origins, tuple(details), str(about))] if examples else []


def rows_of(origins: Sequence[Origin], most: int = 5) -> str:
    """The first few rows by file: `a.jsonl: rows 3, 8, 12, ...; b.jsonl:1`."""
    files: dict[str, list[int]] = {}
    for origin in origins:
        files.setdefault(origin.file, []).append(origin.row)
    names = short_names(list(files))
    return "; ".join(
        f"{names[file]}:{rows[0]}" if len(rows) == 1 else f"{names[file]}: {numbered(rows, most)}"
        for file, rows in files.items()
    )


def short_names(files: Sequence[str]) -> dict[str, str]:
    """The last part of each path, or all of it where two would look the same."""
    last = {file: file if ":" in file else file.rstrip("/").rpartition("/")[2] for file in files}
    seen = list(last.values())
    return {file: file if seen.count(name) > 1 else name for file, name in last.items()}
