"""Objectives that are given something measured over the whole step: values by hand, and exact gradients."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from trueup.batch.rows import LogProbs, Pairs, Points, Weighted
from trueup.feedback.records import PairRelation, PointRelation, WeightRelation
from trueup.objectives.kto import MISMATCHED, kto
from trueup.objectives.loss import Measurement, StepObjective
from trueup.objectives.paired_kto import pair_log_ratios, paired_kto
from trueup.objectives.sft import WEIGHTS, effective_sample_size, weighted_sft, weights
from trueup.objectives.ulma import imitated, labels, ulma, ulma_group_means


def rows(*values: float, lengths: tuple[int, ...] | None = None) -> LogProbs:
    """One token a row, unless lengths are given."""
    given = lengths or (1,) * len(values)
    return LogProbs(torch.tensor(values, dtype=torch.float64), torch.tensor(given))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


class Step:
    """Micro-batches that are already computed."""

    def __init__(self, own: list[tuple[LogProbs, Any, Any]], others: list[tuple[LogProbs, Any]]) -> None:
        self.own_rows, self.others, self.read = own, others, list[str]()

    def indexes(self) -> Iterator[Any]:
        self.read.append("indexes")
        return (index for _, _, index in self.own_rows)

    def own(self) -> Iterator[tuple[LogProbs, Any, Any]]:
        self.read.append("own")
        return iter(self.own_rows)

    def mismatched(self) -> Iterator[tuple[LogProbs, Any]]:
        self.read.append("mismatched")
        return iter(self.others)

    def joined(self, lines: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(lines))


def points(given: tuple[float, ...], shown: tuple[bool, ...] | None = None) -> Points:
    return Points.collate([PointRelation(given, shown or (False,) * len(given))], [0])


@pytest.mark.parametrize(
    "measurement, read, needs",
    [
        (WEIGHTS, "indexes", False),
        (Measurement(lambda rows: (policy.sum[:, None] for policy, _, _ in rows.own())), "own", False),
        (MISMATCHED, "mismatched", True),
    ],
)
def test_a_measurement_is_taken_over_all_micro_batches_and_computes_nothing_else(
    measurement: Measurement, read: str, needs: bool
) -> None:
    index = Weighted.collate([WeightRelation((0.5, 2.0))], [0])
    step = Step(
        [(rows(-1.0, -2.0), rows(-1.0, -1.0), index), (rows(-3.0, -4.0), rows(0.0, 0.0), index)],
        [(rows(-5.0), rows(-4.5)), (rows(-6.0), rows(-7.0))],
    )
    expected = {"indexes": [0.5, 2.0, 0.5, 2.0], "own": [-1.0, -2.0, -3.0, -4.0], "mismatched": [-0.5, 1.0]}
    assert measurement.take(step).flatten().tolist() == expected[read]
    assert (step.read, measurement.needs_mismatched) == ([read], needs)


def test_the_objective_of_a_step_gets_the_same_for_every_micro_batch() -> None:
    seen = []

    def objective(policy: LogProbs, reference: Any, index: Any, measured: Tensor) -> Any:
        seen.append((policy.sum.tolist(), measured.tolist()))

    step = Step([], [(rows(-1.0), rows(-2.0)), (rows(-1.0), rows(-4.0))])
    given = StepObjective(MISMATCHED, objective).given(step)  # type: ignore[arg-type]
    given(rows(-7.0), None, None)
    given(rows(-8.0), None, None)
    assert seen == [([-7.0], [[1.0], [3.0]]), ([-8.0], [[1.0], [3.0]])]


def test_what_kto_reports() -> None:
    """z0 = (0.5 + 0.3 - 0.2) / 3 = 0.2; log-ratios 1 and -0.5; beta 0.5."""
    loss = kto(rows(-1.0, -2.5), rows(-2.0, -2.0), points((1.0, 0.0)), column(0.5, 0.3, -0.2), beta=0.5)
    assert loss.metrics["kto/z0"].tolist() == pytest.approx([0.2])
    spread = math.sqrt((0.3**2 + 0.1**2 + 0.4**2) / 2)
    assert loss.metrics["kto/z0_error"].tolist() == pytest.approx([spread / math.sqrt(3)])


def test_the_reference_point_of_kto_is_never_below_0() -> None:
    """A mean of -0.4 is an estimate of a KL that cannot be: z0 is 0."""
    loss = kto(rows(-1.0, -2.5), rows(-2.0, -2.0), points((1.0, 0.0)), column(-0.5, -0.3), beta=0.5)
    assert loss.per_example.tolist() == pytest.approx([1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(0.25))])
    assert loss.metrics["kto/z0"].tolist() == [0.0]


def test_a_single_value_has_no_standard_error() -> None:
    metrics = kto(rows(-1.0), rows(-2.0), points((1.0,)), column(0.7)).metrics
    assert (metrics["kto/z0"].tolist(), metrics["kto/z0_error"].tolist()) == ([0.7], [])


PAIRS = Pairs.collate([PairRelation(((0, 1, 1.0),)), PairRelation(((1, 0, 1.0),))], [0, 2])


def test_paired_kto_lets_the_gradient_through_means_of_exactly_0() -> None:
    """As torch's clamp does in the authors' code: step 1 of every run. Both terms then move each response alike."""
    ones = torch.ones(4, dtype=torch.int64)
    reference = LogProbs(torch.tensor([-1.0, -2.0, -3.0, -4.0], dtype=torch.float64), ones)
    leaf = reference.token_S.clone().requires_grad_()
    measured = pair_log_ratios(reference, reference, PAIRS)
    loss = paired_kto(LogProbs(leaf, ones), reference, PAIRS, measured, beta=0.1)

    other = reference.token_S.clone().requires_grad_()
    ratio = other - reference.token_S
    chosen, rejected = ratio[PAIRS.chosen_P], ratio[PAIRS.rejected_P]
    z_w, z_l = chosen.mean().clamp(min=0), rejected.mean().clamp(min=0)
    theirs = torch.cat([1 - torch.sigmoid(0.1 * (chosen - z_l)), 1 - torch.sigmoid(0.1 * (z_w - rejected))]).mean()
    assert loss.per_example.tolist() == [0.5, 0.5]
    (found,) = torch.autograd.grad(loss.per_example.mean(), leaf)
    (expected,) = torch.autograd.grad(theirs, other)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_authors_groups_with_grades() -> None:
    """In the continuous form a label of 1 is a grade like any other, unless it is marked as a demonstration."""
    given = labels(points((1.0, 1.0, 0.3), (True, False, False)))
    assert imitated(given, continuous=True).tolist() == [True, False, False]
    assert imitated(given, continuous=False).tolist() == [True, True, False]


def test_an_empty_group_adds_nothing() -> None:
    given = points((0.0, 0.0))
    loss = ulma_group_means(rows(-1.0, -2.0), rows(-2.0, -2.0), given, labels(given), per_token=True)
    plain = ulma(rows(-1.0, -2.0), rows(-2.0, -2.0), given, per_token=True)
    assert torch.equal(loss.per_example, plain.per_example)


def test_what_weighted_sft_reports() -> None:
    """Weights 0.5 and 2; the first response has two tokens."""
    index = Weighted.collate([WeightRelation((0.5, 2.0))], [0])
    loss = weighted_sft(rows(-1.0, -3.0, -2.0, lengths=(2, 1)), None, index, weights(index))
    size = 2.5**2 / (0.25 + 4)
    assert {name: values.tolist() for name, values in loss.metrics.items()} == {
        "logps/demonstrations": [-4.0, -2.0],
        "weights/mean": [0.5, 2.0],
        "weights/effective_sample_size": pytest.approx([size]),
        "weights/effective_share": pytest.approx([size / 2]),
    }


def test_the_effective_sample_size_of_equal_weights_is_their_number() -> None:
    assert effective_sample_size(torch.full((7,), 0.3).double()).item() == pytest.approx(7)
    assert effective_sample_size(torch.tensor([1.0, 0.0, 0.0])).item() == 1
