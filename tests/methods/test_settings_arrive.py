"""What a method is given as settings is what its objective computes with, each of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from support.refusals import refused

from trueup.batch.rows import LogProbs, Pairs, PairsWithTarget, Points, Rankings, Rollouts
from trueup.methods import METHODS
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.loss import Loss
from trueup.objectives.ppo import ppo
from trueup.objectives.reinforce import reinforce
from trueup.objectives.rrhf import rrhf, rrhf_padded
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.unlikelihood import unlikelihood, unlikelihood_ascent

Objective = Callable[..., Loss]

LENGTH_N, PROMPT_N = torch.tensor([2, 1, 3]), torch.tensor([4, 4, 4])
VALUE_S, ENTROPY_S = torch.tensor([0.4, -0.3, 1.0, 0.2, 0.6, -0.5]), torch.linspace(0.5, 1.0, 6)
POLICY = LogProbs(torch.tensor([-1.0, -0.2, -2.0, -0.7, -0.1, -0.4]), LENGTH_N, PROMPT_N, VALUE_S, ENTROPY_S)
REFERENCE = LogProbs(torch.tensor([-1.3, -0.9, -1.0, -0.6, -0.5, -0.2]), LENGTH_N, PROMPT_N)
PAIRS = Pairs(torch.tensor([0, 2]), torch.tensor([1, 1]), torch.tensor([1.0, 0.8]))
INDEXES: dict[type, Any] = {
    Pairs: PAIRS,
    PairsWithTarget: PairsWithTarget(PAIRS, torch.tensor([2, 2])),
    Points: Points(torch.tensor([1.0, 0.0, 0.3]), torch.tensor([False, False, False])),
    Rankings: Rankings(torch.tensor([1.0, 0.0, -1.0]), torch.zeros(3, dtype=torch.int64), 1),
    Rollouts: Rollouts(
        torch.tensor([-1.3, -0.1, -2.4, -0.7, -0.5, -0.1]), torch.tensor([1.0, -1.0, 2.0, 0.5, -0.3, 1.2]),
        torch.tensor([1.0, -1.0, 0.5, 0.1, 0.0, 2.0]), torch.tensor([0.0, 0.1, 0.2, -0.4, 0.9, 0.3]),
    ),
}  # fmt: skip

CASES: list[tuple[str, dict[str, Any], Objective, type]] = [
    ("dpo", {}, partial(dpo, beta=0.1), Pairs),
    ("dpo", {"beta": 0.3, "label_smoothing": 0.2}, partial(dpo, beta=0.3, label_smoothing=0.2), Pairs),
    ("robust-dpo", {}, partial(robust_dpo, beta=0.1, label_smoothing=0.1), Pairs),
    ("robust-dpo", {"beta": 0.3, "label_smoothing": 0.2}, partial(robust_dpo, beta=0.3, label_smoothing=0.2),
     Pairs),
    ("ipo", {}, partial(ipo, beta=0.1, per_token=False), Pairs),
    ("ipo", {"beta": 0.3, "per_token": True}, partial(ipo, beta=0.3, per_token=True), Pairs),
    ("tr-ipo", {}, partial(ipo, beta=0.05, per_token=False), Pairs),
    ("tr-ipo", {"beta": 0.3, "per_token": True}, partial(ipo, beta=0.3, per_token=True), Pairs),
    ("slic", {}, partial(slic, beta=0.05), Pairs),
    ("slic", {"beta": 0.3}, partial(slic, beta=0.3), Pairs),
    ("slic-hf", {}, partial(slic_hf, margin=1.0, regularization=0.1), PairsWithTarget),
    ("slic-hf", {"margin": 2.0, "regularization": 0.5}, partial(slic_hf, margin=2.0, regularization=0.5),
     PairsWithTarget),
    ("unlikelihood", {}, partial(unlikelihood, weight=1.0), Points),
    ("unlikelihood", {"weight": 2.0}, partial(unlikelihood, weight=2.0), Points),
    ("unlikelihood", {"weight": 2.0, "ascent": True}, partial(unlikelihood_ascent, weight=2.0), Points),
    ("rrhf", {}, partial(rrhf, rank_weight=1.0, sft_weight=1.0), Rankings),
    ("rrhf", {"rank_weight": 2.0, "sft_weight": 0.5, "normalize": "padded"},
     partial(rrhf_padded, rank_weight=2.0, sft_weight=0.5), Rankings),
    ("ppo", {}, partial(ppo, clip=0.2, value_clip=0.2, value_weight=1.0), Rollouts),
    ("ppo", {"clip": 0.25}, partial(ppo, clip=0.25), Rollouts),
    ("ppo", {"value_clip": 0.35}, partial(ppo, value_clip=0.35), Rollouts),
    ("ppo", {"value_weight": 0.6}, partial(ppo, value_weight=0.6), Rollouts),
    ("ppo", {"entropy_coef": 0.2}, partial(ppo, entropy_coef=0.2), Rollouts),
    ("reinforce", {}, partial(reinforce, value_weight=0.1), Rollouts),
    ("reinforce", {"value_weight": 0.6}, partial(reinforce, value_weight=0.6), Rollouts),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "expected", "kind"),
    CASES,
    ids=lambda value: getattr(value, "__name__", str(value))[:40].partition(" at 0x")[0],
)
def test_a_setting_arrives(name: str, settings: dict[str, Any], expected: Objective, kind: type) -> None:
    objective: Any = METHODS[name].build(**settings).objective
    index = INDEXES[kind]
    given, wanted = objective(POLICY, REFERENCE, index), expected(POLICY, REFERENCE, index)
    assert torch.equal(given.per_example, wanted.per_example)
    assert given.metrics.keys() == wanted.metrics.keys()


def test_every_setting_makes_a_difference() -> None:
    """Two cases of one method never give the same loss, or the test above could not tell them apart."""
    found = [(name, tuple(expected(POLICY, REFERENCE, INDEXES[kind]).per_example.tolist()))
             for name, _, expected, kind in CASES]  # fmt: skip
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("threshold", [0.5, -1.0, 1e-9])
def test_a_threshold_beside_the_best_of_n_is_refused(threshold: float) -> None:
    """The best is kept whatever its reward, so that a threshold would say nothing."""
    with refused(rf"^threshold {threshold:g} with best_of_n true: .* one of them out$"):
        METHODS["fa"].build(best_of_n=True, threshold=threshold)
    assert METHODS["fa"].build(best_of_n=True, threshold=0.0).settings["best_of_n"] is True
    assert METHODS["fa"].build(threshold=threshold).settings["threshold"] == threshold
