"""Win rates by hand."""

import math

import pytest

from trueup.evaluate.estimates import win_rate


def test_wins_ties_and_losses() -> None:
    """Points 1, 0.5, 0, 1: a rate of 2.5 / 4, squares of distances 2 x 0.375^2 + 0.125^2 + 0.625^2 = 0.6875."""
    found = win_rate([2.0, 1.0, 0.0, 9.0], [1.0, 1.0, 3.0, -1.0])
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.rate.value == 0.625
    assert found.rate.error == pytest.approx(math.sqrt(0.6875 / 3 / 4), rel=1e-15)
    assert found.rate.count == 4


def test_the_other_side_has_the_rest() -> None:
    ours, theirs = [2.0, 1.0, 0.0, 9.0, 4.0], [1.0, 1.0, 3.0, -1.0, 5.0]
    one, other = win_rate(ours, theirs), win_rate(theirs, ours)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.rate.value + other.rate.value == 1.0


def test_only_the_order_of_scores_counts() -> None:
    assert win_rate([1e9, 0.0], [0.0, 1e-9]) == win_rate([1.0, 0.0], [0.0, 1.0])


def test_scores_of_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        win_rate([1.0], [1.0, 2.0])
