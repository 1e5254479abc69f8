"""examples.jsonl and rounds.jsonl: what online feedback gathered, written whole, round by round.

    examples.jsonl    canonical records, each with the number of its round
    rounds.jsonl      one line a round, written once its examples are safely on disk

What no line of rounds.jsonl vouches for, as a process that was killed may leave it, is cut off when a run goes on.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup import errors, files, words
from trueup.feedback import canonical, records
from trueup.parallel.processes import owned, owns

EXAMPLES = "examples.jsonl"
ROUNDS = "rounds.jsonl"
KEY = "round"
RESTORE = "Restore the folder from a backup, or begin a new run"


@dataclass(frozen=True, slots=True)
class GatheredRound:
    examples: tuple[records.Example, ...]
    metrics: Mapping[str, Any]  # metrics of the round, and what the next one has to know; JSON-ready


class RoundLog:
    """The rounds that a run gathers, in memory and in its folder. CheckpointError: its files are damaged."""

    last = math.inf  # anything can come of further rounds, as long as the run goes on

    def __init__(self, folder: Path) -> None:
        self.examples, self.index = folder / EXAMPLES, folder / ROUNDS
        self._examples, self._index = files.Journal(self.examples), files.Journal(self.index)
        self.rounds: dict[int, GatheredRound] = {}
        self._rows = 0
        self._recover()

    def known(self, number: int) -> GatheredRound | None:
        """A round, from 1; None where it is to be gathered."""
        return self.rounds.get(number)

    def add(
        self, number: int, of: int, prompts: int, examples: Sequence[records.Example],
        metrics: Mapping[str, Any],
    ) -> GatheredRound:  # fmt: skip
        """Write round `number` of `of`, counted from 1; it is there whole or not at all."""
        assert number not in self.rounds
        place = {"number": number, "of": of, "prompts": prompts}
        made = (canonical.example_to_row(one) | {KEY: place} for one in examples)
        rows = [json.dumps(row, ensure_ascii=False).encode() for row in made]
        told = {"round": number, "rows": len(rows), "facts": dict(metrics)}
        line = json.dumps({**told, "sha256": _digest(rows, told)})
        owned(lambda: self._append(rows, line))
        self.rounds[number] = GatheredRound(self._read(rows), json.loads(line)["facts"])
        return self.rounds[number]

    def _append(self, rows: Sequence[bytes], line: str) -> None:
        with files.of_run(self.examples, "what was gathered"):
            size = self._examples.size
            self._examples.append(*rows)
            try:
                self._index.append(line.encode())
            except OSError:
                with suppress(OSError):  # what stays is cut off when the run goes on
                    self._examples.cut(size)
                raise

    def check_has(self, last: int) -> None:
        if missing := [number for number in range(1, last + 1) if number not in self.rounds]:
            raise errors.CheckpointError(
                f"{self.index} does not tell of round {missing[0]}, but the run has trained on {last} rounds. {RESTORE}"
            )

    def _recover(self) -> None:
        told, rows = _lines(self._index), _lines(self._examples)
        done = 0
        for place, line in enumerate(told, start=1):
            number, count, metrics, digest = self._told(place, line)
            own = rows[done : done + count]
            if len(own) < count:
                raise errors.CheckpointError(
                    f"{self.examples} holds {len(rows)} examples; {self.index.name} tells of {done + count}. {RESTORE}"
                )
            examples = self._read(own)
            if _digest(own, {"round": number, "rows": count, "facts": metrics}) != digest:
                raise errors.CheckpointError(
                    f"{self.examples}: lines {done + 1} to {done + count}, or line {place} of {self.index.name}, are "
                    f"not as round {number} wrote them, though they can be read. {RESTORE}"
                )
            self.rounds[number] = GatheredRound(examples, metrics)
            done += count
        # no more is cut off than the one round that can be under way when a process is killed
        numbers = {which for row in rows[done:] if (which := _number_of(row)) is not None}
        if len(numbers) > 1 or numbers & set(self.rounds):
            raise errors.CheckpointError(
                f"{self.examples} holds examples from line {done + 1} on that {self.index.name} does not tell of. "
                f"{RESTORE}"
            )
        _keep(self._index, told)
        _keep(self._examples, rows[:done])

    def _told(self, place: int, line: bytes) -> tuple[int, int, Mapping[str, Any], str]:
        """Number, rows, metrics and digest of a round out of a line of rounds.jsonl."""
        try:
            told = json.loads(line.decode())
            number, count, metrics, digest = (told[name] for name in ("round", "rows", "facts", "sha256"))
            if type(number) is type(count) is int and isinstance(metrics, dict) and number not in self.rounds:
                return number, count, metrics, str(digest)
            raise ValueError("it tells of no round, or of one twice")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise errors.CheckpointError(f"{self.index}:{place} is damaged: {_said(error)}. {RESTORE}") from error

    def _read(self, rows: Sequence[bytes]) -> tuple[records.Example, ...]:
        made = []
        for row in rows:
            self._rows += 1
            try:
                origin = records.Origin(EXAMPLES, self._rows)
                made.append(canonical.example_from_row(json.loads(row.decode()), origin))
            except (ValueError, TypeError, RecursionError, errors.InputError) as error:
                raise errors.CheckpointError(
                    f"{self.examples}:{self._rows} is damaged: {_said(error)}. {RESTORE}"
                ) from error
        return tuple(made)


@dataclass(frozen=True, slots=True)
class ReplayedLog:
    """The rounds of a run that is over: nothing is gathered, and a round of which nothing is there gave nothing."""

    rounds: Mapping[int, tuple[records.Example, ...]]  # by number, from 1; a round of which nothing came is left out
    count: int
    prompts: Mapping[int, int]  # prompts asked in each of `rounds`

    @property
    def last(self) -> int:
        return max(self.rounds)

    def known(self, number: int) -> GatheredRound:
        return GatheredRound(self.rounds.get(number, ()), {})

    def check_has(self, last: int) -> None:
        """Nothing is missing here."""


Log = RoundLog | ReplayedLog


def read_log(path: str) -> ReplayedLog:
    rounds: dict[int, list[records.Example]] = {}
    prompts: dict[int, int] = {}
    count = 0
    for number, line in enumerate(_lines(files.Journal(Path(path))), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
            place = row[KEY]
            which, count, size = (int(place[key]) for key in ("number", "of", "prompts"))
            if not (1 <= which <= count and size >= 1):
                raise ValueError
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            raise errors.InputError(
                f"{path}:{number}: no round stands there, so it is not the log of an online run. Give its {EXAMPLES}, "
                "or train on the file with --source offline"
            ) from None
        prompts[which] = size
        rounds.setdefault(which, []).append(canonical.example_from_row(row, records.Origin(EXAMPLES, number)))
    if not rounds:
        raise errors.InputError(f"{path} holds no examples; give an online run's {EXAMPLES}")
    return ReplayedLog({which: tuple(made) for which, made in rounds.items()}, count, prompts)


def metrics_of_rounds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["facts"] for line in _lines(files.Journal(folder / ROUNDS))]


def _lines(journal: files.Journal) -> list[bytes]:
    try:
        return journal.read()[0]
    except OSError as error:
        raise errors.CheckpointError(f"{journal.path}: cannot be read: {words.reason(error)}") from error


def _keep(journal: files.Journal, lines: Sequence[bytes]) -> None:
    with files.of_run(journal.path):
        if owns():
            journal.keep(lines)


def _digest(rows: Sequence[bytes], told: Mapping[str, Any]) -> str:
    return hashlib.sha256(b"\n".join([*rows, json.dumps(told).encode()])).hexdigest()


def _number_of(row: bytes) -> int | None:
    try:
        return int(json.loads(row.decode())[KEY]["number"])
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return None


def _said(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
