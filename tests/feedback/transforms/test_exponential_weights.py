"""Weights exp(r / beta): monotone, clipped, and their effective sample size said aloud."""

import math

import pytest

from trueup.feedback.records import Example, Prompt, Response
from trueup.feedback.transforms.standardized_rewards import ExponentialWeights, StandardizedRewards

RAW = StandardizedRewards(0.0, 1.0)


def scored(*values: float | None) -> Example:
    return Example(Prompt("p"), tuple(Response(f"r{at}", score=value) for at, value in enumerate(values)))


def test_by_hand() -> None:
    """exp(0), exp(1/2), and exp(10/2) clipped to 20."""
    fitted = ExponentialWeights(2.0, 20.0, RAW).fit([scored(0.0, 1.0, 10.0)])
    (made,) = fitted.rewrite([scored(0.0, 1.0, 10.0, None, -4.0)])
    expected = [1.0, math.exp(0.5), 20.0, None, math.exp(-2.0)]
    assert [response.score for response in made.responses] == pytest.approx(expected)
    total, squares = 1 + math.exp(0.5) + 20, 1 + math.exp(1) + 400
    assert fitted.found[-1] == (
        f"weights exp(r / 2): effective sample size {total**2 / squares:.1f} of 3 responses (42 %), 1 clipped to 20"
    )
    assert len(fitted.warnings) == 1 and fitted.warnings[0].startswith(
        "1 of 3 weights are clipped to 20 and so alike"
    )
    assert ExponentialWeights(2.0, 200.0, RAW).fit([scored(0.0, 1.0, 10.0)]).warnings == ()


def test_a_small_beta_is_survived_and_warned_of() -> None:
    """exp(1 / 0.001) overflows; one of twenty responses carries everything."""
    examples = [scored(*[-1.0] * 19, 1.0)]
    fitted = ExponentialWeights(0.001, 20.0, RAW).fit(examples)
    (made,) = fitted.rewrite(examples)
    assert [response.score for response in made.responses] == [0.0] * 19 + [20.0]
    assert "equivalent of 1.0 of 20 responses; a larger --beta" in fitted.warnings[-1]


def test_rewards_are_standardised_first() -> None:
    fitted = ExponentialWeights(1.0, 20.0).fit([scored(10.0, 20.0)])
    (made,) = fitted.rewrite([scored(15.0)])
    assert made.responses[0].score == pytest.approx(1.0)
