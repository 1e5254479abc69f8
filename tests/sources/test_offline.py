"""The order of a run is a function of seed and step: whole passes, laid end to end."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from references.policies import make_source

from trueup.sources.source import OfflineSource, order


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_every_pass_is_a_permutation(size: int) -> None:
    for epoch in range(4):
        assert sorted(order(3, epoch, size)) == list(range(size))


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


def test_less_than_a_pass_is_the_beginning_of_the_first() -> None:
    source = make_source(10, 0, batch_size=4, total=3)
    assert tuple(laid_out(source)) == order(0, 0, 10)[:3]
    assert source.epoch(1) == 0.3
    assert {group.key for batch in source.everything() for group in batch.groups} == {
        group.key for group in source.step_groups(1)
    }


def test_another_seed_trains_on_the_same_examples_in_another_order() -> None:
    one, other = (laid_out(make_source(20, 0, seed=seed, total=20)) for seed in (1, 2))
    assert one != other
    assert sorted(one) == sorted(other) == list(range(20))


def contents(batches: Any) -> list[tuple[list[int], list[str], list[int]]]:
    """What a model and an objective see of micro-batches."""
    return [
        (batch.stream.token_T.tolist(), [group.key for group in batch.groups], batch.index.chosen_P.tolist())
        for batch in batches
    ]


def test_a_step_is_always_cut_the_same_way() -> None:
    source = make_source(12, 0)
    assert contents(source.step(2).batches) == contents(source.step(2).batches)
    assert len(source.step(2).batches) == 2
    assert Counter(group.key for batch in source.step(2).batches for group in batch.groups) == Counter(
        group.key for group in source.step_groups(2)
    )


def test_upcoming_is_what_will_be_trained_on() -> None:
    """So that a reference sees the micro-batches of training, and nothing after the last step."""
    source = make_source(12, 0, total=22)
    coming = [contents(source.step(step).batches) for step in (3, 4, 5)]
    assert contents(source.upcoming(2, 3)) == [batch for step in coming for batch in step]
    last = [batch for step in (5, 6) for batch in contents(source.step(step).batches)]
    assert contents(source.upcoming(4, 100)) == last
    assert contents(source.upcoming(6, 100)) == []
    assert contents(source.upcoming(0, 0)) == []


def test_everything_holds_every_group() -> None:
    """Ten in batches of four: the third batch, which begins the second pass, is among them."""
    source = make_source(10, 0, total=40)
    assert contents(source.everything()) == contents(source.upcoming(0, 3))
    assert {group.key for batch in source.everything() for group in batch.groups} == {
        group.key for group in source.groups
    }


def test_held_out_examples_are_all_evaluated_and_never_trained_on() -> None:
    source = make_source(12, 5)
    evaluated = [group.key for batch in source.held_out() for group in batch.groups]
    assert sorted(evaluated) == sorted(group.key for group in source.held_out_groups)
    trained = {group.key for step in range(1, 7) for group in source.step_groups(step)}
    assert not trained & set(evaluated)
    assert source.has_held_out
    assert not make_source(12, 0).has_held_out
    assert contents(make_source(12, 0).held_out()) == []


def test_the_random_states_of_torch_and_python_take_no_part() -> None:
    before = torch.get_rng_state(), random.getstate()
    first = laid_out(make_source(12, 0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    random.seed(99)
    order.cache_clear()
    assert laid_out(make_source(12, 0)) == first
