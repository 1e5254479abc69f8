"""Intervals, tests and their correction, against scipy and against known truths."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trueup import estimates
from trueup.estimates import DRAWS, bootstrap, holm, sign_flip_test, wilson


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (0, 10), (0, 20), (3, 7), (10, 10), (411, 805)])
def test_wilson_is_scipys(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    found = wilson(successes, count)
    assert found.value == successes / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.low == 0, found.high == 1) == (successes == 0, successes == count)


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


KRIPPENDORFF = (
    ".. .. .. .. .. 3 4 1 2 1 1 3 3 .. 3",
    "1 .. 2 1 3 3 4 3 .. .. .. .. .. .. ..",
    ".. .. 2 1 3 4 4 .. 2 1 1 3 3 .. 4",
)
"""Krippendorff (2011): three raters, fifteen items."""
FLEISS = (
    "0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1",
    "7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7",
)  # fmt: skip
"""How many of fourteen raters chose each of five categories, of ten items: a worked example with kappa 0.210."""


def test_agreement_is_as_published() -> None:
    columns = zip(*(row.split() for row in KRIPPENDORFF), strict=True)
    assert estimates.krippendorff_alpha([[x for x in one if x != ".."] for one in columns]) == pytest.approx(
        0.691, abs=5e-4
    )
    rated = [[at for at, n in enumerate(row.split()) for _ in range(int(n))] for row in FLEISS]
    assert estimates.fleiss_kappa(rated) == pytest.approx(0.210, abs=5e-4)
    both = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    one, other = zip(*both, strict=True)
    assert estimates.cohen_kappa(one, other) == pytest.approx(0.4)
    for same in ([["a", "a"]] * 3, []):
        assert np.isnan([estimates.fleiss_kappa(same), estimates.krippendorff_alpha(same)]).all()
        assert np.isnan(estimates.cohen_kappa([one[0] for one in same], [one[1] for one in same]))


@given(st.lists(st.lists(st.sampled_from([0, 1, 2, None]), min_size=4, max_size=4), min_size=2, max_size=12))
def test_alpha_is_that_of_another_implementation(rows: list[list[int | None]]) -> None:
    rated = [[one for one in row if one is not None] for row in rows]
    found = estimates.krippendorff_alpha(rated)
    if np.isnan(found):
        return
    table = np.array([[np.nan if one is None else float(one) for one in row] for row in rows]).T
    assert found == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"), abs=1e-9)
