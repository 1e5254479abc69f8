"""The check on the first batch: the fastest layout that is exact, or none."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support import small_runs
from support.tiny_models import HYBRID, SHARABLE, char_tokenizer, token_group, toy_network
from torch import nn

from trueup.batch.stream import GroupSpan, Stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.models import lora
from trueup.models.attention import forked, grouped, names
from trueup.models.attention.grouped import Plan, plan_attention
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.selfcheck import ChosenAttention, check_attention, probe
from trueup.models.tokenizer import quiet_library
from trueup.training import api

PAIRS = [token_group(9, [8, 5], 1), token_group(14, [3, 6], 2)]
POINTS = [token_group(9, [8], 1), token_group(14, [3], 2)]
ONE_POINT = [token_group(9, [8], 1)]
every_batch = pytest.mark.parametrize("groups", [PAIRS, POINTS, ONE_POINT], ids=["pairs", "points", "one point"])


@pytest.mark.parametrize("name", SHARABLE)
def test_shared_prompts_where_they_are_exact_and_nothing_to_say(name: str) -> None:
    model = CausalModel(toy_network(name), attention="dense")
    assert check_attention(model, PAIRS, None) == ChosenAttention("grouped", "")
    assert model.attention == "dense"


@every_batch
def test_a_hybrid_gets_a_copied_cache_and_it_is_said(groups: list[TokenGroup[Any]]) -> None:
    check = check_attention(CausalModel(toy_network(HYBRID)), groups, None)
    assert check.attention == "forked"
    assert "shared-prompt layout does not fit this model (log-probabilities are off by up to" in check.message
    assert check.message.endswith("prompts are computed once into a cache, copied for every response")


REASONS = {"bloom": "off by up to", "gpt_oss": "the model's attention takes s_aux"}


@pytest.mark.parametrize("name", REASONS)
def test_attention_that_is_not_ours_to_compute_gets_a_copied_cache(name: str) -> None:
    check = check_attention(CausalModel(toy_network(name)), PAIRS, None)
    assert check.attention == "forked"
    assert REASONS[name] in check.message


def extended(layer: Any, states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
    """The state of a convolution before a response, without its gradient."""
    return torch.cat([layer.conv_states[state_idx].detach(), states], -1)


def forgotten(layer: Any, states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
    return torch.cat([layer.conv_states[state_idx] * 0, states], -1)


def unknown(*_: Any, **__: Any) -> torch.Tensor:
    raise IndexError("no such state\nhere")


@pytest.mark.parametrize(
    ("planted", "reason"),
    [(extended, r"gradients are off by 0\.\d+ of their norm"),
     (forgotten, r"log-probabilities are off by up to \d"), (unknown, "no such state here")],
)  # fmt: skip
def test_a_cache_that_is_not_exact_is_named_and_padded_rows_are_taken(planted: Callable[..., Any], reason: str) -> None:
    with mock.patch.object(forked, "_extending", lambda layer: partial(planted, layer)):
        check = check_attention(CausalModel(toy_network(HYBRID)), PAIRS, None)
    assert check.attention == "padded"
    assert re.search(rf"; a copied cache does not fit this model \({reason}\); prompts are rep", check.message)


def recomputing(model: CausalModel) -> None:
    with quiet_library():
        model.inner.gradient_checkpointing_enable()


def by_length(model: CausalModel) -> None:
    model.apart = lambda length: length > 9


@pytest.mark.parametrize(
    ("change", "reason"),
    [(recomputing, "computes activations again"), (by_length, "rotary frequencies hang")],
)  # fmt: skip
def test_a_copied_cache_is_not_taken_where_it_would_be_lost_or_wrong(change: Callable[[Any], Any], reason: str) -> None:
    model = CausalModel(toy_network(HYBRID))
    change(model)
    check = check_attention(model, PAIRS, None)
    assert check.attention == "padded"
    assert reason in check.message


def leaky(stream: Stream) -> Plan:
    """Every token sees all tokens before it, of whatever response or group."""
    return plan_attention(replace(stream, spans=(GroupSpan((0, stream.num_tokens), ()),)))


def leaky_within(stream: Stream) -> Plan:
    """A response sees the responses of its group that stand before it."""
    spans = tuple(GroupSpan((span.prompt[0], span.responses[-1][1]), ()) for span in stream.spans)
    return plan_attention(replace(stream, spans=spans))


@every_batch
@pytest.mark.parametrize("leak", [leaky, leaky_within])
def test_a_leak_between_responses_is_found(leak: Callable[[Stream], Plan], groups: list[TokenGroup[Any]]) -> None:
    """Also where every group has one response, so that nothing could leak in the batch itself."""
    with mock.patch.object(grouped, "plan_attention", side_effect=leak):
        check = check_attention(CausalModel(toy_network("llama")), groups, None)
    assert check.attention == "forked"
    assert "off by up to" in check.message


def test_the_probe_holds_two_groups_of_several_responses() -> None:
    for groups in (PAIRS, POINTS, ONE_POINT):
        spans = probe(groups).spans
        assert len(spans) == 2
        assert all(len(span.responses) >= 2 for span in spans)


def test_the_probe_stays_small_whatever_the_batch() -> None:
    batch = [token_group(20 + at, [10] * 8, at) for at in range(50)]
    assert probe(batch).num_tokens <= 2 * (21 + 3 * 10)


class Doubled(nn.Module):
    """A model that makes of its logits what no configuration tells."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.network(*args, **kwargs)
        output.logits = output.logits * 2
        return output

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "network" else getattr(self.network, name)


