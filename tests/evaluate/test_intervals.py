"""Intervals, tests and their correction, against scipy and against known truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trueup import estimates
from trueup.estimates import DRAWS, bootstrap, holm, sign_flip_test, wilson


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (0, 20), (3, 7), (10, 10), (411, 805)])
def test_wilson_is_scipys(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    found = wilson(successes, count)
    assert found.value == successes / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_bootstrap_is_scipys() -> None:
    """Its own draws: the ends agree as far as 10,000 of them say."""
    values = np.random.default_rng(0).gamma(2.0, size=80)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap(list(values))
    width = expected.high - expected.low
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert abs(found.low - expected.low) < 0.04 * width and abs(found.high - expected.high) < 0.04 * width
    assert bootstrap(list(values)) == found != bootstrap(list(values), seed=1)


def test_the_bootstrap_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 evaluations of 100 prompts, of which each is won, tied or lost with known probabilities: 0.6 in truth."""
    monkeypatch.setattr(estimates, "DRAWS", 1000)
    chance = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = bootstrap(list(chance.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=100)), share=True)
        covered += found.low <= 0.6 <= found.high
    assert 0.92 <= covered / 400 <= 0.975


def test_what_no_resample_can_change_is_not_certain() -> None:
    assert bootstrap([1.0] * 10, share=True) == wilson(10, 10)
    assert bootstrap([0.5] * 10, share=True).high > 0.6


def test_plain_wins_and_losses_are_tested_by_signs() -> None:
    """The sign test, as exactly as 10,000 changes of signs tell."""
    for wins, losses in ((9, 1), (7, 7), (1, 0), (0, 12), (60, 41)):
        expected = stats.binomtest(wins, wins + losses).pvalue
        found = sign_flip_test([0.5] * wins + [-0.5] * losses + [0.0] * 5)
        assert found == pytest.approx(expected, abs=4 * (expected / DRAWS) ** 0.5 + 2 / DRAWS)
    assert sign_flip_test([0.0, 0.0]) == sign_flip_test([]) == 1.0


def test_the_test_is_scipys_permutation_of_pairs() -> None:
    size = 200
    differences = np.random.default_rng(2).normal(0.15, 1.0, size=size)
    expected = stats.permutation_test(
        (differences, np.zeros(size)),
        lambda one, other: np.mean(one - other),
        permutation_type="samples",
        n_resamples=5_000,
        rng=np.random.default_rng(3),
    ).pvalue
    assert sign_flip_test(list(differences)) == pytest.approx(expected, rel=0.2)


def test_nothing_is_found_where_nothing_is_the_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """p-values of 300 pairs of equal models are at most 0.05 about one time in twenty."""
    monkeypatch.setattr(estimates, "DRAWS", 1000)
    chance = np.random.default_rng(5)
    found = [sign_flip_test(list(chance.choice([-0.5, 0.0, 0.5], size=60))) for _ in range(300)]
    assert sum(one <= 0.05 for one in found) / 300 <= 0.08


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_test(p_values: list[float]) -> None:
    """Rejected at a level are those that the step-down procedure rejects, whatever the level."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3, 0.99):
        rejected = 0
        for rank, value in enumerate(sorted(p_values)):
            if value * (len(p_values) - rank) > level:
                break
            rejected += 1
        assert sum(one <= level for one in adjusted) == rejected
    assert all(one <= other <= 1 for one, other in zip(p_values, adjusted, strict=True))
