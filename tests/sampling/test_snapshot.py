"""A policy is sampled from as it was, and is afterwards as it is, to the bit."""

import pytest
import torch
from support.tiny_models import toy_network

from trueup.errors import CheckpointError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.snapshot import Snapshot


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


@pytest.mark.parametrize("make", [lambda: CausalModel(toy_network()), adapted], ids=["whole", "lora"])
def test_swapped_in_and_back(make: object) -> None:
    model = make()  # type: ignore[operator]
    then, snapshot = values(model), Snapshot.of(model)
    moved(model)
    now, places = values(model), {name: value.data_ptr() for name, value in model.trainable().items()}
    with snapshot.in_place(model):
        assert same(values(model), then)
    assert same(values(model), now)
    assert {name: value.data_ptr() for name, value in model.trainable().items()} == places
    with pytest.raises(ZeroDivisionError), snapshot.in_place(model):
        1 / 0  # noqa: B018
    assert same(values(model), now)


def test_a_snapshot_does_not_follow_the_model_and_an_optimizer_goes_on() -> None:
    model = CausalModel(toy_network())
    snapshot = Snapshot.of(model)
    before = {name: value.clone() for name, value in snapshot.tensors.items()}
    optimizer = torch.optim.AdamW(list(model.trainable().values()), lr=0.1)
    for _ in range(2):
        with snapshot.in_place(model):
            pass
        sum(value.square().sum() for value in model.trainable().values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert same(snapshot.tensors, before)
    assert not same(values(model), before)


def test_an_adapter_s_snapshot_holds_the_adapter_alone() -> None:
    model = adapted()
    assert set(Snapshot.of(model).tensors) == set(model.trainable())
    assert all("lora_" in name for name in Snapshot.of(model).tensors)


def test_restored_from_a_checkpoint() -> None:
    model = CausalModel(toy_network())
    saved = values(model)
    restored = Snapshot.restored(saved, model)
    assert same(restored.tensors, saved)
    saved["model.norm.weight"].zero_()
    assert not same(restored.tensors, saved)  # a copy
    for wrong in ({}, {**saved, "more": torch.zeros(1)}, {**saved, "model.norm.weight": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match=r"do not fit this model, beginning with (lm|mo)"):
            Snapshot.restored(wrong, model)
