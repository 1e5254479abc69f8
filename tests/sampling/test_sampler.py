"""The sampler of this process keeps the contract of `trueup.sampling.sampler`; random numbers are of a key alone."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.scripted_model import library, read_model, sampler_of, with_dropout
from support.tiny_models import CHATML, char_tokenizer, naive_log_probs, save_tiny_model, token_group

from trueup.batch.encode import Limits
from trueup.batch.stream import build_stream
from trueup.errors import Stopped
from trueup.feedback.condition import Condition
from trueup.feedback.records import Message, Prompt
from trueup.models.causal import CausalModel
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Sampled, another_seed, response_keys, uniforms
from trueup.settings.gathering_settings import SamplerSettings

TEXTS = ("Once upon a time", "Tom and Lily went to the park. They", "The cat", "One day a little boy named Tim")
PROMPTS = tuple(map(Prompt, TEXTS))
STORIES = "models/tinystories-656k-bf16"


@pytest.fixture
def stories(shared: Callable[[str], Path]) -> Path:
    return shared(STORIES)


@pytest.mark.parametrize("folder", [STORIES, "models/stories260K"])
@pytest.mark.parametrize("decode, responses", [("greedy", 1), ("beam", 4)])
def test_greedy_and_beams_are_those_of_the_model_library(
    shared: Callable[[str], Path], folder: str, decode: str, responses: int
) -> None:
    sampler = sampler_of(shared(folder), decode=decode, responses=responses, max_new_tokens=48)
    encoder = sampler.encoder
    found = sampler.sample(PROMPTS, responses, seed=0)
    ids = [encoder.prompt_ids(Prompt(text)) for text in TEXTS]
    expected = library(
        sampler.model, ids, end_ids=encoder.end_ids, max_new_tokens=48, num_beams=responses,
        num_return_sequences=responses,
    )  # fmt: skip
    assert [[one.ids for one in several] for several in found] == [
        [one.written for one in several] for several in expected
    ]
    assert [[one.text for one in several] for several in found] == [
        [encoder.text(one.ids) for one in several] for several in expected
    ]


def test_what_is_said_of_a_response(stories: Path) -> None:
    sampler = sampler_of(stories, responses=3, temperature=1.3, top_k=40, max_new_tokens=200)
    found = sampler.sample(PROMPTS, 3, seed=5)
    assert [len(several) for several in found] == [3] * 4
    flat = [one for several in found for one in several]
    assert {one.ended for one in flat} == {True, False}
    ends = sampler.encoder.end_ids
    for one in flat:
        assert one.ids is not None and one.log_probs is not None
        assert (one.ids[-1] in ends) is one.ended
        assert not set(one.ids[:-1]) & set(ends)
        assert one.ended or len(one.ids) == 200
        assert one.text == sampler.encoder.text(one.ids)
        assert len(one.log_probs) == len(one.ids)
    assert len({one.ids for one in flat}) == 12
    group = token_group(sampler.encoder.prompt_ids(Prompt(TEXTS[1])), [one.ids for one in found[1] if one.ids])
    with torch.no_grad():
        expected = naive_log_probs(sampler.model.inner, [group])
    got = torch.tensor([value for one in found[1] for value in one.log_probs or ()])
    assert torch.allclose(got, expected, atol=1e-4)
    assert {(one.source, one.version) for one in flat} == {("policy", 0)}


def test_the_seed_and_the_prompt_decide_and_nothing_else(stories: Path) -> None:
    sampler = sampler_of(stories, max_new_tokens=24)
    found = sampler.sample(PROMPTS, 3, seed=5)
    torch.manual_seed(99)
    assert sampler.sample(PROMPTS, 3, seed=5) == found
    assert sampler.sample(PROMPTS[::-1], 3, seed=5) == found[::-1]
    assert [several[0].ids for several in sampler.sample(PROMPTS, 1, seed=5)] == [one[0].ids for one in found]
    assert sampler.sample(PROMPTS[2:3], 3, seed=5)[0][1].ids == found[2][1].ids
    assert sampler.sample(PROMPTS, 3, seed=6) != found
    shorter = sampler_of(stories, max_new_tokens=9).sample(PROMPTS, 3, seed=5)
    for one, cut in zip(found[0], shorter[0], strict=True):
        assert one.ids is not None and cut.ids == one.ids[:9]


def test_the_state_of_torch_and_of_the_model_is_untouched(tiny_model: Path) -> None:
    sampler = sampler_of(tiny_model, responses=2, max_new_tokens=5)
    sampler.model.network.train()
    attention = sampler.model.inner.config._attn_implementation
    before = torch.get_rng_state()
    sampler.sample(PROMPTS, 2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert sampler.model.network.training
    assert sampler.model.inner.config._attn_implementation == attention
    assert torch.is_grad_enabled()


def test_an_adapter_is_sampled_without_dropout(tiny_model: Path) -> None:
    model, encoder = read_model(tiny_model)
    network = with_dropout(model.network)
    settings = SamplerSettings(max_new_tokens=12)
    sampler = InProcessSampler(settings, CausalModel(network), encoder, name="policy")
    first = sampler.sample(PROMPTS, 2, seed=1)
    assert sampler.sample(PROMPTS, 2, seed=1) == first
    with network.disable_adapter():
        assert sampler.sample(PROMPTS, 2, seed=1) != first


def test_prompts_without_room_get_nothing_and_others_what_fits(tiny_model: Path) -> None:
    """Each character is a token, after one for the beginning."""
    asked = [Prompt("a" * length) for length in (5, 19, 18, 40, 0)]
    sampler = sampler_of(tiny_model, limits=Limits(20), max_new_tokens=10, decode="greedy", responses=1)
    found = sampler.sample(asked, 2, seed=0)
    assert [len(several) for several in found] == [2, 0, 2, 0, 2]
    lengths = [len(several[0].ids or ()) if several else 0 for several in found]
    assert lengths == [10, 0, 1, 0, 10]
    assert [several[0] == several[1] for several in found if several] == [True] * 3
    assert sampler.sample(asked[1:2], 2, seed=0) == [()]
    assert sampler.sample([], 2, seed=0) == []


@pytest.mark.parametrize("positions, expected", [(512, 128), (64, 32), (256, 128)])
def test_longest_response_unless_told(tmp_path: Path, positions: int, expected: int) -> None:
    folder = save_tiny_model(tmp_path, max_position_embeddings=positions)
    sampler = sampler_of(folder, decode="greedy", responses=1)
    sampler.encoder.end_ids = ()
    ((one,),) = sampler.sample([Prompt("ab")], 1, seed=0)
    assert len(one.ids or ()) == expected and not one.ended
    ((one,),) = sampler.sample([Prompt("a" * (positions - 3))], 1, seed=0)
    assert len(one.ids or ()) == 2  # what the model's positions leave


def test_a_conversation_and_a_condition_are_written_as_in_training(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, tokenizer=char_tokenizer(chat_template=CHATML))
    sampler = sampler_of(folder, decode="greedy", responses=1, max_new_tokens=4)
    asked = Prompt((Message("user", "hi"),))
    sampler.encoder.condition = Condition("<{reward}>", 1, "end", 3.0)
    seen: list[Any] = []
    sampler.model.network.register_forward_pre_hook(
        lambda module, args, keywords: seen.append(keywords["input_ids"]), with_kwargs=True
    )
    sampler.sample([asked], 1, seed=0)
    assert seen[0][0].tolist() == sampler.encoder.prompt_ids(asked)
    assert "<" in sampler.encoder.tokenizer.decode(seen[0][0])


def cut_at(found: list[tuple[Sampled, ...]], stop: str) -> list[str]:
    return [one.text.split(stop)[0] for several in found for one in several]


@pytest.mark.parametrize("decode", ["sample", "greedy", "beam"])
def test_a_response_ends_where_a_stop_text_begins(stories: Path, decode: str) -> None:
    """In the middle of a token, or across two; what is written before is the same as without."""
    given = dict(responses=1, decode=decode, max_new_tokens=40)
    plain = sampler_of(stories, **given)
    whole = plain.sample(PROMPTS, 2, seed=4)
    for stop in (".", " was", "e w", "he", "\n"):
        settings = SamplerSettings(**given, stop=(stop, "never seen"))
        found = InProcessSampler(settings, plain.model, plain.encoder, name="policy").sample(PROMPTS, 2, seed=4)
        assert [one.text for several in found for one in several] == cut_at(whole, stop)
        pairs = [pair for several in zip(whole, found, strict=True) for pair in zip(*several, strict=True)]
        for before, after in pairs:
            if stop in before.text:
                assert (after.ids, after.log_probs, after.ended) == (None, None, True), stop
            else:
                assert replace(after, log_probs=None) == replace(before, log_probs=None), stop
                # Rounding, in smaller batches.
                assert after.log_probs == pytest.approx(before.log_probs, abs=1e-4), stop


def test_nothing_is_computed_beyond_a_stop_text(stories: Path) -> None:
    sampler = sampler_of(stories, responses=1, decode="greedy", max_new_tokens=100, stop=(",",))
    passes: list[int] = []
    sampler.model.network.register_forward_hook(lambda *_: passes.append(1))
    ((one,),) = sampler.sample([Prompt("Once upon a time")], 1, seed=0)
    assert len(passes) < 10
    assert "," not in one.text and one.ended


def test_diverse_beams(stories: Path) -> None:
    """The settings of the RRHF paper; the temperature plays no part where nothing is drawn."""
    given = dict(responses=4, decode="diverse-beam", max_new_tokens=32)
    found = sampler_of(stories, **given, diversity_penalty=1.0, temperature=0.8).sample(PROMPTS, 4, seed=0)
    assert all(len({one.text for one in several}) == 4 for several in found)
    greedy = sampler_of(stories, responses=1, decode="greedy", max_new_tokens=32).sample(PROMPTS, 1, seed=0)
    assert found[0][0].ids == greedy[0][0].ids
    assert sampler_of(stories, **given).sample(PROMPTS, 4, seed=1) == found
    assert sampler_of(stories, **given).sample(PROMPTS, 1, seed=0) == greedy
    alike = sampler_of(stories, **given, diversity_penalty=0.0).sample(PROMPTS, 4, seed=0)
    assert all(len({one.text for one in several}) == 1 for several in alike)


@pytest.mark.parametrize("decode, responses", [("sample", 2), ("beam", 2)])
def test_it_can_be_stopped_between_tokens(
    tiny_model: Path, decode: str, responses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = sampler_of(tiny_model, decode=decode, max_new_tokens=50)
    passes: list[int] = []
    sampler.model.network.register_forward_hook(lambda *_: passes.append(1))

    def check() -> None:
        if len(passes) == 3:
            raise Stopped

    monkeypatch.setattr("trueup.stop.check", check)
    with pytest.raises(Stopped):
        sampler.sample(PROMPTS, responses, seed=0)
    assert len(passes) == 3
    assert sampler.model.inner.config._attn_implementation == "trueup_grouped"


def test_it_computes_as_training_does_in_bfloat16(tiny_model: Path) -> None:
    model, encoder = read_model(tiny_model)
    with torch.no_grad():
        for value in model.network.parameters():
            value.mul_(4)  # far from uniform
    model = CausalModel(model.network, autocast=torch.bfloat16)
    sampler = InProcessSampler(SamplerSettings(max_new_tokens=20), model, encoder, name="policy")
    found = sampler.sample(PROMPTS, 2, seed=0)
    groups = [
        token_group(encoder.prompt_ids(Prompt(text)), [one.ids for one in several if one.ids])
        for text, several in zip(TEXTS, found, strict=True)
    ]
    with torch.no_grad():
        expected = model.log_probs(build_stream(groups)).token_S
        exact = naive_log_probs(model.inner, groups)
    got = torch.tensor([value for several in found for one in several for value in one.log_probs or ()])
    assert got.dtype == torch.float32
    assert (got - exact).abs().mean() > 1e-3
    assert (got - expected).abs().mean() < 0.05


def test_numbers_are_uniform_and_a_function_of_the_key() -> None:
    numbers = uniforms(b"a", 4000)
    assert np.array_equal(uniforms(b"a", 4000), numbers)
    assert np.array_equal(uniforms(b"a", 17), numbers[:17])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi squared of 9 degrees, p = 0.001
    other = uniforms(b"b", 4000)
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 4 / np.sqrt(4000)


def test_pinned() -> None:
    """A seed draws the same for ever: these are what the key `5:0:` and tokens 7 and 8 have had since the beginning."""
    (key,) = response_keys(5, [[7, 8]], 1)[0]
    assert uniforms(key, 3).tolist() == PINNED


PINNED = [0.535951783406739, 0.4536678436209126, 0.6178045361846759]


def test_keys_are_all_different_and_do_not_depend_on_the_order() -> None:
    prompts = [[7, 8], [7], [8, 7], [7, 8, 0]]
    found = response_keys(5, prompts, 3)
    assert len(set(chain(*found))) == 12
    assert response_keys(5, prompts[::-1], 3) == found[::-1]
    assert response_keys(5, prompts[1:2], 2) == [found[1][:2]]
    assert not set(chain(*found)) & set(chain(*response_keys(6, prompts, 3)))


def test_a_prompt_that_comes_again_has_further_responses() -> None:
    first, again = response_keys(5, [[7], [7]], 2)
    assert [first + again] == response_keys(5, [[7]], 4)


def test_another_seed() -> None:
    seeds = {another_seed(seed, number) for seed in (-1, 0, 1, 2**70) for number in range(3)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
