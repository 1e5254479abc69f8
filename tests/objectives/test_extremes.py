"""Log-ratios far beyond those of any sane run: every objective stays finite, in float32 and in bfloat16."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.objective_cases import Case, Rows, counted, every_objective, random_rows, shortened, tokens

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
def test_extremes_in_any_combination_are_survived(
    case: Case, dtype: torch.dtype, data: st.DataObject
) -> None:
    def drawn() -> Rows:
        return [
            [
                torch.full((length,), data.draw(st.sampled_from(EXTREMES)) / length, dtype=dtype)
                for length in group.lengths
            ]
            for group in case.groups
        ]

    rows, reference = drawn(), drawn()
    for row in tokens(rows):
        row.requires_grad_()
    assert is_survived(case, rows, reference)


@every_objective
def test_responses_of_the_same_tokens_are_survived(case: Case) -> None:
    """Texts that differ may be cut to the same tokens: every margin is 0, whatever the models say of them."""
    together = random_rows(case.groups, 20), random_rows(case.groups, 21)
    shortest = min(length for group in case.groups for length in group.lengths)
    same = [
        [[side[0][0].detach()[:shortest].clone() for _ in group.lengths] for group in case.groups]
        for side in together
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
