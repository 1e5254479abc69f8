"""What every objective owes, as a table: the objectives of `support/objective_cases.py` down, laws across."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.objective_cases import (
    CASES,
    Case,
    Rows,
    counted,
    every_objective,
    group_of,
    random_rows,
    shortened,
    tokens,
)
from torch import Tensor

import trueup.objectives
from trueup.batch.rows import LogProbs
from trueup.objectives.loss import Loss


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
        return case.loss([[next(left) for _ in group] for group in lengths], reference, case.groups).per_example

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
    assert group_of(permuted, moved) == [place for place, at in enumerate(order) for owner in whose if owner == at]


@every_objective
def test_inputs_are_not_written_to(case: Case) -> None:
    rows, reference = random_rows(case.groups, 5), random_rows(case.groups, 6)
    seen: list[tuple[Tensor, Tensor]] = []

    def spied(policy: Any, given: LogProbs | None, index: Any) -> Loss:
        for part in (policy, given, index):
            for name in [] if part is None else [field.name for field in fields(part)]:
                if isinstance(value := getattr(part, name), Tensor):
                    seen.append((value, value.detach().clone()))
        return case.objective(policy, given, index)

    replace(case, objective=spied).loss(rows, reference, case.groups).per_example.sum().backward()
    assert len(seen) >= 2
    for now, before in seen:
        assert torch.equal(now, before)


@every_objective
def test_a_batch_may_be_cut_anywhere(case: Case) -> None:
    rows, reference = random_rows(case.groups, 7), random_rows(case.groups, 8)
    whole = case.loss(rows, reference, case.groups)
    for place in range(1, len(case.groups)):
        parts = [
            case.loss(rows[part], reference[part], case.groups[part]) for part in (slice(0, place), slice(place, None))
        ]
        # Equal up to the order of float64 additions.
        assert torch.allclose(torch.cat([part.per_example for part in parts]), whole.per_example, rtol=1e-12)
        assert torch.equal(torch.cat([part.weight for part in parts]), whole.weight)
        for name, values in whole.metrics.items():
            assert torch.allclose(
                torch.cat([counted(part.metrics[name]) for part in parts]), counted(values), rtol=1e-12
            )


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
            assert counted(values).isfinite().all()


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
def test_float32_keeps_the_digits_of_loss_and_gradient(case: Case) -> None:
    """In a mean whose factor is no power of two: terms that are to cancel in a gradient do not."""
    narrow = [random_rows(case.groups, seed, torch.float32) for seed in (18, 19)]
    wide = [[[row.detach().double().requires_grad_() for row in group] for group in side] for side in narrow]
    results = []
    for rows, reference in (narrow, wide):
        total = 0.013 * case.loss(rows, reference, case.groups).per_example.sum()
        grads = torch.autograd.grad(total, tokens(rows), materialize_grads=True)
        results.append(torch.cat([total[None], *grads]).double())
    torch.testing.assert_close(results[0], results[1], rtol=2e-5, atol=2e-7)


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
    assert not any(counted(values).requires_grad for values in loss.metrics.values())
    assert (loss.weight > 0).all()


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
EXTREMES = (0.0, -1e4, -5e3, -1e-30, -80.0, -104.0)
"""Log-probabilities of a row: sure, hopeless, and where exp runs out of float32."""


def is_survived(case: Case, rows: Rows, reference: Rows) -> bool:
    """Whether loss, metrics and gradient are finite, the loss in float32."""
    loss = case.loss(rows, reference, case.groups)
    grads = torch.autograd.grad(loss.per_example.sum(), tokens(rows), materialize_grads=True)
    found = [loss.per_example, *map(counted, loss.metrics.values()), *grads]
    return loss.per_example.dtype == torch.float32 and all(values.isfinite().all() for values in found)


@every_objective
@DTYPES
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_log_ratios_of_ten_thousand_are_survived(case: Case, dtype: torch.dtype, sign: float) -> None:
    """Every token of every other row, under the one model and then under the other."""
    rows, reference = random_rows(case.groups, 13, dtype), random_rows(case.groups, 13, dtype)
    with torch.no_grad():
        for at, row in enumerate(tokens(rows)):
            row -= 1e4 * (1 + sign * (-1) ** at) / 2
        for at, row in enumerate(tokens(reference)):
            row -= 1e4 * (1 - sign * (-1) ** at) / 2
    assert is_survived(case, rows, reference)


@pytest.mark.slow
@every_objective
@DTYPES
@hypothesis_settings(max_examples=15)
@given(data=st.data())
def test_extremes_in_any_combination_are_survived(case: Case, dtype: torch.dtype, data: st.DataObject) -> None:
    def extremes() -> Rows:
        return [
            [
                torch.full((length,), data.draw(st.sampled_from(EXTREMES)) / length, dtype=dtype)
                for length in group.lengths
            ]
            for group in case.groups
        ]

    rows, reference = extremes(), extremes()
    for row in tokens(rows):
        row.requires_grad_()
    assert is_survived(case, rows, reference)


@every_objective
def test_responses_of_the_same_tokens_are_survived(case: Case) -> None:
    """Texts that differ may be cut to the same tokens: every margin is 0, whatever the models say of them."""
    together = random_rows(case.groups, 20), random_rows(case.groups, 21)
    shortest = min(length for group in case.groups for length in group.lengths)
    same = [
        [[side[0][0].detach()[:shortest].clone() for _ in group.lengths] for group in case.groups] for side in together
    ]
    groups = [shortened(group, shortest) for group in case.groups]
    for row in tokens(same[0]):
        row.requires_grad_()
    loss = case.loss(same[0], same[1], groups)
    grads = torch.autograd.grad(loss.per_example.sum(), tokens(same[0]), materialize_grads=True)
    assert all(values.isfinite().all() for values in (loss.per_example, *grads))
    for margin in (values for name, values in loss.metrics.items() if name == "rewards/margins"):
        assert margin.abs().max() < 1e-12
    # Policy and reference differ here, and the mean of a plain DPO pair is log 2 all the same.
    if case.name == "dpo":
        assert loss.per_example.tolist() == pytest.approx([math.log(2)] * len(loss.per_example))
