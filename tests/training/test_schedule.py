"""The learning rate by value."""

import math

import pytest

from trueup.training.optimizer import FALLS, learning_rate


def rates(schedule: str, warmup: int, total: int) -> list[float]:
    return [
        learning_rate(step, peak=8.0, schedule=schedule, warmup=warmup, total=total) for step in range(1, total + 1)
    ]


@pytest.mark.parametrize(
    "schedule, warmup, expected",
    [
        ("linear", 0, [8, 6, 4, 2]),
        ("linear", 2, [4, 8, 8, 4]),
        ("linear", 4, [2, 4, 6, 8]),
        ("constant", 0, [8, 8, 8, 8]),
        ("constant", 2, [4, 8, 8, 8]),
        ("cosine", 0, [8, 4 + 4 / math.sqrt(2), 4, 4 - 4 / math.sqrt(2)]),
        ("cosine", 2, [4, 8, 8, 4]),
    ],
)
def test_rates_of_four_steps_by_hand(schedule: str, warmup: int, expected: list[float]) -> None:
    assert rates(schedule, warmup, 4) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("schedule", FALLS)
@pytest.mark.parametrize("warmup, total", [(0, 1), (1, 1), (0, 1000), (30, 1000), (1000, 1000)])
def test_no_step_is_wasted(schedule: str, warmup: int, total: int) -> None:
    """Neither the first nor the last has rate 0, which would be a step for nothing; the peak is reached."""
    found = rates(schedule, warmup, total)
    assert min(found) > 0
    assert max(found) == 8
    assert found[: warmup + 1] == sorted(found[: warmup + 1])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
