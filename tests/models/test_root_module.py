"""A model is one module whose forward pass is all that reads its weights, as sharding and compilation need it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.tiny_models import VOCABULARY, token_group, toy_network
from support.tiny_reward_models import save_reward
from torch import nn

from trueup.batch.stream import build_stream
from trueup.models import lora
from trueup.models.attention import names
from trueup.models.causal import CausalModel, StreamModel
from trueup.models.load import quiet
from trueup.models.reward import RewardModel
from trueup.models.reward_load import load_reward

STREAM = build_stream([token_group(4, [3, 2], 0), token_group(5, [1], 1)])


def hide_weights(model: nn.Module) -> None:
    """What a sharded model does: a module's own parameters are there inside its forward pass, and nowhere else."""
    kept = {id(value): value.data.clone() for value in model.parameters()}

    def show(module: nn.Module, arguments: Any) -> None:
        for value in module.parameters(recurse=False):
            value.data.copy_(kept[id(value)])

    def hide(module: nn.Module, *unused: Any) -> None:
        for value in module.parameters(recurse=False):
            value.data.fill_(torch.nan)

    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(show)
            module.register_forward_hook(hide)
            hide(module)


def full() -> CausalModel:
    return CausalModel(toy_network("llama"))


def tied() -> CausalModel:
    return CausalModel(toy_network("gpt2"))


def adapted() -> CausalModel:
    network = lora.add_lora(toy_network(), rank=2, alpha=4.0, dropout=0.0, targets="all-linear", base="toy")
    for value in lora.factors(network, lora.POLICY).values():
        nn.init.normal_(value)
    return CausalModel(network)


@torch.no_grad()
@pytest.mark.parametrize("attention", names())
@pytest.mark.parametrize("make", [full, tied, adapted])
def test_no_weight_is_read_outside_the_forward_pass_of_its_module(
    make: Callable[[], CausalModel], attention: str
) -> None:
    model = make()
    model.set_attention(attention)
    model.add_value_head()
    assert model.value_head is not None
    nn.init.normal_(model.value_head.weight)
    parts = ("values", "entropy")
    expected = model.outputs(STREAM, parts)
    hide_weights(model)
    found = model.outputs(STREAM, parts)
    for name in ("token_S", "value_S", "entropy_S"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert all(value.isnan().all() for value in model.parameters())


@torch.no_grad()
def test_nor_is_one_of_a_reward_model(tmp_path: Any) -> None:
    model = RewardModel(load_reward(str(save_reward(tmp_path / "rm")), device=torch.device("cpu")).network)
    expected = model.outputs(STREAM).score_N
    hide_weights(model)
    assert torch.equal(model.outputs(STREAM).score_N, expected)


def test_every_parameter_is_one_of_the_root() -> None:
    model = full()
    model.add_value_head()
    own = {"value_head.weight", "value_head.bias"}
    assert set(dict(model.named_parameters())) == own | {
        f"network.{name}" for name, _ in model.network.named_parameters()
    }
    assert set(model.trainable()) == own | {name for name, _ in model.network.named_parameters()}


def test_no_module_is_another_one_after_the_first_forward_pass() -> None:
    """Whoever shards or compiles it has seen all of it."""
    model = full()
    before = dict(model.named_modules())
    model.log_probs(STREAM)
    assert {name: id(module) for name, module in model.named_modules()} == {
        name: id(module) for name, module in before.items()
    }


def test_every_way_to_read_it_calls_the_root() -> None:
    model, called = full(), []
    model.register_forward_hook(lambda module, *unused: called.append(module))
    model.log_probs(STREAM)
    model.outputs(STREAM, ("entropy",))
    assert called == [model, model]


def test_the_head_is_the_librarys_own_to_the_library(tmp_path: Any) -> None:
    """Generation, the folder that is written, and the ties of a model that is read again."""
    network = toy_network("llama", tie_word_embeddings=True)
    ids = torch.tensor([[1, 7, 9]])
    with torch.no_grad():
        expected, names_ = network(input_ids=ids).logits, list(network.state_dict())
        model = CausalModel(network)
        model.log_probs(STREAM)
        with model.plain() as plain:
            assert torch.equal(plain(input_ids=ids).logits, expected)
    assert list(network.state_dict()) == names_
    assert network.lm_head.weight is network.model.embed_tokens.weight
    with quiet():
        network.save_pretrained(tmp_path)
    again = type(network).from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, network.lm_head.weight)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert network.lm_head(torch.zeros(1, 32)).shape == (1, VOCABULARY)


def test_a_model_without_a_forward_pass_says_so() -> None:
    with pytest.raises(NotImplementedError):
        StreamModel(toy_network()).outputs(STREAM)
