"""A policy is sampled from as it was, and is afterwards as it is, to the bit."""

import pytest
import torch
from support.tiny_models import toy_network

from trueup.errors import CheckpointError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.weights import SamplingWeights


def moved(model: CausalModel) -> None:
    with torch.no_grad():
        for value in model.trainable().values():
            value.add_(0.1)


def values(model: CausalModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.trainable().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def adapted() -> CausalModel:
    return CausalModel(
        lora.add_lora(toy_network(), rank=2, alpha=4.0, dropout=0.0, targets="all-linear", base="toy")
    )


def kept(model: CausalModel) -> SamplingWeights:
    """The weights as they are now."""
    weights = SamplingWeights(model, keeps=True)
    weights.refresh(1)
    return weights


@pytest.mark.parametrize("make", [lambda: CausalModel(toy_network()), adapted], ids=["whole", "lora"])
def test_swapped_in_and_back(make: object) -> None:
    model = make()  # type: ignore[operator]
    then, weights = values(model), kept(model)
    moved(model)
    now, places = values(model), {name: value.data_ptr() for name, value in model.trainable().items()}
    with weights.in_place():
        assert same(values(model), then)
    assert same(values(model), now)
    assert {name: value.data_ptr() for name, value in model.trainable().items()} == places
    with pytest.raises(ZeroDivisionError), weights.in_place():
        1 / 0  # noqa: B018
    assert same(values(model), now)


def test_what_is_kept_does_not_follow_the_model_and_an_optimizer_goes_on() -> None:
    model = CausalModel(toy_network())
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


def test_of_an_adapter_the_adapter_alone_is_kept() -> None:
    model = adapted()
    assert set(kept(model).state()) == set(model.trainable())
    assert all("lora_" in name for name in kept(model).state())


def test_restored_from_a_checkpoint() -> None:
    model = CausalModel(toy_network())
    saved = values(model)
    weights = SamplingWeights(model, keeps=True)
    weights.restore(saved, 3)
    assert same(dict(weights.state()), saved) and weights.version == 3
    saved["model.norm.weight"].zero_()
    assert not same(dict(weights.state()), saved)  # a copy
    for wrong in ({**saved, "more": torch.zeros(1)}, {**saved, "model.norm.weight": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match=r"do not fit this model, beginning with mo"):
            weights.restore(wrong, 3)
