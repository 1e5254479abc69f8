"""The log of an online run, trained on again: the same rounds in the same order, nothing sampled, nobody asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trueup.errors import InputError
from trueup.feedback.prompts import of_examples
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.sources.log import read_log
from trueup.sources.rounds import Rounds
from trueup.training.supply.gathering import asked
from trueup.training.supply.held_out import held_out_groups
from trueup.training.supply.online import check_turns, rounds_source
from trueup.training.supply.supply import Context, Supplied
from trueup.training.supply.written_by import departures


class Replay:
    """Reads the log.

    Raises:
        InputError: it cannot be read, is not a log, or is one of several files.
    """

    def __init__(self, settings: RunSettings, method: Method[Any, Any, Any]) -> None:
        check_turns(settings)
        if len(settings.data) > 1:
            raise InputError(
                f"source replay reads one log, but data names {len(settings.data)} files; give one examples.jsonl"
            )
        (path,) = settings.data
        self.log = read_log(path)
        self.held_out, more, lines = held_out_groups(settings, method)
        there = max(self.log.rounds)
        self.lines: Sequence[str] = (
            f"{path}: {sum(map(len, self.log.rounds.values()))} examples in {len(self.log.rounds)} of "
            f"{self.log.count} rounds",
            *lines,
        )
        self.warnings: Sequence[str] = departures(Path(path), settings, method)
        if there < self.log.count - 1:
            self.warnings = (
                *self.warnings,
                f"{path} ends with round {there} of {self.log.count}: the run that wrote it was not finished, and the "
                "steps of the rounds that are missing learn nothing",
            )
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.fingerprints: Mapping[str, str] = {path: digest, **more}

    def supply(self, context: Context) -> Supplied:
        settings, log = context.settings, self.log
        size = log.prompts.get(1) or max(log.prompts.values())
        last = log.prompts.get(log.count, size)
        total = (log.count - 1) * size + last
        rounds = Rounds(
            total, settings.batch_size, size, settings.round_passes, total, settings.seed, settings.steps
        )
        first = of_examples(example for number in sorted(log.rounds) for example in log.rounds[number])
        _, known, _ = asked(first, context.encoder())
        source = rounds_source(context, rounds, log, (), None, known, self.held_out)
        return Supplied(source, (), context.loaded.condition)
