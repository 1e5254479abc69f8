"""A model as a function of streams: what it leaves as it was, and what may be switched around it."""

import hashlib
import struct
from collections.abc import Callable

import pytest
import torch
from support.tiny_models import EOS, SHARABLE, gradients, naive_log_probs, token_group, toy_network
from torch import Tensor

from trueup.batch.stream import build_stream
from trueup.models.attention import names
from trueup.models.attention.padded import inputs
from trueup.models.causal import CausalModel, identity_of, model_identity, plain_attention

GROUPS = [token_group(9, [8, 5], 1), token_group(1, [3], 2)]
every_layout = pytest.mark.parametrize("layout", names())


def test_padded_rows_repeat_the_prompt_and_point_at_the_predictor() -> None:
    rows = inputs(build_stream([token_group([5, 6], [[7, 2], [8]]), token_group([9], [[3, 4, 2]])]))
    assert rows.keywords["input_ids"].tolist() == [[5, 6, 7, 2], [5, 6, 8, 0], [9, 3, 4, 2]]
    assert rows.keywords["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert rows.source_S.tolist() == [1, 2, 5, 8, 9, 10]


@every_layout
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_inside_plain_the_library_generates_as_if_nothing_were_there(name: str, layout: str) -> None:
    prompt = torch.tensor([[5, 9, 17, 33]])
    untouched = toy_network(name)
    untouched.set_attn_implementation("eager")
    expected = untouched.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    model = CausalModel(toy_network(name), attention=layout)
    before = model.network.config._attn_implementation
    with pytest.raises(KeyError), model.plain() as network:
        got = network.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
        raise KeyError
    assert got.tolist() == expected.tolist()
    assert got.shape[1] > 4
    assert EOS not in got[:, :-1]
    assert model.network.config._attn_implementation == before


@pytest.mark.parametrize("layout", [name for name in names() if name != "forked"])
def test_no_key_or_value_is_kept_for_later_tokens(layout: str) -> None:
    """A cache costs memory, and would keep the library from seeing what a sequence is. `forked` is made of one."""
    network = toy_network()
    kept: list[object] = []
    network.model.register_forward_hook(lambda module, inputs, output: kept.append(output.past_key_values))
    CausalModel(network, attention=layout).log_probs(build_stream(GROUPS))
    assert kept == [None]


@pytest.mark.parametrize("name", SHARABLE)
def test_a_soft_cap_has_no_library_attention_but_the_eager_one(name: str) -> None:
    network = toy_network(name)
    assert plain_attention(network) == ("eager" if name == "gemma2" else "sdpa")
    network.config.attn_logit_softcapping = 30.0
    assert plain_attention(network) == "eager"


@every_layout
def test_bfloat16_products_of_float32_parameters(layout: str) -> None:
    network = toy_network()
    exact_S = naive_log_probs(network, GROUPS).detach()
    model = CausalModel(network, attention=layout, autocast=torch.bfloat16)
    token_S = model.log_probs(build_stream(GROUPS)).token_S
    assert token_S.dtype == torch.float32
    # bfloat16 keeps 8 bits: about 1 % of log-probabilities of 1 to 10, over two layers.
    assert 0 < (token_S - exact_S).abs().mean() < 0.1
    grads = gradients(network, token_S.sum())
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    assert all(grad.isfinite().all() for grad in grads.values())


def test_without_dropout_is_the_function_itself_and_draws_nothing() -> None:
    network = toy_network("gpt2")  # dropout of 0.1 everywhere
    stream, model = build_stream(GROUPS), CausalModel(network)
    with torch.no_grad():
        expected_S = model.log_probs(stream).token_S
        network.train()
        before = torch.get_rng_state()
        with pytest.raises(KeyError), model.without_dropout():
            assert torch.equal(model.log_probs(stream).token_S, expected_S)
            raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training


WEIGHTS = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([5.0])}
CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one bit": lambda w: {**w, "b": torch.nextafter(w["b"], torch.tensor([9.0]))},
    "sign of zero": lambda w: {**w, "b": torch.tensor([-0.0])},
    "dtype": lambda w: {**w, "a": w["a"].double()},
    "shape": lambda w: {**w, "a": w["a"].view(2, 2)},
    "name": lambda w: {"a": w["a"], "c": w["b"]},
    "swapped": lambda w: {"a": w["b"], "b": w["a"]},
    "one less": lambda w: {"a": w["a"]},
    "an empty one more": lambda w: {**w, "c": torch.zeros(0)},
}


def identity(weights: dict[str, Tensor]) -> str:
    return identity_of(weights.items())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_another_identity(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    assert identity(change(WEIGHTS)) != identity(WEIGHTS)


def test_order_memory_and_copies_do_not_matter() -> None:
    strided = torch.stack([WEIGHTS["a"], WEIGHTS["a"]], 1)[:, 0].requires_grad_()
    assert not strided.is_contiguous()
    assert identity({"b": WEIGHTS["b"].clone(), "a": strided}) == identity(WEIGHTS)


def test_what_is_hashed() -> None:
    """Stored in checkpoints and caches: any other choice of bytes makes them unreadable."""
    weights = {"x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "n": torch.tensor(3)}
    hashed = b"n torch.int64 ()\n" + struct.pack("<q", 3) + b"x torch.bfloat16 (2,)\n" + b"\xc0\x3f\x00\xc0"
    assert identity(weights) == hashlib.sha256(hashed).hexdigest()[:16]


def test_models() -> None:
    network = toy_network()
    before = model_identity(network)
    assert before == model_identity(toy_network())
    assert before != model_identity(toy_network(seed=1))
    with torch.no_grad():
        network.model.norm.weight[3] += 1e-6
    assert model_identity(network) != before
