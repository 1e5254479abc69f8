"""Which weights write: the policy's own, or those of the last refresh; afterwards it is as it was, to the bit."""

from pathlib import Path

import pytest
import torch
from support.scripted_model import sampler_of
from support.tiny_models import toy_network

from trueup.errors import CheckpointError
from trueup.feedback.records import Prompt
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Sampler, SamplingWeights

PROMPTS = [Prompt("abc"), Prompt("hello world")]
Values = dict[str, torch.Tensor]


@torch.no_grad()
def move(model: CausalModel) -> None:
    for value in model.trainable().values():
        value.mul_(-3.0)


def values(model: CausalModel) -> Values:
    return {name: value.detach().clone() for name, value in model.trainable().items()}


def same(one: Values, other: Values) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def kept(model: CausalModel) -> SamplingWeights:
    """The weights as they are now."""
    weights = SamplingWeights(model, keeps=True)
    weights.refresh(1)
    return weights


def full_model() -> CausalModel:
    return CausalModel(toy_network())


def adapted() -> CausalModel:
    return CausalModel(lora.add_lora(toy_network(), rank=2, alpha=4.0, dropout=0.0, targets="all-linear", base="toy"))


@pytest.mark.parametrize("make", [full_model, adapted])
def test_swapped_in_and_back(make: object) -> None:
    """Without a copy, and after an error, too; of an adapter the adapter alone is kept."""
    model = make()  # type: ignore[operator]
    then, weights = values(model), kept(model)
    assert set(weights.state()) == set(model.trainable())
    move(model)
    now, places = values(model), {name: value.data_ptr() for name, value in model.trainable().items()}
    with weights.in_place():
        assert same(values(model), then)
    assert same(values(model), now)
    assert {name: value.data_ptr() for name, value in model.trainable().items()} == places
    with pytest.raises(ZeroDivisionError), weights.in_place():
        1 / 0  # noqa: B018
    assert same(values(model), now)


def test_what_is_kept_does_not_follow_the_model_and_an_optimizer_goes_on() -> None:
    model = full_model()
    weights = kept(model)
    before = {name: value.clone() for name, value in weights.state().items()}
    optimizer = torch.optim.AdamW(list(model.trainable().values()), lr=0.1)
    for _ in range(2):
        with weights.in_place():
            pass
        sum(value.square().sum() for value in model.trainable().values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert same(dict(weights.state()), before)
    assert not same(values(model), before)


def test_restored_from_a_checkpoint() -> None:
    model = full_model()
    saved = values(model)
    weights = SamplingWeights(model, keeps=True)
    weights.restore(saved, 3)
    assert same(dict(weights.state()), saved) and weights.version == 3
    saved["model.norm.weight"].zero_()
    assert not same(dict(weights.state()), saved)  # a copy
    for wrong in ({**saved, "more": torch.zeros(1)}, {**saved, "model.norm.weight": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match=r"do not fit this model, beginning with mo"):
            weights.restore(wrong, 3)


def made(folder: Path, resync: int) -> InProcessSampler:
    return sampler_of(folder, max_new_tokens=8, resync=resync)


def ids(sampler: Sampler) -> list[object]:
    return [one.ids for several in sampler.sample(PROMPTS, 2, seed=3) for one in several]


def test_the_policy_itself_writes(tiny_model: Path) -> None:
    sampler = made(tiny_model, 1)
    sampler.weights.refresh(0)
    first = ids(sampler)
    move(sampler.model)
    assert ids(sampler) != first
    sampler.weights.refresh(1)
    assert sampler.sample(PROMPTS, 1, seed=3)[0][0].version == 1
    assert sampler.weights.state() == {}


def test_it_writes_as_it_was_at_the_last_refresh(tiny_model: Path) -> None:
    sampler = made(tiny_model, 32)
    sampler.weights.refresh(0)
    first = ids(sampler)
    move(sampler.model)
    now = values(sampler.model)
    assert ids(sampler) == first
    assert same(values(sampler.model), now)
    state = {name: value.clone() for name, value in sampler.weights.state().items()}
    sampler.weights.refresh(32)
    second = sampler.sample(PROMPTS, 2, seed=3)
    assert [one.ids for several in second for one in several] != first
    assert second[0][0].version == 32

    resumed = made(tiny_model, 32)
    move(resumed.model)
    resumed.weights.restore(state, 0)
    assert ids(resumed) == first
    resumed.weights.restore({}, 32)
    assert resumed.sample(PROMPTS, 2, seed=3) == second
