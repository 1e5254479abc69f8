"""A model is one module whose forward pass is all that reads its weights, as sharding and compilation need it. And
what it gives beside log-probabilities: values by a head of its own, and entropies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.refusals import refused
from support.tiny_models import VOCABULARY, token_group, toy_network
from support.tiny_reward_models import save_reward
from torch import nn

from trueup.batch.rows import LogProbs, Rollouts
from trueup.batch.stream import build_stream
from trueup.models import lora
from trueup.models.attention import names
from trueup.models.causal import CausalModel
from trueup.models.reward import RewardModel, load_reward
from trueup.models.tokenizer import quiet_library
from trueup.objectives.ppo import ppo

GROUPS = [token_group(4, [3, 2], 0), token_group(5, [1], 1)]
STREAM = build_stream(GROUPS)


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
    with quiet_library():
        network.save_pretrained(tmp_path)
    again = type(network).from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, network.lm_head.weight)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert network.lm_head(torch.zeros(1, 32)).shape == (1, VOCABULARY)


def valued(name: str = "llama") -> CausalModel:
    model = CausalModel(toy_network(name))
    model.add_value_head()
    return model


def test_values_start_at_0_and_draw_nothing() -> None:
    model = CausalModel(toy_network())
    before = torch.get_rng_state()
    model.add_value_head()
    assert torch.equal(torch.get_rng_state(), before)
    value_S = model.outputs(STREAM, model.parts).value_S
    assert value_S is not None and value_S.dtype == torch.float32
    assert value_S.tolist() == [0] * 6


def test_log_probabilities_are_as_without_it() -> None:
    plain, model = CausalModel(toy_network()), valued()
    assert plain.outputs(STREAM).value_S is None
    assert torch.equal(model.outputs(STREAM, ("values",)).token_S, plain.outputs(STREAM).token_S)
    assert model.log_probs(STREAM).value_S is None  # what a reference is asked for


@pytest.mark.parametrize("layout", names())
def test_a_value_is_read_where_its_token_is_predicted(layout: str) -> None:
    """Before the token: the first of every response has that of the prompt's end, which the library computes alike."""
    model = valued()
    model.set_attention(layout)
    assert model.value_head is not None
    with torch.no_grad():
        model.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.value_head.bias.fill_(0.5)
        found = model.outputs(STREAM, ("values",)).value_S
        expected = []
        with model.plain() as network:
            for group in GROUPS:
                for row in group.responses:
                    ids = torch.tensor([[*group.prompt, *row.ids]]).long()
                    hidden = network.model(input_ids=ids).last_hidden_state[0]
                    value_L = model.value_head(hidden)[:, 0]
                    expected.append(value_L[len(group.prompt) - 1 : -1])
    assert found is not None
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    assert found[0] == found[3]  # two responses to one prompt


def test_it_is_trained_with_the_body_it_shares() -> None:
    model = valued()
    assert model.value_head is not None
    trained = model.trainable().keys()
    assert trained - dict(model.network.named_parameters()).keys() == {"value_head.weight", "value_head.bias"}
    with torch.no_grad():
        model.value_head.weight.fill_(0.1)
    value_S = model.outputs(STREAM, model.parts).value_S
    assert value_S is not None
    ((value_S - 1) ** 2).sum().backward()
    moved = {name for name, p in model.trainable().items() if p.grad is not None and p.grad.abs().max() > 0}
    assert {"value_head.weight", "value_head.bias", "model.embed_tokens.weight"} <= moved
    assert "lm_head.weight" not in moved


def test_products_in_bfloat16_leave_it_in_float32() -> None:
    model = CausalModel(toy_network(), autocast=torch.bfloat16)
    model.add_value_head()
    value_S = model.outputs(STREAM, model.parts).value_S
    assert value_S is not None and value_S.dtype == torch.float32


def test_a_model_without_a_plain_head_is_refused_in_one_line() -> None:
    network = toy_network()
    network.lm_head = torch.nn.Sequential(network.lm_head)
    with refused(r"a value head cannot be put on this LlamaForCausalLM: .* such as rloo"):
        CausalModel(network).add_value_head()


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere"])
@pytest.mark.parametrize("attention", names())
def test_entropies_are_those_of_the_model_and_so_is_their_gradient(attention: str, name: str) -> None:
    """A PPO loss with values and an entropy bonus, against a plain computation from the library's own logits."""
    found: list[dict[str, torch.Tensor]] = []
    index = Rollouts(*(torch.linspace(start, start + 1, 6) for start in (-3.0, -0.5, 0.2, 0.1)))
    for plain in (False, True):
        model = valued(name)
        model.set_attention(attention)
        assert model.value_head is not None
        nn.init.constant_(model.value_head.weight, 0.1)
        given = plainly(model) if plain else model.outputs(STREAM, ("values", "entropy"))
        loss = ppo(given, None, index, entropy_coef=0.7)
        assert loss.metrics["policy/entropy"].shape == (6,)
        loss.per_example.sum().backward()
        values = dict(model.named_parameters())
        found.append({key: value.grad for key, value in values.items() if value.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        assert (gradient - found[1][key]).norm() <= 1e-4 * (1 + found[1][key].norm()), key


def plainly(model: CausalModel) -> LogProbs:
    """The same by all logits of each response in a row of its own."""
    assert model.value_head is not None
    tokens, values, entropies = [], [], []
    with model.plain() as network:
        for group in GROUPS:
            for row in group.responses:
                ids = torch.tensor([[*group.prompt, *row.ids]]).long()
                output = network(input_ids=ids, output_hidden_states=True)
                log_p = output.logits[0, len(group.prompt) - 1 : -1].float().log_softmax(-1)
                tokens.append(log_p.gather(-1, torch.from_numpy(row.ids).long()[:, None])[:, 0])
                entropies.append(-(log_p.exp() * log_p).sum(-1))
                values.append(model.value_head(output.hidden_states[-1][0, len(group.prompt) - 1 : -1])[:, 0])
    return LogProbs(torch.cat(tokens), STREAM.length_N, STREAM.prompt_N, torch.cat(values), torch.cat(entropies))
