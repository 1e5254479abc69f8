"""What an endpoint may be used for, and what was used, over all sittings of a run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from trueup import errors, files, words

BYTES_A_TOKEN = 3
"""Of a text in UTF-8, before the endpoint has said how many tokens it counts; ordinary English has more than four."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over requests: `Usage(1, 412, 1)` is one of 412 tokens and an answer of one."""

    requests: int = 0
    question_tokens: int = 0
    answer_tokens: int = 0
    cost: float = 0.0
    estimated: int = 0  # requests whose answer did not say how many tokens it took, so that they are estimates

    @property
    def tokens(self) -> int:
        return self.question_tokens + self.answer_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in asdict(self)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) - getattr(other, name) for name in asdict(self)))

    def __str__(self) -> str:
        cost = f" at a cost of {self.cost:.6g}" if self.cost else ""
        return f"{self.requests:,} requests and {self.tokens:,} tokens{cost}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one request may take, held until its answer says what it took."""

    size: int  # of the question, in bytes of UTF-8
    expected: Usage


class Budget:
    """Limits that are checked before a request is sent; several threads may share one.
    A request is reserved with an estimate: its question by its length, at the most tokens a byte that an answer has
    told of so far, and the longest answer it may get. What is used can pass a limit only by what an endpoint counts
    beyond that estimate, and then nothing more is asked. An answer out of the cache is no request."""

    def __init__(
        self, max_requests: int | None = None, max_tokens: int | None = None, max_cost: float | None = None,
        input_price: float | None = None, output_price: float | None = None, *, file: Path | None = None,
    ) -> None:  # fmt: skip
        """Limits on answered requests, on tokens and on cost, of which prices are a million tokens'.
        `file` keeps what was used, and what it says already counts. It is written after every request that was
        answered, so that a process that is killed forgets only what was under way."""
        self._limits = {"requests": max_requests, "tokens": max_tokens, "cost": max_cost}
        self.priced = input_price is not None and output_price is not None
        self._prices = (input_price or 0.0, output_price or 0.0)
        self._tokens_a_byte: float | None = None
        self._file = file
        self._used = _read(file) if file is not None and file.exists() else Usage()
        self._reserved = Usage()
        self._lock = Lock()

    @property
    def used(self) -> Usage:
        with self._lock:
            return self._used

    def reserve(self, question: str, answer_tokens: int) -> Reservation:
        """Hold what a request may take before it is sent; AnnotatorError where a limit would be passed."""
        size = len(question.encode("utf-8", "surrogatepass"))
        with self._lock:
            tokens = math.ceil(size * (self._tokens_a_byte or 1 / BYTES_A_TOKEN))
            reservation = Reservation(size, self._priced(Usage(1, tokens, answer_tokens)))
            after = self._used + self._reserved + reservation.expected
            for name, limit in self._limits.items():
                if limit is not None and getattr(after, name) > limit * (1 + 1e-9):
                    held = f", {self._reserved} are under way" if self._reserved.requests else ""
                    raise errors.AnnotatorError(
                        f"annotator.max_{name} {limit:g} does not allow for another request of about "
                        f"{reservation.expected.tokens:,} tokens: {self._used} are spent{held}. "
                        f"Give a larger annotator.max_{name} to go on"
                    )
            self._reserved += reservation.expected
        return reservation

    def settle(self, reservation: Reservation, usage: Usage | None) -> Usage:
        """Replace what was held by what the request took, its cost added; without `usage`, by its estimate."""
        with self._lock:
            self._reserved -= reservation.expected
            if usage is None:
                took = replace(reservation.expected, estimated=1)
            else:
                took = self._priced(usage)
                if reservation.size:
                    seen = usage.question_tokens / reservation.size
                    self._tokens_a_byte = max(seen, self._tokens_a_byte or 0.0) or None
            self._used += took
            if self._file is not None:
                _write(self._file, self._used)
        return took

    def release(self, reservation: Reservation) -> None:
        with self._lock:
            self._reserved -= reservation.expected

    def _priced(self, usage: Usage) -> Usage:
        question, answer = self._prices
        return replace(usage, cost=(usage.question_tokens * question + usage.answer_tokens * answer) / 1e6)


def keep_at_least(file: Path, known: Usage) -> None:
    """Have a file count no less than is known otherwise, as where it was removed; all as tokens of questions."""
    kept = _read(file) if file.exists() else Usage()
    if kept.requests >= known.requests:
        return
    words.logger.warning(
        f"{file} is gone or tells of {kept.requests:,} requests, but what was gathered took {known}, which counts"
    )
    _write(file, known)


def _write(file: Path, used: Usage) -> None:
    with files.of_run(file, "what the annotator took"), files.replaced_file(file) as raw:
        raw.write(json.dumps(asdict(used)).encode("ascii") + b"\n")


def _read(file: Path) -> Usage:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.CheckpointError(
            f"{file}: what the annotator has taken so far cannot be read: {error}. Restore the file from a backup; "
            "without it the limits of the annotator count from what the rounds tell of"
        ) from error
    names = tuple(asdict(Usage()))
    given: dict[str, Any] = {name: state.get(name) for name in names} if isinstance(state, dict) else {}
    sound = [type(one) in (int, float) and 0 <= one < math.inf for one in given.values()]
    if not given or not all(sound) or any(type(one) is float for name, one in given.items() if name != "cost"):
        raise errors.CheckpointError(
            f"{file}: what the annotator had spent is not a list of amounts ({', '.join(names)}); the run cannot keep "
            "to its limits. Restore the file from a backup; without it they count from what the rounds tell of"
        )
    return Usage(**given)
