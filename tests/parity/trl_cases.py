"""What freeze_trl.py froze, as our types, and which of our objectives each of TRL's losses is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from parity.frozen import FOLDER, read_cases
from torch import Tensor

from trueup.batch.index import Demonstrations, Pairs, Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.loss import Loss
from trueup.objectives.sft import sft
from trueup.objectives.slic import slic

FROZEN = read_cases(FOLDER / "trl.json")
CLOSE = dict(rel=1e-5, abs=1e-6)
"""TRL computed in float32."""
Rows = Sequence[dict[str, Any]]


def sft_of_chosen(policy: LogProbs, reference: LogProbs, pairs: Pairs) -> Loss:
    """TRL's `sft` beside pairs: the tokens of the chosen responses, which are the first rows here and there."""
    tokens = int(policy.length_N[: len(pairs.chosen_P)].sum())
    chosen = LogProbs(policy.token_S[:tokens], policy.length_N[: len(pairs.chosen_P)])
    return sft(chosen, None, Demonstrations())


OF_PAIRS: dict[tuple[str, float], Callable[[LogProbs, LogProbs, Pairs], Loss]] = {
    ("sigmoid", 0.0): partial(dpo, beta=0.1),
    # TRL's sigmoid does nothing with its label_smoothing.
    ("sigmoid", 0.1): partial(dpo, beta=0.1),
    ("robust", 0.1): partial(robust_dpo, beta=0.1, label_smoothing=0.1),
    ("ipo", 0.0): partial(ipo, beta=0.1, per_token=True),
    ("hinge", 0.0): partial(slic, beta=0.1),
    ("sft", 0.0): sft_of_chosen,
}
"""TRL's loss_type and label_smoothing -> ours."""


def of_pairs(settings: dict[str, Any]) -> Callable[[LogProbs, LogProbs, Pairs], Loss]:
    return OF_PAIRS[settings["loss_type"], settings.get("label_smoothing", 0.0)]


def cases(trainer: str) -> list[Any]:
    """(batch, case) of a trainer, named by batch and settings."""
    return [
        pytest.param(batch, case, id="-".join(map(str, [number, *case["settings"].values()])))
        for number, batch in enumerate(FROZEN[trainer])
        for case in batch["cases"]
    ]


def log_probs(rows: Rows, column: str) -> LogProbs:
    tokens = [token for row in rows for token in row[column]]
    lengths = [len(row[column]) for row in rows]
    return LogProbs(torch.tensor(tokens, dtype=torch.float64), torch.tensor(lengths))


def pairs_of(rows: Rows) -> Pairs:
    """TRL lays the chosen responses first and the rejected ones after them."""
    half = len(rows) // 2
    return Pairs(torch.arange(half), torch.arange(half) + half, torch.ones(half, dtype=torch.float64))


def points_of(batch: dict[str, Any]) -> Points:
    label_N = torch.tensor(batch["label"], dtype=torch.float64)
    return Points(label_N, torch.zeros_like(label_N, dtype=torch.bool))


def reduced(loss: Loss) -> Tensor:
    return loss.per_example.sum() / loss.weight.sum()
