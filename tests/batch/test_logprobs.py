"""Sums and means of the rows of `LogProbs`."""

import pytest
import torch

from trueup.batch.logprobs import LogProbs


def test_the_example_of_the_docstring() -> None:
    log_probs = LogProbs(torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([2, 1]))
    assert log_probs.sum.tolist() == [-3.0, -0.5]
    assert log_probs.mean.tolist() == [-1.5, -0.5]
    assert log_probs.num_rows == 2


def test_rows_without_tokens_are_zero_wherever_they_stand() -> None:
    token_S = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    log_probs = LogProbs(token_S, torch.tensor([0, 2, 0, 1, 0]))
    assert log_probs.sum.tolist() == [0.0, -3.0, 0.0, -0.5, 0.0]
    assert log_probs.mean.tolist() == [0.0, -1.5, 0.0, -0.5, 0.0]
    log_probs.mean.sum().backward()
    assert token_S.grad is not None
    assert token_S.grad.tolist() == [0.5, 0.5, 1.0]


def test_a_log_probability_of_zero_counts_as_a_token() -> None:
    log_probs = LogProbs(torch.tensor([0.0, -3.0, 0.0]), torch.tensor([3]))
    assert log_probs.mean.tolist() == [-1.0]


def test_each_token_pulls_on_its_own_row_only() -> None:
    token_S = torch.randn(5, dtype=torch.float64, requires_grad=True)
    log_probs = LogProbs(token_S, torch.tensor([2, 3]))
    (grad_S,) = torch.autograd.grad(log_probs.sum @ torch.tensor([1.0, 10.0], dtype=torch.float64), token_S)
    assert grad_S.tolist() == [1.0, 1.0, 10.0, 10.0, 10.0]


def test_bfloat16_tokens_are_added_in_float32() -> None:
    # In bfloat16, 256 + 1 is 256: a sum in it would stop growing there.
    token_S = torch.full((600,), -1.0, dtype=torch.bfloat16)
    log_probs = LogProbs(token_S, torch.tensor([600]))
    assert log_probs.sum.dtype == torch.float32
    assert log_probs.sum.tolist() == [-600.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_detached_keeps_values_and_dtype(dtype: torch.dtype) -> None:
    token_S = torch.tensor([-1.0, -2.0], dtype=dtype, requires_grad=True)
    detached = LogProbs(token_S, torch.tensor([1, 1]), torch.tensor([4, 7])).detach()
    assert detached.prompt_N is not None
    assert detached.prompt_N.tolist() == [4, 7]
    assert not detached.token_S.requires_grad
    assert detached.sum.dtype == dtype
    assert detached.sum.tolist() == [-1.0, -2.0]
