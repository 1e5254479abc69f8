"""A problem that was found, with every place where it stands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from trueup.feedback.records import Example, Origin
from trueup.inspection.kinds import Kind

PARTS = ("training", "evaluation")
"""The parts of the data, as programs are told of them."""
ALL_OF_THEM = "(--json lists all)"
"""Where all is to be found that is not shown."""


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
    part: str = ""
    """`training` or `evaluation`; empty where it concerns neither alone."""

    @property
    def what(self) -> str:
        """The clause that names it."""
        return self.kind.what.replace("{}", self.about)


def found(
    kind: Kind,
    examples: Sequence[Example],
    details: Iterable[str] = (),
    about: object = "",
    part: str = "",
) -> list[Problem]:
    """The problem of some examples; nothing where there are none."""
    origins = tuple(example.origin for example in examples if example.origin is not None)
    return [Problem(kind, len(examples), origins, tuple(details), str(about), part)] if examples else []


def in_part(problems: Iterable[Problem], part: str) -> list[Problem]:
    """The problems, each said to be of a part of the data."""
    return [replace(problem, part=part) for problem in problems]


def rows_of(origins: Sequence[Origin], names: Mapping[str, str], most: int = 5) -> list[list[str]]:
    """The first few rows of each file, as words between which a line may break.

    Example: `["a.jsonl:", "rows", "3,", "8,", "12"], ["b.jsonl:1"]`.

    Args:
        names: file -> what to call it.
        most: how many rows of a file to name; how many more there are is said.
    """
    files: dict[str, list[int]] = {}
    for origin in origins:
        files.setdefault(origin.file, []).append(origin.row)
    made = []
    for file, rows in files.items():
        name = names.get(file, file)
        shown = [str(row) for row in rows[:most]]
        more = f"and {len(rows) - most} more {ALL_OF_THEM}".split() if len(rows) > most else []
        made.append(
            [f"{name}:{rows[0]}"]
            if len(rows) == 1
            else [
                f"{name}:",
                "rows",
                *(f"{row}," for row in shown[:-1]),
                shown[-1] + ("," if more else ""),
                *more,
            ]
        )
    return made


def short_names(files: Sequence[str]) -> dict[str, str]:
    """The last part of each path, or all of it where two would look the same."""
    last = {file: file if ":" in file else file.rstrip("/").rpartition("/")[2] for file in files}
    seen = list(last.values())
    return {file: file if seen.count(name) > 1 else name for file, name in last.items()}
