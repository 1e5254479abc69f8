"""Which weights write: the policy's own, or those of the last refresh."""

from pathlib import Path

import pytest
import torch
from support.scripted_model import read_model

from trueup.feedback.records import Prompt
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Sampled, Sampler
from trueup.settings.gathering_settings import SamplerSettings

PROMPTS = [Prompt("abc"), Prompt("hello world")]
Found = list[tuple[Sampled, ...]]


def made(folder: Path, resync: int) -> InProcessSampler:
    model, encoder = read_model(folder)
    settings = SamplerSettings(max_new_tokens=8, resync=resync)
    return InProcessSampler(model, encoder, settings, name="policy")


def move(sampler: InProcessSampler) -> None:
    with torch.no_grad():
        for value in sampler.model.trainable().values():
            value.mul_(-3.0)


def ids(sampler: Sampler) -> list[object]:
    return [one.ids for several in sampler.sample(PROMPTS, 2, seed=3) for one in several]


def test_the_policy_itself(tiny_model: Path) -> None:
    sampler = made(tiny_model, 1)
    sampler.refresh(0)
    first = ids(sampler)
    move(sampler)
    assert ids(sampler) != first
    sampler.refresh(1)
    assert sampler.sample(PROMPTS, 1, seed=3)[0][0].version == 1
    assert sampler.state() == {}


def test_as_it_was_at_the_last_refresh(tiny_model: Path) -> None:
    sampler = made(tiny_model, 32)
    sampler.refresh(0)
    first = ids(sampler)
    move(sampler)
    now = {name: value.detach().clone() for name, value in sampler.model.trainable().items()}
    assert ids(sampler) == first
    assert all(torch.equal(value, now[name]) for name, value in sampler.model.trainable().items())
    state = {name: value.clone() for name, value in sampler.state().items()}
    sampler.refresh(32)
    second = sampler.sample(PROMPTS, 2, seed=3)
    assert [one.ids for several in second for one in several] != first
    assert second[0][0].version == 32

    resumed = made(tiny_model, 32)
    move(resumed)
    resumed.restore(state, 0)
    assert ids(resumed) == first
    resumed.restore({}, 32)
    assert resumed.sample(PROMPTS, 2, seed=3) == second


def test_weights_are_back_after_an_error(tiny_model: Path) -> None:
    sampler = made(tiny_model, 32)
    sampler.refresh(0)
    move(sampler)
    now = {name: value.detach().clone() for name, value in sampler.model.trainable().items()}
    hook = sampler.model.network.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sampler.sample(PROMPTS, 1, seed=0)
    hook.remove()
    assert all(torch.equal(value, now[name]) for name, value in sampler.model.trainable().items())
    assert sampler.model.inner.config._attn_implementation == "trueup_grouped"
