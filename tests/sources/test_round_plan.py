"""Rounds: every prompt as often as the epochs say, steps as the passes say, the same for the same seed."""

from collections import Counter
from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.sources.online import GatheredRounds, RoundPlan

SIZES = st.integers(1, 12)


def test_the_example_of_the_docstring() -> None:
    rounds = RoundPlan(prompts=100, batch_size=8, round_prompts=16, passes=4, total=200, seed=0)
    assert (rounds.count, rounds.num_steps) == (13, 12 * 8 + 4)
    assert [rounds.round_of(step) for step in (1, 8, 9, 96, 97, 100)] == [1, 1, 2, 12, 13, 13]
    assert [rounds.first_step(number) for number in (1, 2, 13)] == [1, 9, 97]
    assert len(rounds.places(13)) == 8


@given(SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(1, 40))
def test_every_prompt_is_asked_once_a_pass(prompts: int, batch: int, size: int, passes: int, total: int) -> None:
    rounds = RoundPlan(prompts, batch, size, passes, total, seed=1)
    asked = [place for number in range(1, rounds.count + 1) for place in rounds.places(number)]
    assert len(asked) == total
    for start in range(0, total, prompts):
        part = asked[start : start + prompts]
        assert len(set(part)) == len(part)
    whole = Counter(asked)
    assert max(whole.values()) - min(whole.get(one, 0) for one in range(prompts)) <= 1


@given(SIZES, SIZES, st.integers(1, 3), st.integers(1, 40), st.integers(0, 12))
def test_a_pass_deals_every_example_out_once(batch: int, size: int, passes: int, total: int, lost: int) -> None:
    rounds = RoundPlan(9, batch, size, passes, total, seed=2)
    steps: dict[int, list[int]] = {}
    for step in range(1, rounds.num_steps + 1):
        steps.setdefault(rounds.round_of(step), []).append(step)
    for number, of in steps.items():
        there = max(0, len(rounds.places(number)) - lost)
        dealt = Counter(place for step in of for place in rounds.chosen(step, there))
        assert dealt == {place: passes for place in range(there)}
        assert all(len(rounds.chosen(step, there)) <= batch for step in of)


def test_passes_come_in_orders_of_their_own_and_seeds_differ() -> None:
    rounds = RoundPlan(64, 8, 64, 2, 64, seed=3)
    first = [place for step in range(1, 9) for place in rounds.chosen(step, 64)]
    second = [place for step in range(9, 17) for place in rounds.chosen(step, 64)]
    assert sorted(first) == sorted(second) and first != second
    assert rounds.places(1) != RoundPlan(64, 8, 64, 2, 64, seed=4).places(1)
    assert rounds.places(1) == RoundPlan(64, 8, 64, 2, 64, seed=3).places(1)


@pytest.mark.parametrize("steps, expected", [(None, 13), (5, 5), (40, 13)])
def test_a_run_ends_after_its_steps(steps: int | None, expected: int) -> None:
    assert RoundPlan(10, 4, 4, 1, 50, 0, steps).num_steps == expected


@pytest.mark.parametrize(
    ("resync", "steps", "refreshed"),
    [
        (1, range(6), [0, 1, 2, 3, 4, 5]), (2, range(6), [0, 2, 4]), (4, range(6), [0, 4]), (9, range(6), [0]),
        (4, (0, 3, 6, 7, 9), [0, 6, 9]),
    ],
)  # fmt: skip
def test_when_the_sampler_gets_the_policys_weights(resync: int, steps: Sequence[int], refreshed: list[int]) -> None:
    """At the first round, and once so many steps have passed since it was due last; a late round makes up for it."""
    sampler = Mock()
    rounds = GatheredRounds(RoundPlan(4, 1, 1, 1, 9, seed=0), Mock(), (), Mock(sampler=sampler), resync)
    for done in steps:
        rounds.get(done + 1, done)
        rounds.get(done + 1, done)
    assert [call.args[0] for call in sampler.weights.refresh.call_args_list] == refreshed
