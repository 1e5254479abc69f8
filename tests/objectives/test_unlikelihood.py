"""Unlikelihood in both its forms by values worked by hand, and log(1 - p) at both ends."""

import math
from collections.abc import Sequence

import pytest
import torch

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.unlikelihood import NEAREST, log1mexp, unlikelihood, unlikelihood_ascent


def log_probs(*rows: Sequence[float]) -> LogProbs:
    tokens = [token for row in rows for token in row]
    return LogProbs(torch.tensor(tokens, dtype=torch.float64), torch.tensor([len(row) for row in rows]))


def points(*labels: float) -> Points:
    return Points(torch.tensor(labels), torch.zeros(len(labels), dtype=torch.bool))


def test_unlikelihood() -> None:
    """Thumb up of -1 - 2: 3. Thumb down of probabilities 0.5 and 0.25: -ln 0.5 - ln 0.75 = 0.980829.

    Label 0.25 on the same: 0.25 * 3 ln 2 + 0.75 * 0.980829 = 1.255482.
    """
    down = [math.log(0.5), math.log(0.25)]
    policy = log_probs([-1, -2], down, down)
    loss = unlikelihood(policy, None, points(1.0, 0.0, 0.25))
    assert loss.per_example.tolist() == pytest.approx([3.0, 0.980829, 1.255482], abs=1e-6)
    assert loss.weight.tolist() == [1.0, 1.0, 1.0]
    assert loss.row.tolist() == [0, 1, 2]
    assert loss.metrics["logps/chosen"].tolist() == [-3.0]
    assert loss.metrics["logps/rejected"].tolist() == pytest.approx([-math.log(8)] * 2)
    twice = unlikelihood(policy, None, points(1.0, 0.0, 0.25), weight=2.0)
    assert twice.per_example.tolist() == pytest.approx([3.0, 1.961659, 1.991104], abs=1e-6)


def test_unlikelihood_ascent() -> None:
    """Means -1.5, -2 and -2: 1.5 for a thumb up, -2 for a thumb down, (0.75 - 0.25) * -2 = -1 for 0.25."""
    policy = log_probs([-1, -2], [-1, -3], [-1, -3])
    loss = unlikelihood_ascent(policy, None, points(1.0, 0.0, 0.25))
    assert loss.per_example.tolist() == [1.5, -2.0, -1.0]
    assert loss.metrics["rewards/rejected"].tolist() == [-4.0, -4.0]
    half = unlikelihood_ascent(policy, None, points(1.0, 0.0, 0.25), weight=0.5)
    assert half.per_example.tolist() == [1.5, -1.0, -0.25]


def test_one_form_is_bounded_below_and_the_other_is_not() -> None:
    policy = log_probs([-1e6, -1e6])
    assert unlikelihood(policy, None, points(0.0)).per_example.tolist() == [0.0]
    assert unlikelihood_ascent(policy, None, points(0.0)).per_example.tolist() == [-1e6]


def exact(log_prob: float) -> float:
    return math.log(-math.expm1(log_prob)) if log_prob > -0.5 else math.log1p(-math.exp(log_prob))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_keeps_its_digits(dtype: torch.dtype) -> None:
    """Down to a probability of e^-80 and up to within 1e-6 of 1, on both sides of where the formula changes."""
    given = -torch.logspace(math.log10(2 * NEAREST), math.log10(80), 400, dtype=torch.float64).to(dtype)
    given = torch.cat([given, torch.tensor([-0.693, -0.694, -NEAREST], dtype=dtype)])
    expected = torch.tensor([exact(value) for value in given.tolist()], dtype=torch.float64)
    found = log1mexp(given).double()
    torch.testing.assert_close(found, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_log1mexp_goes_on_along_its_tangent() -> None:
    """-20 ln 2 at the last point, one less at a probability of 1, and finite where rounding exceeds 1."""
    given = torch.tensor([-NEAREST, 0.0, 1e-7], dtype=torch.float64, requires_grad=True)
    found = log1mexp(given)
    (slope,) = torch.autograd.grad(found.sum(), given)
    assert found.tolist() == pytest.approx([-20 * math.log(2), -20 * math.log(2) - 1, -14.967801], abs=1e-5)
    assert slope.tolist() == pytest.approx([-1 / math.expm1(NEAREST)] * 3)
    inside = torch.linspace(-3 * NEAREST, NEAREST, 50, dtype=torch.float64)
    assert (log1mexp(inside).diff() < 0).all()


@pytest.mark.parametrize("ahead", [0.0, 5.0, 13.0, 15.0, 20.0, 200.0])
def test_a_certain_token_pushes_its_logit_no_harder_than_one(ahead: float) -> None:
    """Through a softmax in float32, as in a model; the push is the probability until the tangent begins."""
    logits = torch.tensor([[ahead, 0.0, 0.0]], requires_grad=True)
    policy = LogProbs(logits.log_softmax(-1)[:, 0], torch.tensor([1]))
    loss = unlikelihood(policy, None, points(0.0)).per_example
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all() and loss.item() > 0
    probability = math.exp(ahead) / (math.exp(ahead) + 2)
    if 1 - probability > 2 * NEAREST:
        assert grad[0, 0].item() == pytest.approx(probability, rel=0.05)  # 1 - p of float32 near 1
    assert 0 <= grad[0, 0].item() <= 1.05
