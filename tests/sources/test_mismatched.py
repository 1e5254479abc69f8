"""The groups that pair a step's prompts with responses to other prompts."""

from functools import partial
from typing import Any

from references.policies import make_source
from support.tiny_models import token_group

from trueup.batch.batch import Batch
from trueup.batch.index import Demonstrations
from trueup.batch.tokens import mismatched
from trueup.sources.source import Batching, OfflineSource

PAIRING = partial(mismatched, max_length=64)


def contents(batches: Any) -> list[tuple[list[int], list[str]]]:
    return [(batch.stream.token_T.tolist(), [group.key for group in batch.groups]) for batch in batches]


def flat(batches: list[Batch[Any]]) -> dict[bytes, list[bytes]]:
    """Prompt -> its responses."""
    return {
        group.prompt.tobytes(): [row.ids.tobytes() for row in group.responses]
        for batch in batches
        for group in batch.groups
    }


def test_there_are_none_unless_they_are_asked_for() -> None:
    source = make_source(8, 4)
    assert not source.step(1).mismatched and not source.held_out().mismatched


def test_each_prompt_takes_the_responses_of_the_next_group_of_the_pass() -> None:
    """So that those of a step are its own responses, moved on by one, and the first of the next step."""
    source = make_source(8, 0, batch_size=4, total=16, pairing=PAIRING)
    laid = [group for step in (1, 2) for group in source.step_groups(step)]
    following = [*laid[1:], laid[0]]
    for step in (1, 2):
        part = slice(4 * step - 4, 4 * step)
        expected = {
            one.prompt.tobytes(): [row.ids.tobytes() for row in other.responses]
            for one, other in zip(laid[part], following[part], strict=True)
        }
        assert flat(source.step(step).mismatched) == expected
    assert contents(source.step(2).mismatched) == contents(source.step(2).mismatched)


def test_a_group_with_the_same_prompt_is_passed_over() -> None:
    twins = [token_group(3, [2], 7), token_group(3, [2], 7), token_group(4, [3], 9)]
    source = OfflineSource(
        twins, [], Batching(Demonstrations.collate, 64, PAIRING), batch_size=3, seed=0, total=3
    )
    made = [group for batch in source.step(1).mismatched for group in batch.groups]
    assert len(made) == 3
    for group in made:
        own = next(one for one in twins if one.prompt.tobytes() == group.prompt.tobytes())
        assert group.responses[0].ids.tobytes() != own.responses[0].ids.tobytes()


def test_a_reference_that_looks_ahead_is_given_them_too() -> None:
    source = make_source(8, 3, batch_size=4, total=16, pairing=PAIRING)
    expected = [*source.step(1), *source.step(2)]
    assert contents(source.upcoming(0, 2)) == contents(expected)
    assert len(flat(source.held_out().mismatched)) == 3


def test_everything_holds_the_mismatched_groups_of_later_passes() -> None:
    """They differ from pass to pass, as the order does."""
    source = make_source(8, 0, batch_size=4, total=24, pairing=PAIRING)
    keys = {group.key for batch in source.everything() for group in batch.groups}
    wanted = {group.key for step in range(1, 7) for batch in source.step(step) for group in batch.groups}
    assert keys == wanted
    assert len(wanted) > 2 * 8


def test_strata_are_spread_over_every_batch() -> None:
    groups = [token_group(3, [2], number, relation=number % 4 == 0) for number in range(8)]
    source = OfflineSource(
        groups,
        [],
        Batching(Demonstrations.collate, 64),
        batch_size=4,
        seed=3,
        total=16,
        stratum=lambda relation: relation,
    )
    assert [sum(group.relation for group in source.step_groups(step)) for step in range(1, 5)] == [1] * 4
