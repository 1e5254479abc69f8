"""A token is where a uniform number falls in the distribution function."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.sampling.decoding import next_tokens
from trueup.settings.gathering_settings import SamplerSettings

P = torch.tensor([0.125, 0.5, 0.0, 0.25, 0.125])


def token(uniform: float, sampling: SamplerSettings, probabilities: torch.Tensor = P) -> int:
    found, _ = next_tokens(probabilities.log()[None], sampling, torch.tensor([uniform], dtype=torch.float64))
    return int(found)


BELOW_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    "uniform, expected",
    [(0.0, 0), (0.1249, 0), (0.1251, 1), (0.6249, 1), (0.6251, 3), (0.8749, 3), (0.8751, 4), (BELOW_ONE, 4)],
)
def test_inverse_of_the_distribution_function(uniform: float, expected: int) -> None:
    assert token(uniform, SamplerSettings()) == expected


def test_the_borders() -> None:
    """A number on a border belongs to what comes after it, and never to a token of no probability."""
    assert token(0.0, SamplerSettings(), torch.tensor([0.0, 1.0])) == 1
    assert token(0.5, SamplerSettings(), torch.tensor([0.5, 0.0, 0.5])) == 2
    assert token(BELOW_ONE, SamplerSettings(), torch.tensor([0.5, 0.5, 0.0])) == 1


def test_top_p_is_reached_up_to_rounding() -> None:
    """0.7 in float32 is a little less than 0.7."""
    assert token(BELOW_ONE, SamplerSettings(top_p=0.7), torch.tensor([0.7, 0.3])) == 0


@pytest.mark.parametrize(
    "sampling, uniform, expected",
    [
        (SamplerSettings(top_k=2), 0.66, 1),  # 0.5 and 0.25, in this order
        (SamplerSettings(top_k=2), 0.67, 3),
        (SamplerSettings(top_k=2), BELOW_ONE, 3),
        (SamplerSettings(top_k=3), BELOW_ONE, 0),  # of the two of 0.125, the first in the vocabulary
        (SamplerSettings(top_k=2, top_p=0.66), BELOW_ONE, 1),  # of what top-k leaves, 0.5 is two thirds
        (SamplerSettings(top_k=2, top_p=0.67), BELOW_ONE, 3),
        (SamplerSettings(top_p=0.76), BELOW_ONE, 0),
        (SamplerSettings(top_p=0.75), BELOW_ONE, 3),
        (SamplerSettings(top_p=1e-9), BELOW_ONE, 1),
        (SamplerSettings(temperature=0.5, top_p=0.72), BELOW_ONE, 1),  # squared it has 0.727
        (SamplerSettings(temperature=0.5, top_p=0.74), BELOW_ONE, 3),
    ],
)
def test_what_is_cut_off(sampling: SamplerSettings, uniform: float, expected: int) -> None:
    assert token(uniform, sampling) == expected


def test_the_log_probability_is_the_models_own() -> None:
    """Before the temperature, top-k and top-p."""
    for sampling in (SamplerSettings(), SamplerSettings(temperature=0.5, top_k=2, top_p=0.9)):
        chosen, log_prob = next_tokens(P.log()[None], sampling, torch.tensor([0.3], dtype=torch.float64))
        assert log_prob.exp().item() == pytest.approx(P[chosen].item())


@settings(max_examples=60)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.01, 1),
    st.integers(0, 50),
)
def test_a_token_is_never_one_that_is_cut_off(
    logits: list[float], uniform: float, top_p: float, top_k: int
) -> None:
    """Also where the number is as near to 1 as can be, or the probabilities span 26 orders of magnitude."""
    row = torch.tensor([logits])
    sampling = SamplerSettings(top_p=top_p, top_k=top_k)
    found, log_prob = next_tokens(row, sampling, torch.tensor([uniform], dtype=torch.float64))
    assert 0 <= int(found) < len(logits)
    assert torch.allclose(log_prob, row.log_softmax(-1)[0, found], atol=1e-5)
    probability = row.softmax(-1)[0]  # logits that differ may be as likely in float32
    larger = probability[probability > probability[found]]
    assert len(larger) < (top_k or len(logits))
    assert float(larger.sum()) <= top_p + 1e-5


def test_greedy_takes_the_first_of_equals_and_no_number() -> None:
    found, log_prob = next_tokens(
        torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, 0.0]]), SamplerSettings(decode="greedy", responses=1), None
    )
    assert found.tolist() == [1, 0]
    assert torch.allclose(log_prob.exp(), torch.tensor([0.4683, 0.5761]), atol=1e-4)


def test_rows_are_independent() -> None:
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for sampling in (
        SamplerSettings(),
        SamplerSettings(top_p=0.8),
        SamplerSettings(top_k=5, temperature=0.7),
    ):
        whole, _ = next_tokens(logits, sampling, uniform)
        alone = [int(next_tokens(logits[at : at + 1], sampling, uniform[at : at + 1])[0]) for at in range(7)]
        assert whole.tolist() == alone
