"""Micro-batches by a budget of tokens."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import token_group

from trueup.batch.batch import cut
from trueup.batch.tokens import TokenGroup


def group(length: int) -> TokenGroup[None]:
    return token_group(1, [length - 1], seed=length)


@settings(deadline=None)
@given(st.lists(st.integers(2, 60), max_size=12), st.integers(1, 200))
def test_every_group_once_whole_and_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = [group(length) for length in lengths]
    parts = list(cut(groups, budget))
    together = [one for part in parts for one in part]
    assert sorted(map(id, together)) == sorted(map(id, groups))
    assert [one.num_tokens for one in together] == sorted(lengths)
    for part in parts:
        assert part
        assert len(part) == 1 or sum(one.num_tokens for one in part) <= budget
    for part, following in pairwise(parts):
        # No part could have taken the next group in.
        assert sum(one.num_tokens for one in [*part, following[0]]) > budget


@pytest.mark.parametrize(
    ("budget", "sizes"), [(10, [[4, 5], [9], [40]]), (9, [[4, 5], [9], [40]]), (1000, [[4, 5, 9, 40]])]
)
def test_short_groups_go_together_and_a_long_one_alone(budget: int, sizes: list[list[int]]) -> None:
    parts = cut([group(9), group(40), group(4), group(5)], budget)
    assert [[one.num_tokens for one in part] for part in parts] == sizes


def test_groups_of_one_length_keep_their_order() -> None:
    groups = [token_group([3, number], [[2]]) for number in range(5, 9)]
    assert [part[0] for part in cut(groups, 3)] == groups
