"""A prompt with the responses to another: nothing else changes, and nothing is longer than allowed."""

import numpy as np
from support.tiny_models import token_group

from trueup.batch.tokens import TokenGroup, TokenRow, mismatched


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


def test_the_same_prompt_is_no_other_prompt() -> None:
    one = token_group(3, [2], 0)
    twin = TokenGroup(one.prompt.copy(), token_group(3, [4], 5).responses, None)
    assert mismatched(one, twin, max_length=64) is None


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