def nonlinear_head(network: Any) -> Any:
    network.lm_head = nn.Sequential(network.lm_head, nn.Tanh())
    return network


def unknown_body(network: Any) -> Any:
    network.base_model_prefix = "elsewhere"
    return network


@torch.no_grad()
def not_numbers(network: Any) -> Any:
    network.model.norm.weight[0] = torch.nan
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Doubled, r"log-probabilities of this Doubled cannot be reproduced.*off by up to"),
        (nonlinear_head, r"LlamaForCausalLM.*output head is a Sequential, not a plain linear"),
        (unknown_body, "the model's body cannot be told from its head"),
        (not_numbers, "off by up to nan"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_attention(CausalModel(change(toy_network("llama"))), PAIRS, None)


@pytest.mark.parametrize("wanted", names())
def test_a_layout_that_is_insisted_on_is_checked_too(wanted: str) -> None:
    assert check_attention(CausalModel(toy_network("llama")), PAIRS, wanted).attention == wanted
    hybrid = CausalModel(toy_network(HYBRID))
    if wanted in ("forked", "padded"):
        assert check_attention(hybrid, PAIRS, wanted).attention == wanted
    else:
        with pytest.raises(InputError, match="another --attention"):
            check_attention(hybrid, PAIRS, wanted)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_check_leaves_the_model_as_it_was(autocast: torch.dtype | None) -> None:
    """In training mode with dropout, and in bfloat16: it compares the function itself, in float32."""
    network = toy_network("gpt2")  # dropout of 0.1 everywhere
    network.train()
    model = CausalModel(network, attention="padded", autocast=autocast)
    before = torch.get_rng_state()
    assert check_attention(model, PAIRS, None).attention == "grouped"
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training
    assert (model.attention, model.autocast) == ("padded", autocast)
    assert network.config._attn_implementation == "sdpa"


def test_a_model_held_in_bfloat16_passes_within_its_rounding() -> None:
    assert check_attention(CausalModel(toy_network("llama").bfloat16()), PAIRS, None).attention == "grouped"


def test_an_adapted_model_passes() -> None:
    network = lora.add_lora(toy_network("llama"), rank=4, alpha=8, dropout=0.1, targets="all-linear", base="base")
    assert check_attention(CausalModel(network), PAIRS, None).attention == "grouped"


@pytest.mark.parametrize("name", ["tinystories-656k-bf16", "stories260K"])
def test_published_models_share_prompts(name: str, shared: Callable[[str], Path]) -> None:
    network = load(str(shared(f"models/{name}")), device=torch.device("cpu")).network
    assert check_attention(CausalModel(network), PAIRS, None) == ChosenAttention("grouped", "")


def test_a_run_of_a_hybrid_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    tokenizer = char_tokenizer()
    toy_network(HYBRID, vocab_size=len(tokenizer)).save_pretrained(tmp_path / "hybrid")
    tokenizer.save_pretrained(tmp_path / "hybrid")
    data = small_runs.write_feedback(tmp_path)
    more: dict[str, Any] = {"epochs": None, "steps": 3, "save_every": 1}
    values = small_runs.settings("dpo", tmp_path / "hybrid", data, tmp_path / "whole", **more)
    small_runs.run_here("dpo", values)
    small_runs.break_off("dpo", {**values, "output": str(tmp_path / "killed")}, before_step=3)
    api.resume(tmp_path / "killed", quiet=True)
    assert small_runs.model_bytes(tmp_path / "killed") == small_runs.model_bytes(tmp_path / "whole") != {}
    assert small_runs.metrics_of(tmp_path / "whole")[0]["rewards/margins"] == 0
    assert "computed once into a cache" in (tmp_path / "whole" / "run.log").read_text()
