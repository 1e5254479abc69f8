"""What every objective owes, as a table: objectives down, laws across.

A new objective adds one line to CASES.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import trueup.objectives
from trueup.batch.index import Demonstrations, Pairs, PairsWithTarget, Points, Rankings, Weighted
from trueup.batch.logprobs import LogProbs
from trueup.feedback.groups import (
    DemonstratedPairRelation,
    DemonstrationRelation,
    PairRelation,
    PointRelation,
    RankRelation,
    WeightRelation,
)
from trueup.objectives.dpo import dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto
from trueup.objectives.loss import Loss
from trueup.objectives.paired_kto import paired_kto
from trueup.objectives.pointwise_dpo import pointwise_dpo
from trueup.objectives.robust_dpo import robust_dpo
from trueup.objectives.rrhf import rrhf, rrhf_padded
from trueup.objectives.sft import sft
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import ulma
from trueup.objectives.ulma_group_means import ulma_group_means
from trueup.objectives.unlikelihood import unlikelihood
from trueup.objectives.unlikelihood_ascent import unlikelihood_ascent
from trueup.objectives.weighted_sft import weighted_sft


@dataclass(frozen=True)
class Group:
    """One group: tokens of each row, and how the rows relate."""

    lengths: tuple[int, ...]
    relation: Any
    good: tuple[int, ...] = ()
    """Rows that a better policy makes more likely."""
    bad: tuple[int, ...] = ()
    """Rows that it makes less likely, once they are the likeliest of their group."""


@dataclass(frozen=True)
class Case:
    """An objective and groups for it; the last of them holds a class that is empty."""

    name: str
    objective: Callable[[LogProbs, Any, Any], Loss]
    collate: Callable[..., Any]
    groups: tuple[Group, ...]
    needs_reference: bool = True

    def loss(self, policy: "Rows", reference: "Rows | None", groups: Sequence[Group]) -> Loss:
        first_rows, row = [], 0
        for group in groups:
            first_rows.append(row)
            row += len(group.lengths)
        index = self.collate([group.relation for group in groups], first_rows)
        given = flat(reference) if reference is not None and self.needs_reference else None
        return self.objective(flat(policy), given, index)


PROMPT = 5
"""Tokens of every prompt."""
Rows = list[list[Tensor]]
"""Token log-probabilities of each row of each group."""


def flat(rows: Rows) -> LogProbs:
    together = [row for group in rows for row in group]
    lengths = torch.tensor([len(row) for row in together])
    return LogProbs(torch.cat(together), lengths, torch.full_like(lengths, PROMPT))


def random_rows(groups: Sequence[Group], seed: int, dtype: torch.dtype = torch.float64) -> Rows:
    generator = torch.Generator().manual_seed(seed)

    def row(length: int) -> Tensor:
        drawn = -3 * torch.rand(length, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_()

    return [[row(length) for length in group.lengths] for group in groups]


def tokens(rows: Rows) -> list[Tensor]:
    return [row for group in rows for row in group]


def group_of(loss: Loss, groups: Sequence[Group]) -> list[int]:
    """The group of each example, by the row that the loss names."""
    owner = [number for number, group in enumerate(groups) for _ in group.lengths]
    return [owner[row] for row in loss.row.tolist()]


PAIRS = (
    Group((3, 2), PairRelation(((0, 1, 1.0),)), (0,), (1,)),
    Group((1, 4, 2), PairRelation(((2, 0, 1.0), (2, 1, 1.0), (0, 1, 1.0))), (2,), (1,)),
    Group((2, 2), PairRelation(((1, 0, 1.0),)), (1,), (0,)),
    Group((2, 3), PairRelation(())),
)
UNSURE = (
    Group((3, 2), PairRelation(((0, 1, 0.75),)), (0,), (1,)),
    Group((1, 4, 2), PairRelation(((2, 0, 0.6), (0, 1, 0.9))), (2,), (1,)),
    Group((2, 3), PairRelation(())),
)
DEMONSTRATED = (
    Group((3, 2, 2), DemonstratedPairRelation(PairRelation(((0, 1, 1.0),)), 2), (0, 2), (1,)),
    Group((1, 4), DemonstratedPairRelation(PairRelation(((1, 0, 0.8),)), 1), (1,), (0,)),
    Group((2, 2, 1), DemonstratedPairRelation(PairRelation(((0, 1, 1.0), (0, 2, 1.0))), 0), (0,), (1,)),
    Group((2, 3), DemonstratedPairRelation(PairRelation(()), 0)),
)
RANKINGS = (
    Group((3, 2), RankRelation((2.0, -1.0)), (0,), (1,)),
    Group((1, 4, 2, 3), RankRelation((0.1, 0.7, 0.7, -5.0)), (1,), (3,)),
    Group((2, 3), RankRelation((1.0, 1.0)), (0,)),
)
BINARY = (
    Group((3, 2), PointRelation((1.0, 0.0), (False, False)), (0,), (1,)),
    Group((1, 4), PointRelation((1.0, 0.25), (True, False)), (0,)),
    Group((3,), PointRelation((1.0,), (True,)), (0,)),
    Group((2, 2), PointRelation((0.0, 0.0), (False, False)), (), (0, 1)),
)
GRADED = (
    Group((3, 2), PointRelation((0.8, 0.3), (False, False)), (0, 1)),
    Group((1, 4), PointRelation((1.0, 0.0), (True, False)), (0,)),
    Group((3,), PointRelation((1.0,), (True,)), (0,)),
    Group((2, 2), PointRelation((0.5, 1.0), (False, False)), (0, 1)),
)
IMITATE = (
    Group((3, 2), DemonstrationRelation(), (0, 1)),
    Group((1,), DemonstrationRelation(), (0,)),
    Group((4, 2, 2), DemonstrationRelation(), (0, 1, 2)),
)
WEIGHTED = (
    Group((3, 2), WeightRelation((0.5, 2.0)), (0, 1)),
    Group((1,), WeightRelation((1.0,)), (0,)),
    Group((4, 2, 2), WeightRelation((0.1, 20.0, 3.0)), (0, 1, 2)),
)
IMITATED = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0], [0.0], [0.0]], dtype=torch.float64)
"""What was measured over the step: here always the same, so that an objective is held to the laws of the others."""
FAR = torch.tensor([[0.3], [1.1], [-0.2]], dtype=torch.float64)
CASES = [
    Case("sft per token", sft, Demonstrations.collate, IMITATE, needs_reference=False),
    Case("sft per response", partial(sft, per_token=False), Demonstrations.collate, IMITATE, False),
    Case("dpo", dpo, Pairs.collate, PAIRS),
    Case("dpo unsure", partial(dpo, beta=0.5), Pairs.collate, UNSURE),
    Case("dpo smoothed", partial(dpo, label_smoothing=0.2), Pairs.collate, PAIRS),
    Case("robust dpo", partial(robust_dpo, label_smoothing=0.2), Pairs.collate, UNSURE),
    Case("ipo", ipo, Pairs.collate, PAIRS),
    Case("ipo per token unsure", partial(ipo, beta=0.5, per_token=True), Pairs.collate, UNSURE),
    Case("slic", slic, Pairs.collate, PAIRS),
    Case("slic unsure", partial(slic, beta=0.01), Pairs.collate, UNSURE),
    Case("slic-hf", slic_hf, PairsWithTarget.collate_chosen, PAIRS, needs_reference=False),
    Case(
        "slic-hf demonstrated",
        partial(slic_hf, margin=3.0, regularization=0.5),
        PairsWithTarget.collate,
        DEMONSTRATED,
        needs_reference=False,
    ),
    Case("rrhf", rrhf, Rankings.collate, RANKINGS, needs_reference=False),
    Case("rrhf padded", rrhf_padded, Rankings.collate, RANKINGS, needs_reference=False),
    Case("rrhf weighted", partial(rrhf, rank_weight=2.0, sft_weight=0.1), Rankings.collate, RANKINGS, False),
    Case("unlikelihood", unlikelihood, Points.collate, BINARY, needs_reference=False),
    Case("unlikelihood ascent", unlikelihood_ascent, Points.collate, BINARY, needs_reference=False),
    Case("ulma binary", ulma, Points.collate, BINARY),
    Case("ulma continuous", partial(ulma, beta=0.2, continuous=True), Points.collate, GRADED),
    Case("ulma per token", partial(ulma, per_token=True, log_z=0.3), Points.collate, BINARY),
    Case("ulma group means", partial(ulma_group_means, imitated_M=IMITATED), Points.collate, BINARY),
    Case(
        "ulma group means continuous",
        partial(ulma_group_means, imitated_M=IMITATED, continuous=True, per_token=False),
        Points.collate,
        GRADED,
    ),
    Case("pointwise dpo", partial(pointwise_dpo, beta=0.5), Points.collate, BINARY),
    Case("pointwise dpo continuous", partial(pointwise_dpo, continuous=True), Points.collate, GRADED),
    Case(
        "pointwise dpo per token", partial(pointwise_dpo, per_token=True, log_z=-0.2), Points.collate, BINARY
    ),
    Case("kto", partial(kto, mismatched_M=FAR), Points.collate, BINARY),
    Case(
        "kto weighted below its reference",
        partial(kto, mismatched_M=-FAR, beta=0.5, desirable_weight=1.3, undesirable_weight=0.7),
        Points.collate,
        BINARY,
    ),
    # With means below 0, which are clamped: what flows through them has a test of its own.
    Case("paired kto", partial(paired_kto, measured_M=-torch.ones(3, 2)), Pairs.collate, PAIRS),
    Case("weighted sft", partial(weighted_sft, weights_M=FAR), Weighted.collate, WEIGHTED, False),
    Case(
        "weighted sft per response",
        partial(weighted_sft, weights_M=FAR, per_token=False),
        Weighted.collate,
        WEIGHTED,
        False,
    ),
]
every_objective = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def objectives() -> set[Callable[..., Any]]:
    """Every public function under `trueup.objectives` that returns a loss."""
    found = set()
    for file in pkgutil.iter_modules(trueup.objectives.__path__):
        module = importlib.import_module(f"trueup.objectives.{file.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            returns = inspect.signature(function, eval_str=True).return_annotation
            if function.__module__ == module.__name__ and returns is Loss and not name.startswith("_"):
                found.add(function)
    return found


def test_no_objective_is_missing() -> None:
    held = {case.objective.func if isinstance(case.objective, partial) else case.objective for case in CASES}
    assert held == objectives()
    assert len(held) >= 15


@every_objective
def test_finite_when_the_policy_equals_its_reference(case: Case) -> None:
    rows = random_rows(case.groups, 0)
    loss = case.loss(rows, [[row.detach() for row in group] for group in rows], case.groups)
    assert loss.per_example.isfinite().all()
    for grad in torch.autograd.grad(loss.per_example.sum(), tokens(rows), materialize_grads=True):
        assert grad.isfinite().all()


@every_objective
def test_the_gradient_is_that_of_finite_differences(case: Case) -> None:
    rows, reference = random_rows(case.groups, 1), random_rows(case.groups, 2)
    lengths = [[len(row) for row in group] for group in rows]

    def total(*given: Tensor) -> Tensor:
        left = iter(given)
        return case.loss(
            [[next(left) for _ in group] for group in lengths], reference, case.groups
        ).per_example

    assert torch.autograd.gradcheck(total, tokens(rows))


@every_objective
def test_groups_do_not_feel_each_other_and_may_come_in_any_order(case: Case) -> None:
    rows, reference = random_rows(case.groups, 3), random_rows(case.groups, 4)
    loss = case.loss(rows, reference, case.groups)
    whose = group_of(loss, case.groups)
    for number in range(len(case.groups)):
        changed = [[row - 0.7 for row in group] if at == number else group for at, group in enumerate(rows)]
        again = case.loss(changed, reference, case.groups)
        same = torch.tensor([owner != number for owner in whose])
        assert torch.equal(again.per_example[same], loss.per_example[same])
        assert torch.equal(again.weight, loss.weight)
    order = [2, 0, *range(3, len(case.groups)), 1]
    moved = [case.groups[at] for at in order]
    permuted = case.loss([rows[at] for at in order], [reference[at] for at in order], moved)
    expected = [loss.per_example[[owner == at for owner in whose]] for at in order]
    assert torch.allclose(permuted.per_example, torch.cat(expected), rtol=1e-12)
    assert group_of(permuted, moved) == [
        place for place, at in enumerate(order) for owner in whose if owner == at
    ]


@every_objective
def test_inputs_are_not_written_to(case: Case) -> None:
    rows, reference = random_rows(case.groups, 5), random_rows(case.groups, 6)
    seen: list[tuple[Tensor, Tensor]] = []

    def spied(policy: LogProbs, given: LogProbs | None, index: Any) -> Loss:
        for part in (policy, given, index):
            for name in [] if part is None else [field.name for field in fields(part)]:
                if isinstance(value := getattr(part, name), Tensor):
                    seen.append((value, value.detach().clone()))
        return case.objective(policy, given, index)

    spy = Case(case.name, spied, case.collate, case.groups, case.needs_reference)
    spy.loss(rows, reference, case.groups).per_example.sum().backward()
    assert len(seen) >= 2
    for now, before in seen:
        assert torch.equal(now, before)


@every_objective
def test_a_batch_may_be_cut_anywhere(case: Case) -> None:
    rows, reference = random_rows(case.groups, 7), random_rows(case.groups, 8)
    whole = case.loss(rows, reference, case.groups)
    for place in range(1, len(case.groups)):
        parts = [
            case.loss(rows[part], reference[part], case.groups[part])
            for part in (slice(0, place), slice(place, None))
        ]
        # Equal up to the order of float64 additions.
        assert torch.allclose(torch.cat([part.per_example for part in parts]), whole.per_example, rtol=1e-12)
        assert torch.equal(torch.cat([part.weight for part in parts]), whole.weight)
        for name, values in whole.metrics.items():
            assert torch.allclose(torch.cat([part.metrics[name] for part in parts]), values, rtol=1e-12)


@every_objective
def test_better_likelier_lower_loss(case: Case) -> None:
    """From a policy that equals its reference and finds the bad rows of a group likelier than the others."""
    rows = [
        [torch.full((length,), -0.5 if at in group.bad else -1.0) for at, length in enumerate(group.lengths)]
        for group in case.groups
    ]

    def total(number: int, at: int, more: float) -> float:
        changed = [list(group) for group in rows]
        changed[number][at] = rows[number][at] + more
        return case.loss(changed, rows, case.groups).per_example.double().sum().item()

    judged = 0
    for number, group in enumerate(case.groups):
        for at in group.good:
            assert total(number, at, +0.1) < total(number, at, 0.0) < total(number, at, -0.1)
        for at in group.bad:
            assert total(number, at, +0.1) > total(number, at, 0.0) > total(number, at, -0.1)
        judged += len(group.good) + len(group.bad)
    assert judged >= 4


@every_objective
def test_an_empty_class_is_not_nan(case: Case) -> None:
    for groups in (case.groups[-1:], case.groups[-2:-1]):
        rows, reference = random_rows(groups, 9), random_rows(groups, 10)
        loss = case.loss(rows, reference, groups)
        assert loss.per_example.isfinite().all()
        for grad in torch.autograd.grad(loss.per_example.sum(), tokens(rows), materialize_grads=True):
            assert grad.isfinite().all()
        for values in loss.metrics.values():
            assert values.isfinite().all()


@every_objective
def test_bfloat16_log_probs_give_a_float32_loss(case: Case) -> None:
    rows = random_rows(case.groups, 11, torch.bfloat16)
    reference = random_rows(case.groups, 12, torch.bfloat16)
    loss = case.loss(rows, reference, case.groups)
    assert loss.per_example.dtype == torch.float32
    exact = [[[row.detach().float() for row in group] for group in side] for side in (rows, reference)]
    expected = case.loss(exact[0], exact[1], case.groups)
    # Converting to float32 is exact, so is everything after it the same.
    assert torch.equal(loss.per_example.detach(), expected.per_example)
    for grad in torch.autograd.grad(loss.per_example.sum(), tokens(rows), materialize_grads=True):
        assert grad.isfinite().all()


@every_objective
def test_each_example_names_a_row_its_loss_depends_on(case: Case) -> None:
    rows, reference = random_rows(case.groups, 14), random_rows(case.groups, 15)
    loss = case.loss(rows, reference, case.groups)
    assert len(loss.row) == len(loss.per_example) == len(loss.weight) > 0
    for example, row in enumerate(loss.row.tolist()):
        (grad,) = torch.autograd.grad(loss.per_example[example], tokens(rows)[row], retain_graph=True)
        assert grad.abs().max() > 0


@every_objective
def test_metrics_and_weights_carry_no_graph(case: Case) -> None:
    rows, reference = random_rows(case.groups, 16), random_rows(case.groups, 17)
    loss = case.loss(rows, reference, case.groups)
    assert loss.metrics
    assert loss.per_example.requires_grad
    assert not loss.weight.requires_grad
    assert not any(values.requires_grad for values in loss.metrics.values())
    assert (loss.weight > 0).all()
