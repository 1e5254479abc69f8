"""Accuracy, Brier score, calibration error and the reliability table, against numbers worked by hand and by chance."""

import json
import math
import random

import pytest

from trueup.annotators.calibration import Calibration, calibrate


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def by_hand() -> Calibration:
    """Said 0.62, 0.62, 0.92, 0.5; the second pair is ordered wrongly, the last not at all."""
    return calibrate([logit(0.62), -logit(0.62), logit(0.92), 0.0], [1.0, 1.0, 0.8, 1.0], [0, 1, 2, 3])


def test_numbers_by_hand() -> None:
    """Brier: (0.38^2 + 0.62^2 + 0.12^2 + 0.5^2) / 4. In one bin 0.62 is said and 1/2 seen, twice; in another 0.92 and
    0.8; where neither is preferred, 1/2 and 1/2. Error: (2 * 0.12 + 0.12 + 0) / 4."""
    found = by_hand()
    assert (found.pairs, found.prompts) == (4, 4)
    assert found.accuracy.value == 0.5
    assert found.brier.value == pytest.approx((0.38**2 + 0.62**2 + 0.12**2 + 0.25) / 4)
    assert found.expected_calibration_error.value == pytest.approx(0.36 / 4)
    table = [(one.low, one.high, one.pairs, one.said, one.seen) for one in found.bins]
    assert [row[:3] for row in table] == [(0.5, 0.55, 1), (0.6, 0.65, 2), (0.9, 0.95, 1)]
    assert [value for row in table for value in row[3:]] == pytest.approx([0.5, 0.5, 0.62, 0.5, 0.92, 0.8])


def test_bins_off_in_opposite_directions_do_not_make_up_for_each_other() -> None:
    """Said 0.62 and seen 1; said 0.92 and, of a pair of probability 0.8 that is ordered wrongly, seen 0.2."""
    found = calibrate([logit(0.62), -logit(0.92)], [1.0, 0.8], [0, 1])
    assert [one.seen for one in found.bins] == pytest.approx([1.0, 0.2])
    assert found.expected_calibration_error.value == pytest.approx((0.38 + 0.72) / 2)
    assert found.brier.value == pytest.approx((0.38**2 + 0.72**2) / 2)


def test_scores_that_are_all_equal() -> None:
    """Of accuracies of 0 and of 1 the error is that of Wilson's interval, 4 / (4 + 1.96^2) wide for none of four."""
    found = calibrate([0.0] * 4, [1.0] * 4, [0, 1, 2, 3])
    assert [found.accuracy.value, found.brier.value, found.expected_calibration_error.value] == [0, 0.25, 0]
    right = calibrate([1.0] * 4, [1.0] * 4, [0, 1, 2, 3])
    assert [found.accuracy.error, right.accuracy.error] == pytest.approx([1.96 / (4 + 1.96**2) / 2] * 2, rel=1e-4)


def test_a_certain_pair_is_in_the_last_bin() -> None:
    (only,) = calibrate([1e4, -1e4], [1.0, 1.0], [0, 1]).bins
    assert (only.high, only.pairs, only.said, only.seen) == (1.0, 2, 1.0, 0.5)


def sampled_calibration(pairs: int, seed: int, trust: float = 1.0) -> Calibration:
    """Feedback drawn with the probability that the scores say, which are then multiplied."""
    chance = random.Random(seed)
    apart = []
    for _ in range(pairs):
        score = abs(chance.gauss(0, 2))
        right = chance.random() < 1 / (1 + math.exp(-score))
        apart.append(trust * (score if right else -score))
    return calibrate(apart, [1.0] * pairs, list(range(pairs)))


def test_a_calibrated_model_is_found_calibrated_and_a_boastful_one_not() -> None:
    honest, boastful, timid = (sampled_calibration(4000, 0, trust) for trust in (1.0, 4.0, 0.25))
    assert honest.accuracy.value == boastful.accuracy.value == timid.accuracy.value
    assert honest.expected_calibration_error.value < 0.02
    for other in (boastful, timid):
        assert other.expected_calibration_error.value > 0.1
        assert other.brier.value > honest.brier.value + 3 * honest.brier.error
    assert all(abs(one.seen - one.said) < 4 * one.error for one in honest.bins)
    assert all(one.seen < one.said for one in boastful.bins if one.pairs > 100)
    assert all(one.seen > one.said for one in timid.bins if one.pairs > 100)


def test_standard_errors_are_what_repeating_the_measurement_gives() -> None:
    """Accuracy: sqrt(a (1 - a) / n); Brier: the deviation over 40 repetitions, itself known to some 11 %."""
    found = sampled_calibration(300, 1)
    a = found.accuracy.value
    assert found.accuracy.error == pytest.approx(math.sqrt(a * (1 - a) / 300), rel=0.1)
    repeated = [sampled_calibration(300, 2 + number).brier.value for number in range(40)]
    spread = (sum((one - sum(repeated) / 40) ** 2 for one in repeated) / 39) ** 0.5
    assert found.brier.error == pytest.approx(spread, rel=0.35)


def test_pairs_of_one_prompt_are_not_so_many_measurements() -> None:
    """The same pair ten times over: as uncertain as once."""
    chance = random.Random(5)
    apart = [chance.gauss(0.5, 1) for _ in range(60)]
    once = calibrate(apart, [1.0] * 60, list(range(60)))
    tenfold = calibrate(apart * 10, [1.0] * 600, list(range(60)) * 10)
    assert tenfold.accuracy.value == pytest.approx(once.accuracy.value)
    assert (tenfold.pairs, tenfold.prompts) == (600, 60)
    assert tenfold.accuracy.error == pytest.approx(once.accuracy.error, rel=1e-9)
    apart_prompts = calibrate(apart * 10, [1.0] * 600, list(range(600)))
    assert apart_prompts.accuracy.error == pytest.approx(once.accuracy.error / math.sqrt(10), rel=0.15)


def test_the_same_seed_gives_the_same_errors() -> None:
    apart, sure, prompts = [0.5, -0.2, 1.0], [1.0] * 3, [0, 1, 2]
    assert calibrate(apart, sure, prompts) == calibrate(apart, sure, prompts)
    assert calibrate(apart, sure, prompts) != calibrate(apart, sure, prompts, seed=1)


def test_one_prompt_has_no_error_and_is_json_all_the_same() -> None:
    found = calibrate([0.5, 0.55], [1.0, 1.0], [3, 3])
    assert math.isnan(found.accuracy.error)
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["accuracy"] == {"value": 1.0, "error": None}
    assert content["bins"][0]["pairs"] == 2
    assert content.keys() == {"pairs", "prompts", "accuracy", "brier", "expected_calibration_error", "bins"}
