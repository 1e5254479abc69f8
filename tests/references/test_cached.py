"""The cache on disk: equal to a frozen model, computed once, never stale, and nothing lost or believed wrongly. And
its table: log-probabilities by the content of their group, found again, computed once, the first value kept."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.policies import Training, disturb, forwards, make_policy, make_source, token_log_probs

from trueup.batch.rows import Pairs
from trueup.batch.stream import Batch, collate_batch
from trueup.errors import InputError
from trueup.references import reference as cached
from trueup.references.choices import Cached, Frozen
from trueup.references.reference import Table


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run of this test keeps its cache."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    return tmp_path / "references"


def passes(policy: Any = None, source: Any = None) -> int:
    """Forward passes that starting a cached reference costs."""
    with forwards() as seen:
        Training(policy or make_policy(), Cached(), source=source or make_source())
    return len(seen)


def test_a_fresh_cache_equals_a_frozen_model_bit_for_bit() -> None:
    """In the first pass, whose micro-batches it was computed in; to rounding in later ones, cut differently."""
    ours, theirs = Training(make_policy(), Cached()), Training(make_policy(), Frozen())
    for step in range(1, 7):
        batches = ours.source.step(step).batches
        got, expected = (token_log_probs(one.reference, batches) for one in (ours, theirs))
        if step <= 3:
            assert torch.equal(got, expected)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # float32, values up to 10
        held_out = list(ours.source.held_out())
        assert torch.equal(*(token_log_probs(one.reference, held_out) for one in (ours, theirs)))
        ours.advance()
        theirs.advance()
    assert (token_log_probs(ours.policy, batches) - got).abs().max() > 1e-3


def test_only_what_is_new_is_computed() -> None:
    """With a budget of one token every group is a micro-batch by itself: 12 to train on and three held out, once.
    Then all of these are known, and 15 to 17 are new."""
    assert passes(source=make_source(12, 3, budget=1)) == 15
    assert passes(source=make_source(18, 0, budget=1)) == 3
    assert passes(source=make_source(18, 0, budget=1)) == 0


def test_a_later_run_computes_nothing_and_reads_what_the_weights_say() -> None:
    """However many runs added to the cache, and in whatever order it goes through the groups."""
    for count in (4, 12):
        passes(source=make_source(count, 0, budget=1))
    first = Training(make_policy(), Cached())
    with forwards() as seen:
        second = Training(make_policy(), Cached(), source=make_source(seed=5))
    assert not seen
    batches = [*first.source.held_out(), *first.source.step(1).batches, *first.source.step(2).batches]
    found, again = (token_log_probs(one.reference, batches) for one in (first, second))
    assert torch.equal(found, again)
    torch.testing.assert_close(found, token_log_probs(make_policy(), batches), rtol=0, atol=1e-5)
    assert first.reference.identity == second.reference.identity


STALE = {
    "other weights": lambda: make_policy(seed=1),
    "weights that moved a little": lambda: nudged(make_policy()),
    "an adapter": lambda: make_policy("started"),
    "bfloat16 products": lambda: make_policy(autocast=torch.bfloat16),
    "padded rows": lambda: make_policy(attention="padded"),
    "a dense mask": lambda: make_policy(attention="dense"),
}


@torch.no_grad()
def nudged(policy: Any) -> Any:
    next(policy.network.parameters()).view(-1)[0] += 1e-6
    return policy


@pytest.mark.parametrize("what", STALE)
def test_a_stale_entry_is_never_read(what: str) -> None:
    fresh = passes()
    assert fresh > 0
    assert passes(STALE[what]()) == fresh
    assert passes() == 0


@pytest.mark.parametrize("name, value", [("CODE_PATH", 999), ("torch.__version__", "3.0.0")])
def test_another_code_path_reads_nothing(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = passes()
    target: Any = torch if name.startswith("torch.") else cached
    monkeypatch.setattr(target, name.rpartition(".")[2], value)
    assert passes() == fresh


def test_what_is_damaged_is_computed_again(folder: Path) -> None:
    fresh = passes()
    with sqlite3.connect(folder / "log_probs.sqlite") as database:
        database.execute("UPDATE log_probs_1 SET answer = replace(answer, 'a', 'b')")
    database.close()
    assert passes() == fresh
    assert passes() == 0  # and mended


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "references").write_text("a file")
    with pytest.raises(InputError, match=r"log-probabilities cannot be kept there.*TRUEUP_CACHE.*frozen"):
        Training(make_policy(), Cached())


def test_a_checkpoint_holds_only_what_its_own_run_needs() -> None:
    Training(make_policy(), Cached(), source=make_source())
    source = make_source()
    part = replace(source, groups=source.groups[:4], total=4)
    table = Training(make_policy(), Cached(), source=part).reference.table
    assert set(table.entries) == {group.key for group in (*part.groups, *part.held_out_groups)}


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
            group, responses=tuple(replace(row, scored=np.arange(len(row.ids)) % 2 == 0) for row in group.responses)
        )
        for group in make_source().groups[:2]
    ]
    assert all(0 < row.scored.sum() < len(row.ids) for row in partly[0].responses)
    table.fill(policy, [collate_batch(partly, Pairs.collate)])
    for group in partly:
        alone = collate_batch([group], Pairs.collate)
        torch.testing.assert_close(table.log_probs(alone).token_S, token_log_probs(policy, [alone]), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("places", [(), (0,), (3, 1, 2)])
def test_a_table_survives_as_tensors(places: tuple[int, ...]) -> None:
    table = Table()
    table.fill(make_policy(), [batch_of(place) for place in places])
    again = Table.from_tensors(table.tensors())
    assert list(again.entries) == list(table.entries) == [GROUPS[place].key for place in places]
    assert all(torch.equal(again.entries[key], value) for key, value in table.entries.items())
