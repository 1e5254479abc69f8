"""Log-probabilities by the content of their group: found again, computed once, the first value kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from references.policies import disturb, forwards, make_policy, make_source, token_log_probs

from trueup.batch.index import Pairs
from trueup.batch.stream import Batch, collate_batch
from trueup.references.table import Table

GROUPS = make_source().groups


def batch_of(*places: int) -> Batch[Pairs]:
    return collate_batch([GROUPS[place] for place in places], Pairs.collate)


def test_a_batch_is_found_in_whatever_company_it_comes() -> None:
    """Three and one more, found as two and two, in another order."""
    policy, table = make_policy(), Table()
    table.fill(policy, [batch_of(0, 1, 2), batch_of(3)])
    wanted = batch_of(3, 1)
    found = table.log_probs(wanted)
    assert found.length_N.tolist() == wanted.stream.length_N.tolist()
    assert found.prompt_N is not None
    assert found.prompt_N.tolist() == [len(group.prompt) for group in wanted.groups for _ in group.responses]
    torch.testing.assert_close(
        found.token_S, token_log_probs(policy, [wanted]), rtol=0, atol=1e-5
    )  # float32, values up to 10, in other batches
    assert not found.token_S.requires_grad


def test_a_response_scored_in_part_has_an_entry_of_what_is_scored() -> None:
    """Entries are cut by the number of scored tokens: a tool's output in a response has no log-probability."""
    policy, table = make_policy(), Table()
    partly = [
        replace(
            group,
            responses=tuple(replace(row, scored=np.arange(len(row.ids)) % 2 == 0) for row in group.responses),
        )
        for group in make_source().groups[:2]
    ]
    assert all(0 < row.scored.sum() < len(row.ids) for row in partly[0].responses)
    table.fill(policy, [collate_batch(partly, Pairs.collate)])
    for group in partly:
        alone = collate_batch([group], Pairs.collate)
        torch.testing.assert_close(
            table.log_probs(alone).token_S, token_log_probs(policy, [alone]), rtol=0, atol=1e-5
        )


def test_what_is_known_is_not_computed() -> None:
    policy, table = make_policy(), Table()
    with forwards() as seen:
        table.fill(policy, [batch_of(0, 1), batch_of(1), batch_of(1, 0), batch_of(1, 2)])
    assert len(seen) == 2
    assert len(table.entries) == 3


def test_the_first_value_is_kept() -> None:
    """A batch with one known and one new group, at other weights: the known one has its value still."""
    policy, table = make_policy(), Table()
    table.fill(policy, [batch_of(0, 1)])
    before = table.log_probs(batch_of(1)).token_S
    disturb(policy.network)
    table.fill(policy, [batch_of(1, 2)])
    assert torch.equal(table.log_probs(batch_of(1)).token_S, before)
    torch.testing.assert_close(
        table.log_probs(batch_of(2)).token_S, token_log_probs(policy, [batch_of(2)]), rtol=0, atol=1e-5
    )


def test_what_was_never_computed_is_no_number() -> None:
    table = Table()
    table.fill(make_policy(), [batch_of(0, 1)])
    with pytest.raises(KeyError, match=GROUPS[2].key):
        table.log_probs(batch_of(1, 2))
    assert GROUPS[1].key in table
    assert GROUPS[2].key not in table


@pytest.mark.parametrize("places", [(), (0,), (3, 1, 2)])
def test_a_table_survives_as_tensors(places: tuple[int, ...]) -> None:
    table = Table()
    table.fill(make_policy(), [batch_of(place) for place in places])
    again = Table.from_tensors(table.tensors())
    assert list(again.entries) == list(table.entries) == [GROUPS[place].key for place in places]
    assert all(torch.equal(again.entries[key], value) for key, value in table.entries.items())
