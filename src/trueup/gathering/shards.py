"""A command's work dealt to several processes, and what they wrote put together as one would have written it.

    {"of": "trueup annotate", "shard": "3/16", "rows": [1280, 1920, 10000], "settings": {"seed": "5feceb66ffc86f38",
     ...}, "day": null, "examples": 611, "sha256": "..."}
    {"prompt": ..., "responses": [...]}

A shard is a run of whole pieces of the work, so that each is done with the same seeds and in the same company as in one
process. Its file has a line on what it is before its examples.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from gzip import open as unpacked
from pathlib import Path

from trueup import errors, words
from trueup.feedback import canonical, records
from trueup.gathering.resumable import DAY, SUFFIX, Work, check_place, differing

UNIT = 64  # rows that are never apart; a multiple of the pieces that sampling and judging are done in


@dataclass(frozen=True, slots=True)
class Head:
    of: str
    shard: str
    rows: tuple[int, int, int]  # of the input: the first, the one behind the last, and how many there are
    settings: dict[str, str]  # what the result depends on, as hashes, with that of the whole input
    day: str | None
    examples: int
    sha256: str

    @property
    def place(self) -> list[int]:
        return list(map(int, self.shard.split("/")))


def rows_of(shard: str | None, total: int) -> range:
    """Which rows of an input are a shard's, from 0; all where there is none."""
    number, of = map(int, (shard or "1/1").split("/"))
    units = -(-total // UNIT)
    first, last = (min(units * one // of * UNIT, total) for one in (number - 1, number))
    if shard is not None:
        own = f"rows {first + 1:,} to {last:,}" if first < last else "none"
        words.logger.info(f"shard {shard}: {own} of {words.counted(total, 'row')}")
    return range(first, last)


def write(
    output: Path, examples: Sequence[records.Example], work: Work, shard: str | None, rows: range, total: int
) -> int:
    """Write what came of the work, with a shard's head where it is one; says how many examples."""
    if shard is None:
        return canonical.write_examples(output, examples)
    lines = list(canonical.lines_of(output, examples))
    settings = {name: value for name, value in work.settings.items() if name != "shard"}
    sha256 = hashlib.sha256(b"".join(lines)).hexdigest()
    head = Head(work.of, shard, (rows.start, rows.stop, total), settings, work.parts.get(DAY), len(lines), sha256)
    canonical.write_lines(output, [canonical.json_line(asdict(head)), *lines])
    return len(lines)


def merge(files: Sequence[str], output: str, of: str, *, overwrite: bool) -> None:
    """Put the files of all shards together, which the command `of` wrote, in the order of the input, and say so.
    InputError: a shard is missing, there twice, unfinished, damaged, or of other work; or nothing came of any."""
    check_place(output, overwrite=overwrite)
    if not files:
        raise errors.InputError(f"--merge needs the files of all shards: {of} --merge PART... --output FILE")
    heads = sorted(((_head(Path(one), of), Path(one)) for one in files), key=lambda found: found[0].place)
    _check(heads)
    if not any(head.examples for head, _ in heads):
        raise errors.InputError("no shard has an example, for the reasons that each gave; nothing was written")
    number = canonical.write_lines(output, (line for head, path in heads for line in _lines(head, path)))
    words.logger.info(f"{words.counted(number, 'example')} of {words.counted(len(heads), 'shard')} written to {output}")


def _check(heads: Sequence[tuple[Head, Path]]) -> None:
    """Refuse files that are not all shards of one piece of work, each once."""
    (first, path), count = heads[0], heads[0][0].place[1]
    before: tuple[Head, Path] | None = None
    for head, other in heads:
        if head.place[1] != count:
            raise errors.InputError(
                f"{path} is shard {first.shard} and {other} is {head.shard}: they overlap. Give shards of one number"
            )
        if different := differing(first.settings, head.settings):
            what = "another input" if "data" in different else f"other settings ({words.listed(different)})"
            raise errors.InputError(
                f"{path} and {other} were made with {what}. Do the shards again that differ from what is wanted"
            )
        if before and before[0].shard == head.shard:
            raise errors.InputError(f"{before[1]} and {other} are both shard {head.shard}. Give each shard once")
        before = head, other
    if missing := sorted({*range(1, count + 1)} - {head.place[0] for head, _ in heads}):
        told = words.listed([f"{one}/{count}" for one in missing])
        raise errors.InputError(f"{told} of the {count} shards {'is' if len(missing) == 1 else 'are'} not given")
    if len({head.day for head, _ in heads} - {None}) > 1:
        days = words.listed([f"{head.shard} of {head.day}" for head, _ in heads if head.day])
        raise errors.InputError(
            f"the chat template writes the date, and the shards are of several days ({days}), as one process's work "
            "never is. Do those again that were begun on another day, all on one"
        )
    ends = [0, *(head.rows[1] for head, _ in heads)]
    if [head.rows[0] for head, _ in heads] != ends[:-1] or ends[-1] != first.rows[2]:
        raise errors.InputError("the shards do not hold each row once: they are of different versions. Do them again")


def _head(path: Path, of: str) -> Head:
    line = b""
    try:
        if not path.exists() and path.with_name(path.name + SUFFIX).exists():
            raise errors.InputError(f"{path} is not finished; the command that began it goes on with it")
        with (unpacked if path.suffix == ".gz" else open)(path, "rb") as opened:
            line = opened.readline()
        found = json.loads(line)
        head = Head(**{**found, "rows": tuple(found["rows"])})
    except OSError as error:
        raise errors.InputError(f"{path}: {words.reason(error)}") from None
    except (ValueError, TypeError, KeyError, EOFError):
        unfinished = path.suffix == SUFFIX
        why = "the work of a command that is not finished" if unfinished else f"not a file of {of} --shard"
        raise errors.InputError(f"{path} is {why}. Give the files that the shards wrote") from None
    if head.of != of:
        raise errors.InputError(f"{path} is a shard of {head.of}; put its shards together by {head.of} --merge")
    return head


def _lines(head: Head, path: Path) -> Iterator[bytes]:
    told, count = hashlib.sha256(), 0
    try:
        with (unpacked if path.suffix == ".gz" else open)(path, "rb") as opened:
            opened.readline()
            for line in opened:
                told.update(line)
                count += 1
                yield bytes(line)
    except (OSError, EOFError) as error:
        raise errors.InputError(f"{path}: {error}") from None
    if (told.hexdigest(), count) != (head.sha256, head.examples):
        raise errors.InputError(f"{path} is damaged: it is not as shard {head.shard} was written. Do that shard again")
