"""Our objectives against the papers' formulas, which are plain loops (formulas.py)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from parity.formula_cases import (
    BATCHES,
    FORMULAS,
    OURS,
    batches_of,
    both,
    classes,
    double,
    gradient,
    log_probs,
    one_is_shown,
    pairs_of,
    rankings_of,
    reduced,
)
from parity.formulas import Answer, Batch
from parity.formulas import unlikelihood as unlikelihood_formula

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import log_ratios
from trueup.objectives.paired_kto import pair_log_ratios
from trueup.objectives.rrhf import rrhf, rrhf_padded
from trueup.objectives.ulma import ulma
from trueup.objectives.unlikelihood import unlikelihood, unlikelihood_ascent

CASES = [
    pytest.param(
        kind, formula, settings, id="-".join([formula.__name__, *(f"{k}={v}" for k, v in settings.items())])
    )
    for kind, (_, cases) in FORMULAS.items()
    for formula, settings in cases
]


@pytest.mark.parametrize(("kind", "formula", "settings"), CASES)
def test_equals_its_formula(kind: str, formula: Callable[..., Answer], settings: dict[str, Any]) -> None:
    """Each example's loss, the step's, and its gradient in every token, on twenty random batches."""
    for batch in batches_of(kind):
        losses, wanted = formula(batch, **settings)
        policy, reference = both(batch)
        policy.token_S.requires_grad_()
        loss = OURS[formula.__name__](policy, reference, batch, **settings)
        if losses is not None:
            assert loss.per_example.tolist() == pytest.approx(losses, rel=1e-9, abs=1e-9)
        step = reduced(loss)
        assert step.item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        expected = gradient(lambda given: formula(given, **settings)[1], batch)
        found = torch.autograd.grad(step, policy.token_S)[0]
        assert found.tolist() == pytest.approx([one for row in expected for one in row], rel=1e-7, abs=1e-7)


def test_every_formula_is_compared() -> None:
    assert {formula.__name__ for _, cases in FORMULAS.values() for formula, _ in cases} == set(OURS)


def test_the_batches_reach_what_is_to_be_compared() -> None:
    """Unsure pairs and rows in several of them, estimates clamped and not, empty classes, equal scores."""
    pairs, points = batches_of("pairs"), batches_of("points")
    assert {probability == 1 for batch in pairs for *_, probability in batch["pairs"]} == {True, False}
    stand = [[row for pair in batch["pairs"] for row in pair[:2]] for batch in pairs]
    assert any(len(set(rows)) < len(rows) for rows in stand)
    means = [pair_log_ratios(*both(batch), pairs_of(batch)).mean(0).sign().int().tolist() for batch in pairs]
    assert {tuple(each) for each in means} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    estimates = [
        log_ratios(*(log_probs(batch, column, "mismatched") for column in ("policy", "reference"))).mean()
        for batch in points
    ]
    assert min(estimates) < 0 < max(estimates)
    labels = [set(batch["labels"]) for batch in points]
    assert {1.0} in labels
    assert any(1.0 not in given for given in labels)
    assert any(given - {0.0, 1.0} for given in labels)
    ranked = batches_of("rankings")
    tied = [[batch["scores"][row] for row in group] for batch in ranked for group in batch["groups"]]
    assert any(len(set(scores)) < len(scores) for scores in tied)


# Where we differ on purpose: ours is not the authors' number, and is after the correction that is stated.


def outputs_of(kind: str, name: str, **settings: Any) -> list[tuple[Batch, float]]:
    """(batch, step loss) of a formula."""
    return [
        (batch, formula(batch, **given)[1])
        for formula, given in FORMULAS[kind][1]
        if formula.__name__ == name and settings.items() <= given.items()
        for batch in batches_of(kind)
    ]


def test_ulma_divides_by_all_examples() -> None:
    """The authors add two group means. Weighed N / (size of its group), each of our losses gives that."""
    differs = 0
    for batch, expected in outputs_of("points", "ulma_of_authors", continuous=False):
        policy, reference = both(batch)
        points = one_is_shown(batch, graded=False)
        loss = ulma(policy, reference, points, beta=0.1, per_token=True)
        ones, others = classes(batch)
        size_N = torch.where(points.demonstration_N, ones, others)
        corrected = (loss.per_example / size_N).sum().item()
        assert corrected == pytest.approx(expected, rel=1e-9)
        differs += reduced(loss).item() != pytest.approx(expected, rel=1e-3)
        # With one class only, there is one mean.
        assert (min(ones, others) == 0) == (reduced(loss).item() == pytest.approx(expected, rel=1e-9))
    assert differs > BATCHES / 2


def test_unlikelihood_ascent_divides_by_all_examples() -> None:
    """Corrected in `class_means`, where it equals the authors'."""
    differs = 0
    for batch, expected in outputs_of("points", "unlikelihood_of_authors"):
        points = one_is_shown(batch, graded=False)
        ours = reduced(unlikelihood_ascent(both(batch)[0], None, points)).item()
        differs += ours != pytest.approx(expected, rel=1e-3)
    assert differs > BATCHES / 2


