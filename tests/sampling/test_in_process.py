"""Responses are those of the model library where nothing is random, and of the right distribution where it is."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.scripted_model import Scripted, generator, library, script
from support.scripted_model import random_prompts as prompts
from support.tiny_models import CONFIGS, EOS, naive_log_probs, token_group, toy_network

from trueup.errors import InputError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.decoding import draw
from trueup.sampling.sampler import Completion
from trueup.settings.gathering_settings import SamplerSettings


def greedy(max_new_tokens: int = 12) -> SamplerSettings:
    return SamplerSettings(max_new_tokens=max_new_tokens, decode="greedy", responses=1)


GREEDY = greedy()


def drawn(
    model: Any, given: list[list[int]], sampling: SamplerSettings = GREEDY, **more: Any
) -> list[Completion]:
    keywords = {"end_ids": [EOS], "generator": generator(), **more}
    if not isinstance(model, CausalModel):
        return draw(model, given, settings=sampling, **keywords)
    with model.plain() as network:
        return draw(network, given, settings=sampling, **keywords)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_the_model_library_token_for_token(name: str) -> None:
    """Prompts of different lengths together, against each alone: padding on the left must not be seen."""
    model, given = CausalModel(toy_network(name)), prompts(1, 9, 4, 6)
    expected = [one for (one,) in library(model, given, max_new_tokens=12)]
    assert drawn(model, given) == expected
    assert len({one.ids for one in expected}) == len(given)


def test_any_of_several_tokens_ends_a_response() -> None:
    model, given = CausalModel(toy_network()), prompts(1, 9, 4, 6)
    whole = drawn(model, given)
    stop = whole[1].ids[3]
    cut = drawn(model, given, end_ids=[EOS, stop])
    for before, after in zip(whole, cut, strict=True):
        ends = stop in before.ids
        assert after.ids == (before.ids[: before.ids.index(stop)] if ends else before.ids)
        assert after.ended is (ends or before.ended)
    assert cut[1].ended


@pytest.mark.parametrize("drawing", [False, True])
def test_batches_come_in_order_and_do_not_change_what_is_drawn(drawing: bool) -> None:
    model, given = CausalModel(toy_network()), prompts(3, 5, 2, 7, 4)
    sampling = SamplerSettings(max_new_tokens=12) if drawing else greedy()
    whole = drawn(model, given, sampling, end_ids=[EOS, 9, 17])
    for batch_size in (1, 2, 3):
        assert drawn(model, given, sampling, end_ids=[EOS, 9, 17], batch_size=batch_size) == whole
    assert drawn(model, []) == []


def test_a_place_has_its_own_numbers_whatever_stands_beside_it() -> None:
    """The same prompts, asked with other words before some of them, get the same numbers."""
    model, given = CausalModel(toy_network()), prompts(3, 5, 2, 7)
    sampling = SamplerSettings(max_new_tokens=12)
    first = drawn(model, given, sampling)
    other = drawn(model, [given[0], [5, 6, *given[1]], given[2]], sampling)
    assert [other[0], other[2]] == [first[0], first[2]]
    assert other[1] != first[1]
    assert len({one.ids for one in drawn(model, [given[0]] * 4, sampling)}) == 4


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text"])
def test_log_probs_are_those_of_the_model_itself(name: str) -> None:
    """Whatever the temperature, top-p and top-k; the token that ends a response has one too."""
    model, given = CausalModel(toy_network(name)), prompts(3, 5, 2, 7)
    sampling = SamplerSettings(max_new_tokens=12, temperature=1.7, top_p=0.9, top_k=20)
    found = drawn(model, given, sampling, end_ids=[EOS, 9, 17, 33, 40])
    assert {one.ended for one in found} == {True, False}
    groups = [token_group(ids, [one.written]) for ids, one in zip(given, found, strict=True)]
    expected = naive_log_probs(model.inner, groups)
    got = torch.tensor([value for one in found for value in one.log_probs])
    assert torch.allclose(got, expected, atol=1e-5)
    assert all(len(one.log_probs) == len(one.ids) + one.ended for one in found)


def test_the_same_seed_draws_the_same() -> None:
    model, given = CausalModel(toy_network()), prompts(3, 5, 2)
    sampling = SamplerSettings(max_new_tokens=8)
    first = drawn(model, given, sampling, generator=generator(3))
    torch.manual_seed(99)
    assert drawn(model, given, sampling, generator=generator(3)) == first
    assert drawn(model, given, sampling, generator=generator(4)) != first


@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_torch_s_random_state_and_the_model_as_they_were(training: bool) -> None:
    model, given = CausalModel(toy_network().train(training)), prompts(3, 5)
    before, attention = torch.get_rng_state(), model.inner.config._attn_implementation
    drawn(model, given, SamplerSettings(max_new_tokens=3))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.network.training is training
    assert model.inner.config._attn_implementation == attention


def test_an_adapter_s_dropout_is_off() -> None:
    network = lora.add_lora(
        toy_network(), rank=3, alpha=60.0, dropout=0.5, targets="all-linear", base="toy"
    ).train()
    for name, factor in lora.factors(network, lora.POLICY).items():
        if name.endswith(".B"):
            torch.nn.init.normal_(factor, std=0.3)
    model, given = CausalModel(network), prompts(3, 5, 2)
    first = drawn(model, given)
    assert all(drawn(model, given) == first for _ in range(3))
    network.eval()
    assert drawn(model, given) == first


def test_who_ended_and_who_ran_out_of_room() -> None:
    """EOS at once, after two tokens, with the last token allowed, and one token too late."""
    model = script([EOS, 5], [3, 4, EOS, 5], [3, 4, 5, EOS], [3, 4, 5, 6, EOS])
    found = drawn(model, [[1]] * 4, greedy(4))
    assert found == [
        Completion((), True), Completion((3, 4), True), Completion((3, 4, 5), True), Completion((3, 4, 5, 6), False),
    ]  # fmt: skip


def test_nothing_is_computed_after_the_last_end() -> None:
    model = script([EOS], [3, EOS])
    drawn(model, [[1]] * 2, greedy(100))
    assert model.sizes == [2, 1]  # nor of a response that is done


P = (0.5, 0.25, 0.125, 0.125)
COUNT = 4000


def frequencies(sampling: SamplerSettings) -> list[float]:
    """Of the four tokens, over 4000 first tokens."""
    model = Scripted(lambda step, row: torch.tensor(P).log())
    found = drawn(model, [[1]] * COUNT, sampling, end_ids=[], batch_size=COUNT)
    tokens = [one.ids[0] for one in found]
    return [tokens.count(token) / COUNT for token in range(4)]


@pytest.mark.parametrize(
    "temperature, top_p, expected",
    [
        (1.0, 1.0, P),
        (0.5, 1.0, (8 / 11, 2 / 11, 0.5 / 11, 0.5 / 11)),  # squared, and divided by their sum
        (2.0, 1.0, tuple(math.sqrt(p) / (math.sqrt(0.5) + 0.5 + 2 * math.sqrt(0.125)) for p in P)),
        (1.0, 0.7, (2 / 3, 1 / 3, 0, 0)),
        (1.0, 0.75, (2 / 3, 1 / 3, 0, 0)),
        (1.0, 0.5, (1, 0, 0, 0)),
        (1.0, 0.01, (1, 0, 0, 0)),  # the most likely one is always left
        (0.5, 0.8, (0.8, 0.2, 0, 0)),  # after the temperature
    ],
)
def test_frequencies(temperature: float, top_p: float, expected: tuple[float, ...]) -> None:
    """Four standard errors; what top_p leaves out is never drawn."""
    found = frequencies(SamplerSettings(max_new_tokens=1, temperature=temperature, top_p=top_p))
    for got, wanted in zip(found, expected, strict=True):
        assert abs(got - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / COUNT)


def test_of_equals_top_p_leaves_one() -> None:
    """0.8 is reached by three of the four tokens, and which of the two equals is third does not vary."""
    found = frequencies(SamplerSettings(max_new_tokens=1, top_p=0.8))
    assert sorted(found).index(0.0) == 0
    assert sum(value > 0 for value in found) == 3


@pytest.mark.parametrize(
    "top_k, top_p, expected",
    [
        (1, 1.0, (1, 0, 0, 0)),
        (2, 1.0, (2 / 3, 1 / 3, 0, 0)),
        (9, 1.0, P),
        (2, 0.7, (2 / 3, 1 / 3, 0, 0)),  # top-p is of what top-k left
        (2, 0.6, (1, 0, 0, 0)),
    ],
)
def test_frequencies_of_top_k(top_k: int, top_p: float, expected: tuple[float, ...]) -> None:
    found = frequencies(SamplerSettings(max_new_tokens=1, top_p=top_p, top_k=top_k))
    for got, wanted in zip(found, expected, strict=True):
        assert abs(got - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / COUNT)


def test_a_model_without_a_cache_that_can_be_copied_is_refused() -> None:
    model = script([3])
    model.forward = lambda **given: SimpleNamespace(logits=torch.zeros(1, 1, 8), past_key_values=None)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"a Scripted, keeps no cache .* --sampler.engine server"):
        drawn(model, [[1]])


def test_done_responses_leave_the_batch_when_it_pays() -> None:
    """One in eight is enough, one in nine is not."""
    for count, sizes in ((8, [8, 7, 7]), (9, [9, 9, 9])):
        model = script([EOS], *[[3]] * (count - 1))
        assert [one.ids for one in drawn(model, [[1]] * count, greedy(3))] == [
            (),
            *[(3, 3, 3)] * (count - 1),
        ]
        assert model.sizes == sizes
