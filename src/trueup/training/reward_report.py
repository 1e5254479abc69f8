"""What a reward model that was just trained says: level and spread of its scores, how right and how sure they are."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev
from typing import Any

import torch

from trueup.annotators.calibration import Calibration, Estimate, calibrate
from trueup.batch.batch import Batch
from trueup.batch.index import GradedPairs
from trueup.batch.logprobs import Scores
from trueup.models.causal import StreamModel
from trueup.training.loop import Run

logger = logging.getLogger(__name__)

REWARD = "reward.json"
"""Beside the weights: mean and standard deviation of the scores. Nothing reads it unasked."""
MOST_BATCHES = 64
"""Micro-batches of training pairs that scores are measured on where nothing was held out."""


@dataclass(frozen=True, slots=True)
class RewardReport:
    """Of one run."""

    held_out: bool
    """Whether it was measured on held-out pairs; otherwise on training pairs, which say little of others."""
    mean: float
    std: float
    responses: int
    """Scores that mean and standard deviation are taken over."""
    calibration: Calibration

    def as_json(self) -> dict[str, Any]:
        """What reward.json holds."""
        return {
            "measured_on": "held-out" if self.held_out else "training",
            "mean": self.mean,
            "std": self.std,
            "responses": self.responses,
            "pairs": self.calibration.pairs,
            "accuracy": self.calibration.accuracy.value,
        }

    @property
    def files(self) -> Mapping[str, str]:
        """What is kept beside the weights, by name."""
        return {REWARD: json.dumps(self.as_json(), indent=2) + "\n"}

    def lines(self) -> list[str]:
        """For people."""
        where = "held-out" if self.held_out else "training"
        found = self.calibration
        lines = [
            f"scores of {self.responses} responses to {where} prompts: mean {self.mean:.4g}, standard deviation "
            f"{self.std:.4g}",
            f"accuracy on {found.pairs} {where} pairs: {_shown(found.accuracy)}",
        ]
        if self.held_out:
            lines.append(
                f"Brier score {_shown(found.brier)}, expected calibration error "
                f"{_shown(found.expected_calibration_error)}"
            )
        return lines

    def markdown(self) -> str:
        """The section of the model card."""
        text = "".join(f"- {line}\n" for line in self.lines())
        if not self.held_out:
            return text
        table = "\n| sure | pairs | said | seen | standard error of seen |\n|---|---|---|---|---|\n"
        for one in self.calibration.bins:
            numbers = f"{one.pairs} | {one.said:.3f} | {one.seen:.3f} | {_error(one.error)}"
            table += f"| {one.low:.2f} to {one.high:.2f} | {numbers} |\n"
        return text + table


def reward_report(run: Run) -> RewardReport:
    """Measure the finished model on everything held out, or on some of the training pairs where nothing is.

    What held-out pairs say of it is written to the run's calibration.json.

    Raises:
        CheckpointError: the file cannot be written.
    """
    held_out = run.source.has_held_out
    every = run.source.held_out().batches if held_out else run.source.everything() or ()
    found = measure(run.policy, every if held_out else islice(every, MOST_BATCHES), held_out=held_out)
    if held_out:
        run.folder.write_calibration(found.calibration.as_json())
    for line in found.lines():
        logger.info(line)
    return found


@torch.no_grad()
def measure(policy: StreamModel, batches: Iterable[Batch[Any]], *, held_out: bool) -> RewardReport:
    """Score batches of pairs."""
    scores: list[float] = []
    apart: list[float] = []
    probabilities: list[float] = []
    prompts: list[int] = []
    known: dict[bytes, int] = {}
    with policy.without_dropout():
        for batch in batches:
            batch = batch.to(policy.device)
            outputs = policy.outputs(batch.stream)
            assert isinstance(outputs, Scores) and isinstance(batch.index, GradedPairs)
            score_N, pairs = outputs.score_N.double(), batch.index.pairs
            scores += score_N.tolist()
            apart += (score_N[pairs.chosen_P] - score_N[pairs.rejected_P]).tolist()
            probabilities += pairs.probability_P.tolist()
            prompt_N = [
                known.setdefault(group.prompt.tobytes(), len(known))
                for group in batch.groups
                for _ in group.responses
            ]
            prompts += [prompt_N[row] for row in pairs.chosen_P.tolist()]
    calibration = calibrate(apart, probabilities, prompts)
    return RewardReport(held_out, fmean(scores), stdev(scores), len(scores), calibration)


def _shown(estimate: Estimate) -> str:
    error = "" if math.isnan(estimate.error) else f" (standard error {estimate.error:.3f})"
    return f"{estimate.value:.3f}{error}"


def _error(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3f}"