def test_ipo_sums_over_tokens_unless_asked() -> None:
    """Per token it is the other; of responses of one token each both are the same."""
    for batch, expected in outputs_of("pairs", "ipo", per_token=True):
        policy, reference = both(batch)
        ours = reduced(ipo(policy, reference, pairs_of(batch), beta=0.5)).item()
        alone = all(len(batch["rows"][row]["policy"]) == 1 for pair in batch["pairs"] for row in pair[:2])
        assert (ours == pytest.approx(expected, rel=1e-9)) == alone
        one_N = torch.ones_like(policy.length_N)
        averaged = LogProbs(policy.mean, one_N), LogProbs(reference.mean, one_N)
        assert reduced(ipo(*averaged, pairs_of(batch), beta=0.5)).item() == pytest.approx(expected, rel=1e-9)


def test_rrhf_ranks_per_token_unless_padded() -> None:
    """With equal lengths, padding scales the margins of a group by |y| / L: the weights take that back."""
    differs = 0
    for batch, expected in outputs_of("rankings", "rrhf_of_authors", rank_weight=1.0):
        ours = rrhf(both(batch)[0], None, rankings_of(batch))
        differs += reduced(ours).item() != pytest.approx(expected, rel=1e-3)
    assert differs == BATCHES
    row = {"policy": [-1.0, -2.0], "reference": [-1.0, -1.0]}
    level = {"policy": [-1.5, -0.5], "reference": [-1.0, -1.0]}
    batch = {"rows": [row, level], "groups": [[0, 1]], "scores": [1.0, 0.0], "prompts": [3]}
    policy, rankings = log_probs(batch, "policy"), rankings_of(batch)
    of_authors = reduced(rrhf_padded(policy, None, rankings)).item()
    assert of_authors != pytest.approx(reduced(rrhf(policy, None, rankings)).item())
    corrected = rrhf(policy, None, rankings, rank_weight=2 / 5, sft_weight=1 / 5)
    assert reduced(corrected).item() == pytest.approx(of_authors)


@pytest.mark.parametrize("beyond", [0.0, -1e-12, -(2.0**-21)])
def test_unlikelihood_goes_on_along_its_tangent_next_to_certainty(beyond: float) -> None:
    """Nearer than 2^-20 to a probability of 1 the formula runs off; ours is its tangent at that border."""
    border = -(2.0**-20)
    batch: Batch = {"rows": [{"policy": [border]}], "labels": [0.0]}
    (value,), _ = unlikelihood_formula(batch, weight=1.0)
    points = Points(double([0.0]), torch.tensor([False]))
    at = partial(unlikelihood, reference=None, points=points)

    def ours(token: float) -> float:
        return at(LogProbs(double([token]), torch.tensor([1]))).per_example.item()

    assert ours(border) == pytest.approx(value, rel=1e-9)
    slope = math.exp(border) / (1 - math.exp(border))
    assert ours(beyond) == pytest.approx(value + slope * (beyond - border), rel=1e-9)
    if beyond:
        (runaway,), _ = unlikelihood_formula({"rows": [{"policy": [beyond]}], "labels": [0.0]}, weight=1.0)
        assert ours(beyond) != pytest.approx(runaway, rel=1e-3)
