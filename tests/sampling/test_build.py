"""The sampler that settings ask for, and several models that write together."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from support.package_copies import copied, run_python
from support.scripted_model import read_model
from support.tiny_models import char_tokenizer, save_tiny_model

from trueup.feedback.condition import Condition
from trueup.feedback.records import Prompt
from trueup.sampling.engines import SeveralSamplers, make_sampler
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.engines.server import ServerSampler
from trueup.sampling.sampler import Sampler
from trueup.settings.gathering_settings import SamplerSettings

PROMPTS = [Prompt("abc"), Prompt("hello")]


def make(folder: Path, **settings: object) -> Sampler:
    model, encoder = read_model(folder)
    given = SamplerSettings(**{"max_new_tokens": 6, **settings})  # type: ignore[arg-type]
    return make_sampler(given, model, encoder, name="policy")


def test_engines(tiny_model: Path) -> None:
    assert isinstance(make(tiny_model), InProcessSampler)
    assert isinstance(make(tiny_model, engine="server", base_url="http://localhost:1/v1"), ServerSampler)
    with pytest.raises(ValidationError, match="'in-process' or 'server'"):
        make(tiny_model, engine="other")


def test_a_file_of_engines_is_offered_under_its_name(tmp_path: Path) -> None:
    """Nothing else has to know of it."""
    copy = copied(tmp_path)
    (copy / "trueup" / "sampling" / "engines" / "as_it_was.py").write_text(
        "def make(settings, model, encoder, *, name):\n    return f'{name}, {settings.engine}'\n"
    )
    program = (
        "from trueup.sampling.engines import make_engine\n"
        "from trueup.settings.gathering_settings import SamplerSettings\n"
        "print(make_engine(SamplerSettings(engine='as-it-was'), None, None, name='policy'))"
    )
    assert run_python(copy, program).stdout == "policy, as-it-was\n"


def test_each_model_writes_as_many(tiny_model: Path, tmp_path: Path) -> None:
    """A model with the same tokens keeps its ids, whoever ended the response; the policy's are as without it."""
    other = save_tiny_model(tmp_path / "other", seed=1)
    sampler = make(tiny_model, models=[str(other), str(tiny_model)])
    assert isinstance(sampler, SeveralSamplers)
    found = sampler.sample(PROMPTS, 2, seed=3)
    assert [[one.source for one in several] for several in found] == [
        ["policy"] * 2 + [str(other)] * 2 + [str(tiny_model)] * 2
    ] * 2
    assert [several[:2] for several in found] == make(tiny_model).sample(PROMPTS, 2, seed=3)
    for several in found:
        assert all(one.ids and one.version == 0 for one in several)
        assert [one.log_probs is None for one in several] == [False] * 2 + [True] * 4
        assert len({one.ids for one in several}) == 6  # the policy again, but with other numbers


@pytest.mark.parametrize("differs", ["another token", "another end"])
def test_ids_that_say_something_else_do_not_leak(differs: str, tiny_model: Path, tmp_path: Path) -> None:
    tokens = char_tokenizer()
    if differs == "another end":
        tokens.eos_token = "<|im_end|>"
    else:
        tokens.add_tokens(["hello"])
    other = save_tiny_model(tmp_path / "other", tokenizer=tokens, vocab_size=len(tokens))
    found = make(tiny_model, models=[str(other)]).sample(PROMPTS, 1, seed=3)
    assert all(own.ids and theirs.ids is None and theirs.text for own, theirs in found)


def test_only_the_policy_is_refreshed_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1)
    model, encoder = read_model(tiny_model)
    settings = SamplerSettings(max_new_tokens=6, models=(str(other),), resync=2)
    sampler = make_sampler(settings, model, encoder, name="policy")
    sampler.weights.refresh(4)
    assert set(sampler.weights.state()) == set(model.trainable())
    found = sampler.sample(PROMPTS, 1, seed=3)
    assert [(own.version, theirs.version) for own, theirs in found] == [(4, 0)] * 2
    with torch.no_grad():
        for value in model.trainable().values():
            value.mul_(-3.0)
    sampler.weights.refresh(6)
    for (own, theirs), (before, theirs_before) in zip(sampler.sample(PROMPTS, 1, seed=3), found, strict=True):
        assert own.ids != before.ids and theirs == theirs_before


def test_a_further_model_is_asked_in_its_own_words(tiny_model: Path, tmp_path: Path) -> None:
    """With its own condition, and frozen."""
    other = save_tiny_model(tmp_path / "other", seed=1)
    bare = make(other, decode="greedy", responses=1)
    Condition("<{reward}>", 1, "end", 3.0).save(other)
    sampler = make(tiny_model, models=[str(other)], decode="greedy", responses=1)
    assert isinstance(sampler, SeveralSamplers)
    ((writer, _),) = sampler.others
    assert isinstance(writer, InProcessSampler) and not writer.model.trainable()
    found = sampler.sample(PROMPTS, 1, seed=0)
    expected = bare.sample([Prompt(f"{prompt.content}<3.0>") for prompt in PROMPTS], 1, seed=0)
    assert [theirs.ids for _, theirs in found] == [one.ids for (one,) in expected]
