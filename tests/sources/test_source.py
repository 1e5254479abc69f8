"""The steps of a source: in an order of seed and step alone, strata everywhere, prompts with other responses."""

import random
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.policies import make_source
from support.tiny_models import token_group

from trueup.batch.rows import Demonstrations, Pairs
from trueup.batch.tokens import mismatched
from trueup.sources.source import Batching, OfflineSource, order, stratified

PAIRING = partial(mismatched, max_length=64)
strata_of_some = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


def test_passes_differ_by_epoch_and_seed_and_by_nothing_else() -> None:
    passes = {(seed, epoch): order(seed, epoch, 50) for seed in range(4) for epoch in range(4)}
    assert len(set(passes.values())) == 16
    order.cache_clear()
    assert {key: order(*key, 50) for key in passes} == passes


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    """Written down once: were it to change, a run begun before would resume with other batches."""
    assert order(0, 0, 8) == (3, 7, 5, 4, 6, 0, 2, 1)


def laid_out(source: OfflineSource) -> list[int]:
    """Places of the groups in the order of training, over the whole run."""
    place = {id(group): number for number, group in enumerate(source.groups)}
    steps = range(1, source.num_steps + 1)
    return [place[id(group)] for step in steps for group in source.step_groups(step)]


@pytest.mark.parametrize("count, batch_size, total", [(10, 4, 30), (7, 3, 21), (5, 8, 15), (6, 1, 6)])
def test_steps_cover_passes_end_to_end(count: int, batch_size: int, total: int) -> None:
    """A batch may straddle two passes, or hold more than one; only the last may be smaller."""
    source = make_source(count, 0, batch_size=batch_size, total=total)
    sizes = [len(source.step_groups(step)) for step in range(1, source.num_steps + 1)]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= batch_size
    assert sum(sizes) == total
    laid = laid_out(source)
    for epoch in range(total // count):
        assert tuple(laid[epoch * count : (epoch + 1) * count]) == order(0, epoch, count)


def test_a_pass_may_end_in_the_middle() -> None:
    """1.5 passes over 10 examples in batches of 4: 15 examples, 10 once and 5 of them twice."""
    source = make_source(10, 0, batch_size=4, total=15)
    assert source.num_steps == 4
    assert [source.epoch(step) for step in (0, 1, 2, 3, 4)] == [0.0, 0.4, 0.8, 1.2, 1.5]
    assert sorted(Counter(laid_out(source)).values()) == [1] * 5 + [2] * 5
    short = make_source(10, 0, batch_size=4, total=3)
    assert tuple(laid_out(short)) == order(0, 0, 10)[:3]
    assert keys(short.everything()) == {group.key for group in short.step_groups(1)}


def contents(batches: Any) -> list[tuple[list[int], list[str], Any]]:
    """What a model and an objective see of micro-batches; mismatched ones compare nothing."""
    return [
        (
            batch.stream.token_T.tolist(),
            [group.key for group in batch.groups],
            batch.index.chosen_P.tolist() if isinstance(batch.index, Pairs) else None,
        )
        for batch in batches
    ]


@pytest.mark.parametrize("pairing", [None, PAIRING])
def test_upcoming_is_what_will_be_trained_on(pairing: Any) -> None:
    """So that a reference sees the micro-batches of training, mismatched ones too, and none after the last step."""
    source = make_source(12, 3, total=22, pairing=pairing)
    assert bool(source.step(1).mismatched) is bool(source.held_out().mismatched) is (pairing is not None)
    coming = [batch for step in (3, 4, 5) for batch in contents(source.step(step))]
    assert contents(source.upcoming(2, 3)) == coming
    last = [batch for step in (5, 6) for batch in contents(source.step(step))]
    assert contents(source.upcoming(4, 100)) == last
    assert contents(source.upcoming(6, 100)) == []
    assert contents(source.upcoming(0, 0)) == []


def keys(batches: Any) -> set[str]:
    return {group.key for batch in batches for group in batch.groups}


def test_everything_holds_every_group() -> None:
    """Ten in batches of four: the third batch, which begins the second pass, is among them."""
    source = make_source(10, 0, total=40)
    assert contents(source.everything()) == contents(source.upcoming(0, 3))
    assert keys(source.everything()) == {group.key for group in source.groups}


def test_held_out_examples_are_all_evaluated_and_never_trained_on() -> None:
    source = make_source(12, 5)
    evaluated = [group.key for batch in source.held_out() for group in batch.groups]
    assert sorted(evaluated) == sorted(group.key for group in source.held_out_groups)
    assert not keys(source.everything()) & set(evaluated)
    assert source.has_held_out and not make_source(12, 0).has_held_out
    assert contents(make_source(12, 0).held_out()) == []


def test_the_random_states_of_torch_and_python_take_no_part() -> None:
    before = torch.get_rng_state(), random.getstate()
    order.cache_clear()
    laid_out(make_source(12, 0))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


@given(strata_of_some, st.integers(0, 5))
def test_it_is_a_permutation_that_keeps_the_order_within_a_stratum(strata: list[str], seed: int) -> None:
    places = order(seed, 0, len(strata))
    dealt = stratified(places, strata)
    assert sorted(dealt) == list(range(len(strata)))
    for stratum in "abc":
        assert [at for at in dealt if strata[at] == stratum] == [at for at in places if strata[at] == stratum]


@given(strata_of_some, st.integers(1, 20), st.integers(0, 5))
def test_every_stretch_holds_its_share_to_within_two(strata: list[str], length: int, seed: int) -> None:
    dealt = [strata[at] for at in stratified(order(seed, 0, len(strata)), strata)]
    share = {stratum: count / len(strata) for stratum, count in Counter(strata).items()}
    for start in range(max(1, len(dealt) - length + 1)):
        stretch = dealt[start : start + length]
        for stratum, part in share.items():
            # One for the stretch's beginning inside a step of the stratum, one for its end.
            assert abs(stretch.count(stratum) - part * len(stretch)) <= 2


def test_by_hand() -> None:
    """The one of another kind stands in the middle, at half of the pass, after the second of three."""
    assert stratified((0, 1, 2, 3), "aaab") == (0, 1, 3, 2)


def test_each_prompt_takes_the_responses_of_the_next_group_of_the_pass() -> None:
    """So that those of a step are its own responses, moved on by one, and the first of the next step."""
    source = make_source(8, 0, batch_size=4, total=16, pairing=PAIRING)
    laid = [group for step in (1, 2) for group in source.step_groups(step)]
    following = [*laid[1:], laid[0]]
    for step in (1, 2):
        part = slice(4 * step - 4, 4 * step)
        pairs = zip(laid[part], following[part], strict=True)
        expected = {replace(one, responses=other.responses).key for one, other in pairs}
        assert keys(source.step(step).mismatched) == expected
    assert contents(source.step(2)) == contents(source.step(2))


def test_a_group_with_the_same_prompt_is_passed_over() -> None:
    twins = [token_group(3, [2], 7), token_group(3, [2], 7), token_group(4, [3], 9)]
    source = OfflineSource(twins, [], Batching(Demonstrations.collate, 64, PAIRING), batch_size=3, seed=0, total=3)
    made = [group for batch in source.step(1).mismatched for group in batch.groups]
    assert len(made) == 3
    for group in made:
        own = next(one for one in twins if one.prompt.tobytes() == group.prompt.tobytes())
        assert group.responses[0].ids.tobytes() != own.responses[0].ids.tobytes()


def test_everything_holds_the_mismatched_groups_of_later_passes() -> None:
    """They differ from pass to pass, as the order does."""
    source = make_source(8, 0, batch_size=4, total=24, pairing=PAIRING)
    wanted = {key for step in range(1, 7) for key in keys(source.step(step))}
    assert keys(source.everything()) == wanted
    assert len(wanted) > 2 * 8


def test_strata_are_spread_over_every_batch() -> None:
    groups = [token_group(3, [2], number, relation=number % 4 == 0) for number in range(8)]
    source = OfflineSource(
        groups, [], Batching(Demonstrations.collate, 64), batch_size=4, seed=3, total=16,
        stratum=lambda relation: relation,
    )  # fmt: skip
    assert [sum(group.relation for group in source.step_groups(step)) for step in range(1, 5)] == [1] * 4
