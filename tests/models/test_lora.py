"""Adapters: where they stand, what they leave alone, and the mixing of two in their product."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.refusals import refused
from support.tiny_models import token_group, toy_network
from torch import Tensor

from trueup.batch.stream import build_stream
from trueup.models import lora
from trueup.models.causal import CausalModel

STREAM = build_stream([token_group(9, [8, 5], 1), token_group(4, [3], 2)])


def adapted(name: str = "llama", **settings: Any) -> Any:
    chosen = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear", "base": "base", **settings}
    return lora.add_lora(toy_network(name), **chosen)


def values(network: Any) -> Tensor:
    with torch.no_grad():
        return CausalModel(network).log_probs(STREAM).token_S


def learn(network: Any, seed: int = 0) -> None:
    """Move the policy's factors, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for factor in lora.factors(network, lora.POLICY).values():
        with torch.no_grad():
            factor.add_(torch.randn(factor.shape, generator=generator), alpha=0.1)


def trainable(network: Any) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox", "gpt2", "opt"])
def test_a_fresh_adapter_changes_no_bit_and_trains_nothing_else(name: str) -> None:
    network = adapted(name)
    # B is zero, and x + 0 is x.
    assert torch.equal(values(network), values(toy_network(name)))
    assert trainable(network)
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable(network))
    learn(network)
    assert (values(network) - values(toy_network(name))).abs().max() > 0.01


def test_targets_by_name_and_every_linear_layer_but_the_head() -> None:
    assert {name.rsplit(".", 1)[1] for name in lora.layers(adapted(targets=("q_proj", "up_proj")))} == {
        "q_proj",
        "up_proj",
    }
    found = {name.rsplit(".", 1)[1] for name in lora.layers(adapted())}
    assert found == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_the_transposed_layers_of_gpt2_learn() -> None:
    network = adapted("gpt2", targets=("c_attn", "c_proj"))
    loss = CausalModel(network).log_probs(STREAM).token_S.sum()
    loss.backward()
    for name, factor in lora.factors(network, lora.POLICY).items():
        assert factor.grad is not None
        assert (factor.grad.abs().max() > 0) == name.endswith(".B")  # A's is B's transpose times something: zero
    attention = lora.layers(network)["base_model.model.transformer.h.0.attn.c_attn"]
    assert attention.lora_A["default"].weight.shape == (4, 32)
    assert attention.lora_B["default"].weight.shape == (96, 4)


def test_unknown_targets_are_refused_with_those_there_are() -> None:
    with refused(r"lora.targets \('query',\).*linear layers are: down_proj, gate_proj, k_proj, lm_head, o_proj"):
        adapted(targets=("query",))


def test_an_adapter_on_the_head_is_refused() -> None:
    with refused(r"lora.targets \('q_proj', 'lm_head'\).*output head.*Leave"):
        adapted(targets=("q_proj", "lm_head"))


def test_an_adapter_on_the_embeddings_is_refused() -> None:
    """It has factors of another kind, which neither a copy nor a mixture of products would take along."""
    with refused(r"trains .*lora_embedding_A.*Give an adapter of linear layers"):
        adapted(targets=("q_proj", "embed_tokens"))


def state(network: Any) -> tuple[Any, set[str], Tensor]:
    return network.active_adapters, trainable(network), values(network)


@pytest.fixture
def network() -> Iterator[Any]:
    """A policy that has learned, and its frozen adapter of before."""
    made = adapted()
    learn(made, 1)
    lora.add_reference(made)
    learn(made, 2)
    return made


@pytest.mark.parametrize("name", [None, lora.REFERENCE])
def test_what_was_on_and_trainable_is_so_again_afterwards(network: Any, name: str | None) -> None:
    adapters, parameters, before = state(network)
    with pytest.raises(KeyError), lora.adapter(network, name), torch.no_grad():
        assert not torch.equal(values(network), before)
        assert not any(factor.requires_grad for factor in lora.factors(network, lora.REFERENCE).values())
        raise KeyError
    again = state(network)
    assert again[0] == adapters == ["default"]
    assert again[1] == parameters
    assert torch.equal(again[2], before)
    loss = CausalModel(network).log_probs(STREAM).token_S.sum()
    loss.backward()
    assert all(factor.grad is not None for factor in lora.factors(network, lora.POLICY).values())
    assert all(factor.grad is None for factor in lora.factors(network, lora.REFERENCE).values())


def test_without_an_adapter_the_base_model_computes(network: Any) -> None:
    with lora.adapter(network, None):
        assert torch.equal(values(network), values(toy_network("llama")))


def test_the_reference_is_a_frozen_copy_of_then() -> None:
    network = adapted()
    learn(network, 1)
    then = values(network)
    lora.add_reference(network)
    assert torch.equal(values(network), then)
    learn(network, 2)
    with lora.adapter(network, lora.REFERENCE):
        assert torch.equal(values(network), then)
    assert not any("reference" in name for name in trainable(network))


def test_a_reference_has_no_dropout() -> None:
    network = adapted(dropout=0.5)
    learn(network)
    lora.add_reference(network)
    network.train()
    assert not torch.equal(values(network), values(network))
    with lora.adapter(network, lora.REFERENCE):
        assert torch.equal(values(network), values(network))


OUT, IN, RANK = 64, 48, 2


def random_factors(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.A": torch.randn(RANK, IN, generator=generator),
        "layer.B": torch.randn(OUT, RANK, generator=generator),
    }


def product(factors: dict[str, Tensor]) -> Tensor:
    return factors["layer.B"].double() @ factors["layer.A"].double()


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0])
def test_mixing_is_exact_in_the_product_however_often(alpha: float) -> None:
    policy, reference = random_factors(0), random_factors(1)
    dense = product(reference)
    for update in range(60):
        noise = random_factors(100 + update)
        policy = {name: value + 0.3 * noise[name] for name, value in policy.items()}
        reference = lora.mix_products(policy, reference, alpha)
        dense = alpha * product(policy) + (1 - alpha) * dense
        # Each update rounds the factors to float32, 6e-8 of the largest, and forgets by 1 - alpha.
        assert (product(reference) - dense).norm() <= 1e-6 * dense.norm()
        # What a policy of k updates ago still adds falls below rounding once (1 - alpha)^k does.
        remembered = {0.3: 60, 0.6: 21, 1.0: 1}[alpha]
        assert reference["layer.A"].shape[0] <= min(IN, remembered * RANK)
        assert reference["layer.A"].dtype == torch.float32


def test_alpha_of_one_copies_the_factors_themselves() -> None:
    policy = random_factors(0)
    mixed = lora.mix_products(policy, random_factors(1), 1.0)
    for name, value in policy.items():
        assert torch.equal(mixed[name], value)
        assert mixed[name].data_ptr() != value.data_ptr()


def test_two_fresh_adapters_mix_to_nothing() -> None:
    fresh = {**random_factors(0), "layer.B": torch.zeros(OUT, RANK)}
    mixed = lora.mix_products(fresh, fresh, 0.6)
    assert mixed["layer.A"].shape == (1, IN)
    assert (product(mixed) == 0).all()
