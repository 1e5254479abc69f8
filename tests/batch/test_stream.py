"""The layout of the group stream, as its docstrings give it; micro-batches by a budget; mismatched rows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import token_group

from trueup.batch.rows import Demonstrations, Pairs
from trueup.batch.stream import GroupSpan, build_stream, collate_batch, cut
from trueup.batch.tokens import TokenGroup, TokenRow, mismatched
from trueup.feedback.records import Origin, PairRelation


def row(ids: list[int], scored: list[bool]) -> TokenRow:
    return TokenRow(np.array(ids, np.int32), np.array(scored, np.bool_))


def test_groups_follow_one_another_and_positions_start_again() -> None:
    stream = build_stream([token_group([5, 6], [[7], [8, 9, 2]]), token_group([10], [[11, 12]])])
    assert stream.token_T.tolist() == [5, 6, 7, 8, 9, 2, 10, 11, 12]
    assert stream.position_T.tolist() == [0, 1, 2, 2, 3, 4, 0, 1, 2]
    assert stream.source_S.tolist() == [1, 1, 3, 4, 6, 7]
    assert stream.target_S.tolist() == [7, 8, 9, 2, 11, 12]
    assert stream.length_N.tolist() == [1, 3, 2]
    assert stream.prompt_N.tolist() == [2, 2, 1]
    assert stream.spans == (GroupSpan((0, 2), ((2, 3), (3, 6))), GroupSpan((6, 7), ((7, 9),)))
    assert stream.num_tokens == 9


def test_only_scored_tokens_are_targets() -> None:
    group = TokenGroup(
        np.array([5], np.int32), (row([6, 7, 8, 9], [True, False, False, True]), row([10, 11], [False, True])), None
    )
    stream = build_stream([group])
    assert stream.target_S.tolist() == [6, 9, 11]
    assert stream.source_S.tolist() == [0, 3, 5]
    assert stream.length_N.tolist() == [2, 1]


def test_everything_is_int64() -> None:
    stream = build_stream([token_group([151_935], [[128_255]])])
    tensors = [stream.token_T, stream.position_T, stream.source_S, stream.target_S, stream.length_N]
    assert {tensor.dtype for tensor in tensors} == {torch.int64}
    assert stream.token_T.tolist() == [151_935, 128_255]


def test_a_batch_counts_rows_over_groups_and_names_their_origins() -> None:
    first, second = Origin("a.jsonl", 3), Origin("b.jsonl", 9)
    groups = [
        token_group([5], [[6], [7]], relation=PairRelation(((1, 0, 1.0),)), origin=first),
        token_group([5], [[8], [9], [10]], relation=PairRelation(((0, 2, 0.75), (1, 2, 1.0))), origin=second),
    ]
    batch = collate_batch(groups, Pairs.collate)
    assert batch.index.chosen_P.tolist() == [1, 2, 3]
    assert batch.index.rejected_P.tolist() == [0, 4, 4]
    assert batch.origins == [first, first, second, second, second]
    assert batch.stream.target_S[batch.index.chosen_P].tolist() == [7, 8, 9]
    moved = batch.to(torch.device("cpu"))
    assert moved.origins == batch.origins
    assert moved.index.rejected_P.tolist() == [0, 4, 4]


def test_the_key_of_a_group_is_what_a_model_sees_of_it() -> None:
    group = token_group([5, 6], [[7, 2], [8, 2]], relation="one", origin=Origin("a", 1))
    assert group.num_tokens == 6
    assert group.key == token_group([5, 6], [[7, 2], [8, 2]], relation="two").key
    others = [
        token_group([5], [[6, 7, 2], [8, 2]]), token_group([5, 6], [[7, 2, 8, 2]]),
        token_group([5, 6], [[8, 2], [7, 2]]), token_group([5, 6], [[7, 2], [8, 3]]),
        TokenGroup(group.prompt, (row([7, 2], [True, False]), group.responses[1]), None),
    ]  # fmt: skip
    assert len({group.key, *(other.key for other in others)}) == 6


def test_the_key_of_a_group_tells_where_its_parts_end() -> None:
    """Four flags of a response are the bytes of one token id."""
    flags = [True, False, False, False]
    several = TokenGroup(np.array([5], np.int32), (row([6, 7, 8, 9], flags), row([3, 4, 5, 6], flags)), None)
    one = TokenGroup(np.array([5, 6, 7, 8, 9, 1], np.int32), (row([3, 4, 5, 6], flags),), None)
    assert several.key != one.key


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


def test_groups_of_one_length_keep_their_order() -> None:
    groups = [token_group([3, number], [[2]]) for number in range(5, 9)]
    assert [part[0] for part in cut(groups, 3)] == groups


def test_prompt_of_one_and_responses_of_the_other() -> None:
    one, other = token_group(3, [2, 4], 0), token_group(5, [1, 2, 3], 1)
    made = mismatched(one, other, max_length=64)
    assert made is not None
    assert made.prompt.tolist() == one.prompt.tolist()
    assert [row.ids.tolist() for row in made.responses] == [row.ids.tolist() for row in other.responses]
    assert made.origin is one.origin


def test_responses_are_cut_to_what_fits() -> None:
    one, other = token_group(3, [2], 0), token_group(5, [4, 1], 1)
    made = mismatched(one, other, max_length=5)
    assert made is not None
    assert [row.ids.tolist() for row in made.responses] == [
        other.responses[0].ids[:2].tolist(),
        other.responses[1].ids.tolist(),
    ]
    assert mismatched(one, other, max_length=3) is None


def test_a_response_without_a_scored_token_within_reach_is_left_out() -> None:
    ids = np.array([7, 8, 9], np.int32)
    late = TokenRow(ids, np.array([False, False, True]))
    early = TokenRow(ids, np.array([True, True, True]))
    one = token_group(3, [2], 0)
    other = TokenGroup(np.array([1, 2], np.int32), (late, early), None)
    made = mismatched(one, other, max_length=5)
    assert made is not None
    assert [row.scored.tolist() for row in made.responses] == [[True, True]]
    assert mismatched(one, TokenGroup(other.prompt, (late,), None), max_length=5) is None


def test_ids_go_to_a_gpu_from_pinned_memory_and_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could be paged out would be taken only after all that the device was given before. A faked device."""
    calls: list[str] = []

    def pinned(value: torch.Tensor) -> torch.Tensor:
        calls.append("pinned")
        return value

    def sent(value: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
        calls.append(f"to {device}, {non_blocking}")
        return value

    batch = collate_batch([token_group(3, [2, 2])], Demonstrations.collate)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", sent)
    batch.to(torch.device("cuda"))
    assert calls == ["pinned", "to cuda, True"] * 6
    calls.clear()
    batch.to(torch.device("cpu"))
    assert calls == ["to cpu, True"] * 6
