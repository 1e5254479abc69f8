"""What a run's folder tells, however far the run came: whatever cannot be read is left out, and said."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trueup import errors, metrics, words
from trueup.annotators.template import answered
from trueup.config.resolve import read_run
from trueup.endpoints.key import redact
from trueup.feedback import canonical, records
from trueup.report.charts import Point
from trueup.sources.log import EXAMPLES, ROUNDS, metrics_of_rounds

EVALUATION, RESPONSES, METRICS = "evaluation.json", "responses.jsonl", "metrics.jsonl"
HELD_OUT = "eval_"
HUGE = 1e200
"""What is not below it is no figure: infinities, and what is not a number."""
MOST_BYTES = 32 * 2**20
"""Of a file of samples: of a larger one the end is read."""
MOST_ROWS = 300
"""Of a file of samples: the first ones and the last."""
FIRST_ROWS = 60
LONGEST_TEXT = 2000
WEIGHTS = re.compile(r"([\d,]+) of ([\d,]+) weights trained")
FEEDBACK = re.compile(r"\d+ examples (gave|of)\b|: votes of |: .*\b(discarded|left out|too long)\b")
LIVE = ("frozen", "adapter-off", "trust-region")


@dataclass(frozen=True, slots=True)
class Sample:
    where: str
    order: int
    prompt: str
    response: str
    source: str
    score: float | None
    preferred: float | None
    """How often it was preferred, of the times that it was compared."""
    words: int
    evaluated: bool = False
    """Whether an evaluation has it, which asked several models."""


class RunData:
    def __init__(self, folder: Path, status: Mapping[str, Any]) -> None:
        self.folder, self.status, self.record = folder, status, read_run(folder)
        self.settings: dict[str, Any] = self.record["settings"]
        self.method = str(self.record["method"])
        self.name = str(self.settings.get("run_name") or folder.resolve().name)
        self.problems: list[str] = []
        lost: list[int] = []
        file = folder / METRICS
        self.lines: list[dict[str, Any]] = self._try(METRICS, lambda: metrics.read_lines(file, lost)) or []
        if lost:
            self.problems.append(f"{METRICS}: what cannot be read is left out: {words.numbered(lost, 'line')}")
        self.rounds: list[dict[str, Any]] = self._try(ROUNDS, lambda: metrics_of_rounds(folder)) or []
        self.calibration = self._json(folder / "calibration.json")
        places = [folder / EVALUATION, *sorted(folder.glob(f"*/{EVALUATION}"))]
        self.evaluations = {path: found for path in places if (found := self._json(path))}
        said = self._try("run.log", lambda: (folder / "run.log").read_text("utf-8", "replace")) or ""
        self.log: list[str] = redact(said).splitlines()
        self.last: int = max((line["step"] for line in self.lines), default=0)
        self._columns: dict[str, list[Point]] = {}
        for line in self.lines:
            for name, value in line.items():
                if isinstance(value, int | float) and -HUGE < value < HUGE and name != "step":
                    at = max(line["step"] - (not name.startswith(HELD_OUT)), 0)
                    self._columns.setdefault(name, []).append((at, float(value) + 0.0))
        self.names = list(self._columns)

    @property
    def done(self) -> bool:
        return self.status.get("state") == "done"

    def points(self, name: str) -> list[Point]:
        return self._columns.get(name, [])

    def total(self, name: str) -> float:
        """Sum over all steps of what is logged every so many of them."""
        values = [value for _, value in self.points(name)]
        return sum(values) * self.last / max(1, len(values))

    def summed(self, prefix: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for one_round in self.rounds:
            for name, value in one_round.items():
                if name.startswith(prefix) and isinstance(value, int | float):
                    found[name[len(prefix) :]] = found.get(name[len(prefix) :], 0.0) + value
        return found

    @property
    def flops(self) -> float | None:
        """Of training and sampling, by weights and tokens: 2 N forward, 2 N backward, 2 a trained weight and token."""
        found = [match for line in self.log if (match := WEIGHTS.search(line))]
        if not found or not self.total("tokens"):
            return None
        trained, size = (int(one.replace(",", "")) for one in found[0].groups())
        kind = (self.record["method_settings"].get("reference") or {}).get("kind")
        sampled = sum(one.get("online/responses", 0) * one.get("online/tokens", 0) for one in self.rounds)
        step = 4 * size + 2 * trained + (2 * size if kind in LIVE else 0)
        return float(step * self.total("tokens") + 2 * size * sampled)

    @property
    def feedback(self) -> list[str]:
        told = [line.partition(" INFO ")[2] for line in self.log]
        return list(dict.fromkeys(words.spelled(line) for line in told if FEEDBACK.search(line)))

    def config(self) -> str:
        return redact(yaml.safe_dump(known(self.record), sort_keys=False, allow_unicode=True))

    def examples(self, path: Path, most: int = MOST_ROWS) -> list[tuple[Mapping[str, Any], records.Example]]:
        """Rows of a file of samples, the first and the last ones, those that can be read."""
        rows, found = self._try(path.name, lambda: _rows(path)) or [], []
        kept = [*rows[:FIRST_ROWS], *rows[FIRST_ROWS:][FIRST_ROWS - most :]]
        for number, text in enumerate(kept, start=1):
            with suppress(ValueError, TypeError, AttributeError, RecursionError, errors.TrueupError):
                row = json.loads(text)
                found.append((row, canonical.example_from_row(row, records.Origin(str(path), number))))
        if bad := len(kept) - len(found):
            self.problems.append(f"{path.name}: {words.counted(bad, 'row')} cannot be read and are left out")
        return found

    @property
    def sample_files(self) -> list[Path]:
        beside = [path.with_name(RESPONSES) for path in self.evaluations]
        not_samples = {self.folder / one for one in (METRICS, ROUNDS, RESPONSES)}
        return [*filter(Path.is_file, beside), *sorted({*self.folder.glob("*.jsonl")} - not_samples)]

    def samples(self) -> list[Sample]:
        every = ((path, *one) for path in self.sample_files for one in self.examples(path))
        return [one for told in every for one in samples_of(*told)]

    def _json(self, path: Path) -> dict[str, Any] | None:
        found = self._try(path.name, lambda: json.loads(path.read_text(encoding="utf-8")))
        return found if isinstance(found, dict) else None

    def _try(self, name: str, read: Any) -> Any:
        try:
            return read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, errors.TrueupError) as error:
            self.problems.append(f"{name} cannot be read and is left out: {words.one_line(error)}")
            return None


def known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: known(one) for key, one in value.items() if one not in (None, [], {}, "")}
    return value


def _rows(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - MOST_BYTES))
        lines = file.read().split(b"\n")
    return [line for line in lines[size > MOST_BYTES :] if line.strip()]


def samples_of(path: Path, row: Mapping[str, Any], example: records.Example) -> Iterator[Sample]:
    place, where = row.get("round"), "evaluation" if path.name == RESPONSES else path.stem
    number = place.get("number") if isinstance(place, Mapping) else row.get("step")
    order = number if isinstance(number, int) else 0
    if isinstance(number, int):
        where = f"{'round' if path.name == EXAMPLES else 'step'} {number}"
    prompt = text_of(example.prompt.content)
    for at, said in enumerate(example.responses):
        wins = [one.probability for one in example.comparisons if one.better == at]
        wins += [1 - one.probability for one in example.comparisons if one.worse == at]
        text = text_of(said.content)
        yield Sample(
            where, order, prompt, text, said.source or "", said.score,
            sum(wins) / len(wins) if wins else None, len(text.split()), path.name == RESPONSES,
        )  # fmt: skip


def text_of(content: records.Content) -> str:
    """A prompt or a response as a page shows it: nothing that steers or hides, no secret, cut where it is long."""
    text = words.spelled(redact(answered(content)))
    more = len(text) - LONGEST_TEXT
    return text if more <= 0 else f"{text[:LONGEST_TEXT]} ... ({more:,} more characters)"
