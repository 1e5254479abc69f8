"""Length control and the Bradley-Terry scale, against planted truths and independent fits."""

import math
from typing import Any

import evalica
import numpy as np
import pytest
from scipy import optimize

from trueup.evaluate import side_by_side
from trueup.evaluate.side_by_side import ELO, Matches, bradley_terry, length_controlled

Chance = np.random.Generator


def outcomes(probability_M: Any, chance: Chance) -> Any:
    return (chance.random(len(probability_M)) < probability_M).astype(float)


def judged_by_length(theta: float, phi: float, seed: int, games: int = 3000) -> tuple[Any, Any, Any]:
    """Outcomes of a judge who likes length, of responses that are longer than the other model's."""
    chance = np.random.default_rng(seed)
    longer_M = chance.normal(20.0, 30.0, games)
    spread = math.sqrt(float(np.mean(longer_M**2)))
    logit_M = theta + phi * np.tanh(longer_M / spread)
    return outcomes(1 / (1 + np.exp(-logit_M)), chance), longer_M, np.arange(games)


def test_a_planted_liking_for_length_is_taken_out() -> None:
    """The model is worse, and wins more often for being longer; what is left is how good it is."""
    outcome_M, longer_M, prompt_M = judged_by_length(theta=-0.5, phi=2.5, seed=0)
    found = length_controlled(outcome_M, longer_M, prompt_M)
    truth = 1 / (1 + math.exp(0.5))
    assert outcome_M.mean() > 0.55
    assert found["win_rate"].low <= truth <= found["win_rate"].high < 0.5
    assert abs(found["length"].value - 2.5) < 3 * found["length"].error < 0.5
    other = length_controlled(1 - outcome_M, -longer_M, prompt_M)
    assert other["win_rate"].value == pytest.approx(1 - found["win_rate"].value, abs=1e-9)


def test_its_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth = 1 / (1 + math.exp(-0.3))
    found = [length_controlled(*judged_by_length(0.3, 1.0, seed, games=150)) for seed in range(200)]
    covered = [one["win_rate"].low <= truth <= one["win_rate"].high for one in found]
    assert 0.9 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    ("outcome_M", "longer_M", "words"),
    [
        ([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], "too few: 5"),
        ([1.0, 0.0] * 20, [0.0] * 40, "all responses differ by the same length"),
        ([1.0] * 40, list(range(40)), "decided without fail"),
        ([1.0] * 20 + [0.0] * 20, [9.0] * 20 + [-9.0] * 20, "decided without fail"),
        ([], [], "too few: 0"),
        ([0.5] * 40, list(range(40)), "all are ties"),
    ],
    ids=["few", "equally long", "all won", "length decides", "none", "all tied"],
)
def test_it_is_refused_rather_than_nan(outcome_M: Any, longer_M: Any, words: str) -> None:
    found = length_controlled(np.array(outcome_M), np.array(longer_M, float), np.arange(len(outcome_M)))
    assert words in found["refused"]


NAMES = ("A", "B", "C", "D")
STRENGTHS = np.array([0.8, 0.3, -0.2, -0.9])
STYLE = np.array([1.5, 0.0])
FEATURES = ("length", "lists")


def played(seed: int, games: int = 4000, log_nu: float = -0.5, *, biased: bool = True) -> Matches:
    """Comparisons of four models of known strength, by a judge who likes the first feature of style."""
    chance = np.random.default_rng(seed)
    first_M = chance.integers(4, size=games)
    second_M = (first_M + chance.integers(1, 4, size=games)) % 4
    style_MC = chance.uniform(-1, 1, (games, 2)) + 0.3 * (STRENGTHS[second_M] - STRENGTHS[first_M])[:, None]
    eta_M = STRENGTHS[first_M] - STRENGTHS[second_M] + biased * style_MC @ STYLE
    weight_M3 = np.exp(np.column_stack([eta_M / 2, np.full(games, log_nu), -eta_M / 2]))
    kind_M = (chance.random(games)[:, None] > np.cumsum(weight_M3, 1) / weight_M3.sum(1, keepdims=True)).sum(1)
    outcome_M = np.array([1.0, 0.5, 0.0])[kind_M]
    return Matches(first_M, second_M, outcome_M, np.arange(games), style_MC)


def test_planted_strengths_ties_and_style_are_found() -> None:
    found = bradley_terry(played(0), NAMES, FEATURES)
    for one, truth in zip(found["points"].values(), ELO * (STRENGTHS - STRENGTHS.mean()), strict=True):
        assert one.low <= truth <= one.high and one.high - one.low < 60
    nu = math.exp(-0.5)
    assert found["tie"] == pytest.approx(nu / (2 + nu), abs=0.02)
    for one, truth in zip(found["style"].values(), ELO * STYLE, strict=True):
        assert one is not None and abs(one.value - truth) < 3 * one.error
    assert sum(one.value for one in found["points"].values()) == pytest.approx(0, abs=1e-9)


