"""Beam search is that of the model library; diverse beam search is that of the paper."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support.scripted_model import library, random_prompts
from support.tiny_models import CONFIGS, EOS, naive_log_probs, token_group, toy_network

from trueup.models.causal import CausalModel
from trueup.sampling.decoding import Decoder
from trueup.sampling.engines.in_process import beam_search
from trueup.sampling.sampler import Completion

ENDS = [EOS, 9, 17, 33]  # of 64 tokens, so that a good part of the responses end


def searched(model: CausalModel, prompts: Sequence[Sequence[int]], **given: Any) -> list[list[Completion]]:
    about = {name: given.pop(name) for name in ("end_ids", "batch_size") if name in given}
    keywords: dict[str, Any] = {"groups": 1, "penalty": 0.0, "rooms": [10] * len(prompts), **given}
    with model.plain() as network, torch.no_grad():
        return beam_search(Decoder(network, **{"end_ids": ENDS, **about}), prompts, **keywords)


@pytest.mark.parametrize("beams", [2, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_beams_are_those_of_the_model_library(name: str, beams: int) -> None:
    model, given = CausalModel(toy_network(name)), random_prompts(1, 9, 4, 6)
    found = searched(model, given, beams=beams)
    expected = library(model, given, end_ids=ENDS, max_new_tokens=10, num_beams=beams, num_return_sequences=beams)
    assert found == expected
    assert [len(set(several)) for several in found] == [beams] * 4


def test_best_first_with_log_probs_of_the_model() -> None:
    model, given = CausalModel(toy_network("qwen2")), random_prompts(3, 5, 2, 7, 4)
    found = searched(model, given, beams=4)
    assert {one.ended for several in found for one in several} == {True, False}
    for prompt, several in zip(given, found, strict=True):
        means = [sum(one.log_probs) / len(one.log_probs) for one in several]
        assert means == sorted(means, reverse=True)
        expected = naive_log_probs(model.inner, [token_group(prompt, [one.written for one in several])])
        model.set_attention(model.attention)
        got = torch.tensor([value for one in several for value in one.log_probs])
        assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_batches_and_rooms_do_not_mix(groups: int) -> None:
    model, given = CausalModel(toy_network("qwen2")), random_prompts(3, 5, 2, 7, 4)
    rooms = [10, 1, 5, 10, 3]
    whole = searched(model, given, beams=4, groups=groups, penalty=1.0, rooms=rooms)
    alone = [
        searched(model, [prompt], beams=4, groups=groups, penalty=1.0, rooms=[room])[0]
        for prompt, room in zip(given, rooms, strict=True)
    ]
    assert whole == alone
    assert searched(model, given, beams=4, groups=groups, penalty=1.0, rooms=rooms, batch_size=8) == whole
    assert all(len(one.written) <= room for several, room in zip(whole, rooms, strict=True) for one in several)


def next_log_probs(model: CausalModel, ids: Sequence[int]) -> torch.Tensor:
    with model.plain() as network, torch.no_grad():
        logits = network(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    return logits.float().log_softmax(-1)  # type: ignore[no-any-return]


def diverse(
    model: CausalModel, prompt: list[int], groups: int, width: int, penalty: float, room: int
) -> list[tuple[int, ...]]:
    """Algorithm 1 of the paper with Hamming diversity, a sequence at a time and without a cache. A group's beams are
    lists of (tokens, sum); what is whole is kept apart with its mean, the `width` best of a group."""
    beams: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(groups)]
    whole: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(groups)]
    over = [False] * groups
    for length in range(1, room + 1):
        taken: dict[int, int] = {}
        for group in range(groups):
            if over[group]:
                continue
            candidates = [
                ((*tokens, token), total + value - penalty * taken.get(token, 0))
                for tokens, total in beams[group]
                for token, value in enumerate(next_log_probs(model, [*prompt, *tokens]).tolist())
            ]
            candidates.sort(key=lambda pair: -pair[1])
            best = candidates[:width]
            ended = [(total / length, tokens) for tokens, total in best if tokens[-1] in ENDS or length == room]
            whole[group] = sorted(whole[group] + ended, reverse=True)[:width]
            beams[group] = [one for one in candidates if one[0][-1] not in ENDS][:width]
            full = len(whole[group]) == width
            over[group] = length == room or (full and beams[group][0][1] / length <= whole[group][-1][0])
            for tokens, _ in beams[group] if length < room else best:
                taken[tokens[-1]] = taken.get(tokens[-1], 0) + 1
    return [several[0][1] for several in whole]


@pytest.mark.parametrize("groups, beams, penalty", [(4, 4, 1.0), (4, 4, 0.5), (2, 4, 1.0), (3, 3, 4.0)])
def test_diverse_beams_are_those_of_the_paper(groups: int, beams: int, penalty: float) -> None:
    """Four groups of one beam and a penalty of 1 are the settings of the RRHF paper.
    Of these prompts some have groups that are done before others, and would change what those find."""
    model, given = CausalModel(toy_network("qwen2")), random_prompts(3, 5, 2, seed=20)
    found = searched(model, given, beams=beams, groups=groups, penalty=penalty, rooms=[9] * 3)
    expected = [diverse(model, prompt, groups, beams // groups, penalty, 9) for prompt in given]
    assert [[one.written for one in several] for several in found] == expected


def test_without_a_penalty_all_groups_are_alike_and_with_a_large_one_none() -> None:
    model, given = CausalModel(toy_network()), random_prompts(3, 5)
    same = searched(model, given, beams=4, groups=4)
    assert all(len({one.ids for one in several}) == 1 for several in same)
    different = searched(model, given, beams=4, groups=4, penalty=1000.0, end_ids=[])
    for several in different:
        for tokens in zip(*(one.ids for one in several), strict=True):
            assert len(set(tokens)) == 4


def test_log_probs_of_diverse_beams_are_without_the_penalty() -> None:
    model, given = CausalModel(toy_network("qwen2")), random_prompts(3)
    (several,) = searched(model, given, beams=4, groups=4, penalty=3.0)
    expected = naive_log_probs(model.inner, [token_group(given[0], [one.written for one in several])])
    got = torch.tensor([value for one in several for value in one.log_probs])
    assert torch.allclose(got, expected, atol=1e-5)