def test_it_is_the_most_likely_by_another_optimizer() -> None:
    """Davidson's likelihood written out, and scipy's search for its maximum."""
    matches = played(1, games=500)

    def unlikely(value: Any) -> float:
        strength, style, log_nu = np.append(0.0, value[:3]), value[3:5], value[5]
        total = 0.0
        for i, j, outcome, x in zip(
            matches.first_M, matches.second_M, matches.outcome_M, matches.style_MC, strict=True
        ):
            eta = strength[i] - strength[j] + x @ style
            logs = {1.0: eta / 2, 0.5: log_nu, 0.0: -eta / 2}
            total -= logs[outcome] - math.log(sum(math.exp(one) for one in logs.values()))
        return total

    best = optimize.minimize(unlikely, np.zeros(6), method="BFGS", options={"gtol": 1e-4}).x
    found = bradley_terry(matches, NAMES, FEATURES)
    strength = np.append(0.0, best[:3])
    expected = ELO * (strength - strength.mean())
    assert [one.value for one in found["points"].values()] == pytest.approx(list(expected), abs=0.05)
    assert [one.value for one in found["style"].values() if one] == pytest.approx(list(ELO * best[3:5]), abs=0.1)


def test_without_ties_and_style_it_is_evalicas() -> None:
    matches = played(2, games=800, log_nu=-40.0, biased=False)
    plain = Matches(matches.first_M, matches.second_M, matches.outcome_M, matches.prompt_M, np.zeros((800, 0)))
    found = bradley_terry(plain, NAMES, ())
    assert found["tie"] == 0 and found["style"] == {}
    theirs = evalica.bradley_terry(
        [NAMES[at] for at in plain.first_M],
        [NAMES[at] for at in plain.second_M],
        [evalica.Winner.X if one else evalica.Winner.Y for one in plain.outcome_M],
        tolerance=1e-12, limit=100_000,
    ).scores  # fmt: skip
    logs = np.log([theirs[name] for name in NAMES])
    assert [one.value for one in found["points"].values()] == pytest.approx(list(ELO * (logs - logs.mean())), abs=1e-3)


def test_the_intervals_hold_for_prompts_and_not_for_comparisons() -> None:
    """The same comparisons three times over on the same prompts say no more than once."""
    once = played(3, games=600)
    thrice = Matches(*(np.concatenate([getattr(once, name)] * 3) for name in Matches._fields))
    one, three = bradley_terry(once, NAMES, FEATURES), bradley_terry(thrice, NAMES, FEATURES)
    for single, repeated in zip(one["points"].values(), three["points"].values(), strict=True):
        assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=1e-6)


@pytest.mark.parametrize(
    ("games", "words"),
    [
        ([(0, 1, 1.0), (1, 0, 1.0), (2, 3, 1.0), (3, 2, 1.0)],
         "C, D never won against, nor tied with, A, directly or through others"),
        ([(0, 1, 1.0), (1, 0, 1.0), (2, 1, 0.0), (3, 2, 0.5)], "C, D never won against, nor tied with, A"),
        ([(0, 1, 0.5), (1, 2, 0.5), (2, 3, 0.5), (3, 0, 0.5)], "decided without fail"),
    ],
    ids=["apart", "never won", "ties alone"],
)  # fmt: skip
def test_it_is_refused_where_nothing_finite_fits(games: list[tuple[int, int, float]], words: str) -> None:
    first, second, outcome = (np.array(column) for column in zip(*games, strict=True))
    found = bradley_terry(
        Matches(first, second, outcome, np.arange(len(games)), np.zeros((len(games), 1))), NAMES, ("length",)
    )
    assert words in found["refused"]


def test_it_is_refused_where_style_decides_or_cannot_be_told_apart() -> None:
    matches = played(4, games=300)
    decides = np.sign(matches.outcome_M - 0.5)[:, None] + 0.0
    for style_MC, words in ((decides, "decided without fail"), (np.repeat(matches.style_MC[:, :1], 2, 1), "determine")):
        found = bradley_terry(
            Matches(matches.first_M, matches.second_M, matches.outcome_M, matches.prompt_M, style_MC),
            NAMES,
            FEATURES[: style_MC.shape[1]],
        )
        assert words in found["refused"]


def test_a_fit_that_has_not_converged_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "STEPS", 2)
    found = bradley_terry(played(5, games=200), NAMES, FEATURES)
    assert "not converged in 2 steps" in found["refused"]
