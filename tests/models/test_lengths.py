"""What a model makes of a row depends on the row alone: on no neighbour, no length and no mode of the module."""

from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import CONFIGS, EOS, gradients, token_group, toy_network
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM

from trueup.batch.stream import build_stream, collate_batch
from trueup.batch.tokens import TokenGroup
from trueup.models.attention import names
from trueup.models.causal import CausalModel
from trueup.models.head import Head
from trueup.models.prepare import disable_noise
from trueup.models.selfcheck import check_attention, keep_as_at_inference, naive_log_probs, probe, telling_length
from trueup.references.reference import Table
from trueup.sampling.decoding import Decoder, draw
from trueup.sampling.engines.in_process import beam_search
from trueup.settings.gathering_settings import SamplerSettings

SHORT = [token_group(9, [8, 5], 1), token_group(14, [3, 6], 2)]
FIRST_CONTEXT = 32
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": FIRST_CONTEXT,
    "short_factor": [1.0] * 4, "long_factor": [4.0, 6.0, 8.0, 16.0],
}  # fmt: skip
BOTH_SIDES = [token_group(9, [8, 5], 1), token_group(14, [3, 30], 2), token_group(40, [3, 30], 3),
              token_group(20, [20, 3, 11, 13], 4)]  # fmt: skip
MOE = {"num_experts_per_tok": 2, "sliding_window": 16}


def network(kind: str, **more: Any) -> Any:
    """A random model of an architecture that the toys do not have."""
    torch.manual_seed(0)
    config = {**CONFIGS["llama"], "head_dim": 8, **more}
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return made.eval()


WINDOW_IN_THE_MASK: dict[str, dict[str, Any]] = {
    "phimoe": MOE | {"num_local_experts": 4},
    "qwen2_moe": MOE | {
        "use_sliding_window": True, "max_window_layers": 2, "num_experts": 4, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", WINDOW_IN_THE_MASK)
def test_a_window_that_only_the_librarys_mask_has_is_seen_on_short_text(kind: str) -> None:
    model = CausalModel(network(kind, **WINDOW_IN_THE_MASK[kind]))
    assert check_attention(model, SHORT, None, 16).attention == "grouped"  # no row reaches it
    check = check_attention(model, SHORT, None, 512)
    assert check.attention == "forked"  # whose mask is the library's
    assert "off by up to" in check.message


@pytest.mark.parametrize(
    ("changes", "longest", "expected"),
    [
        ({}, 512, 0),
        ({"sliding_window": 16}, 512, 32),
        ({"sliding_window": 16}, 20, 20),
        ({"sliding_window": 16}, 16, 0),
        ({"attention_chunk_size": 40, "sliding_window": 16}, 512, 68),
        ({"rope_parameters": LONGROPE}, 512, 56),
        ({"sliding_window": None}, 512, 0),
        ({"sliding_window": 16, "max_position_embeddings": 24}, 512, 24),
        ({"index_topk": 16}, 512, 32),
        ({"index_topk": 16, "compress_rates": {"compressed_attention": 4}}, 512, 104),
    ],
)
def test_rows_are_as_long_as_tells(changes: dict[str, Any], longest: int, expected: int) -> None:
    config = AutoConfig.for_model("llama", **{**CONFIGS["llama"], **changes})
    assert telling_length(config, longest) == expected
    spans = probe(SHORT, expected).spans
    lengths = [one.prompt[1] - one.prompt[0] + r[1] - r[0] for one in spans for r in one.responses]
    assert max(lengths) == max(expected, 9 + 8)


def test_the_truth_is_each_row_by_itself() -> None:
    """A library that lets rows of a batch see each other is not taken for right."""
    model = CausalModel(network("phi3", rope_parameters=LONGROPE))
    stream = build_stream(BOTH_SIDES)
    with torch.no_grad():
        apart = [naive_log_probs(model, build_stream([group])) for group in alone(BOTH_SIDES)]
        assert torch.equal(naive_log_probs(model, stream), torch.cat(apart))


def test_no_more_logits_are_made_than_are_looked_at() -> None:
    """Of a row of many thousand tokens they would take more memory than training does."""
    model, made = CausalModel(network("phi3")), list[int]()
    model.inner.get_output_embeddings().register_forward_hook(lambda m, given, z: made.append(z.shape[-2]))
    stream = probe(SHORT, 400)
    with torch.no_grad():
        naive_log_probs(model, stream)
    assert made == stream.length_N.tolist()


def alone(groups: list[TokenGroup[Any]]) -> list[TokenGroup[Any]]:
    return [TokenGroup(group.prompt, (row,), None) for group in groups for row in group.responses]


@pytest.mark.parametrize("attention", names())
def test_rotary_frequencies_are_those_of_a_rows_own_length(attention: str) -> None:
    model = CausalModel(network("phi3", rope_parameters=LONGROPE), attention=attention)
    expected = gradients(model.network, naive_log_probs(model, build_stream(BOTH_SIDES)).sum())
    found = gradients(model.network, model.log_probs(build_stream(BOTH_SIDES)).token_S.sum())
    with torch.no_grad():
        together = model.log_probs(build_stream(BOTH_SIDES)).token_S
        torch.testing.assert_close(together, naive_log_probs(model, build_stream(BOTH_SIDES)))
        apart = [model.log_probs(build_stream([group])).token_S for group in alone(BOTH_SIDES)]
    torch.testing.assert_close(together, torch.cat(apart))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_cached_reference_is_a_live_one_whatever_rows_stand_together() -> None:
    model, table = CausalModel(network("phi3", rope_parameters=LONGROPE)), Table()
    table.fill(model, [collate_batch(part, lambda *_: None) for part in (BOTH_SIDES[::2], BOTH_SIDES[1::2])])
    for part in (BOTH_SIDES, *([group] for group in BOTH_SIDES)):
        batch = collate_batch(part, lambda *_: None)
        with torch.no_grad():
            live = model.log_probs(batch.stream).token_S
        torch.testing.assert_close(table.log_probs(batch).token_S, live, rtol=0, atol=1e-5)


def test_scaling_by_length_is_that_of_a_rows_own() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    model = CausalModel(toy_network("llama", max_position_embeddings=FIRST_CONTEXT, rope_parameters=rope))
    stream = build_stream(BOTH_SIDES)
    assert len(stream.split(model.apart or len)) == 6  # rows of 33, 40, 43, 44 and 70 tokens; the short ones
    with torch.no_grad():
        torch.testing.assert_close(model.log_probs(stream).token_S, naive_log_probs(model, stream))


NOISY: dict[str, dict[str, float]] = {
    "starcoder2": {"residual_dropout": 0.1, "embedding_dropout": 0.2, "attention_dropout": 0.3},
    "seed_oss": {"residual_dropout": 0.1, "attention_dropout": 0.1},
    "mixtral": {"router_jitter_noise": 0.1},
    "phimoe": {"router_jitter_noise": 0.1},
}


@pytest.mark.parametrize("kind", NOISY)
def test_whatever_is_random_in_training_is_switched_off_and_named(kind: str) -> None:
    made = network(kind, **NOISY[kind])
    with torch.no_grad():
        before = naive_log_probs(CausalModel(made), build_stream(SHORT))
        found = disable_noise(made.train(), keep_adapters=False)
        assert torch.equal(naive_log_probs(CausalModel(made), build_stream(SHORT)), before)
    assert sorted(found.values()) == sorted(NOISY[kind].values())
    assert all(any(name in asked for asked in NOISY[kind]) for name in found)
    assert {key: getattr(made.config, key) for key in NOISY[kind]} == NOISY[kind]  # which goes out with the model
    assert keep_as_at_inference(CausalModel(made), SHORT) == []


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("mixtral", ["MixtralSparseMoeBlock"]), ("starcoder2", ["Starcoder2Attention", "Starcoder2MLP"])],
)
def test_what_differs_in_training_is_found_and_kept_as_at_inference(kind: str, kept: list[str]) -> None:
    made = network(kind, **{"residual_dropout": 0.1, "router_jitter_noise": 0.1}).train()
    model, stream = CausalModel(made), build_stream(SHORT)
    before = torch.get_rng_state()
    assert keep_as_at_inference(model, SHORT) == kept
    assert torch.equal(torch.get_rng_state(), before)
    assert made.training
    with torch.no_grad(), model.without_dropout():
        expected = model.log_probs(stream).token_S
    with torch.no_grad():
        assert torch.equal(model.log_probs(stream).token_S, expected)
    assert {type(one).__name__ for one in made.modules() if not one.training} == set(kept)


@pytest.mark.parametrize("scale", [1 / 0.7, 0.0625])
def test_a_scale_of_bfloat16_logits_rounds_nothing_more(scale: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32).bfloat16(), torch.randn(512, 32).bfloat16()
    products = Head(weight).products(hidden)
    assert torch.equal(products, linear(hidden, weight))
    assert torch.equal(Head(weight, scale=scale).logits(products), products.float() * scale)
    capped = Head(weight, scale=scale, softcap=5.0).logits(products)
    assert torch.equal(capped, 5.0 * torch.tanh(products.float() * scale / 5.0))


@pytest.mark.parametrize("decode", ["sample", "greedy"])
def test_tokens_that_the_tokenizer_has_not_are_never_written(decode: str) -> None:
    """The model would rather write one of them than anything else."""
    made = toy_network("llama", vocab_size=80)
    with torch.no_grad():
        made.lm_head.weight[64:] *= 8
    settings = SamplerSettings(decode=decode, max_new_tokens=12, responses=1)  # type: ignore[arg-type]
    prompts = [list(range(3, 3 + size)) for size in (4, 9, 6)]
    free, held = (
        draw(
            Decoder(made, [EOS], vocabulary),
            prompts,
            settings=settings,
            generator=torch.Generator().manual_seed(0),
        )
        for vocabulary in (None, 64)
    )
    assert max(max(one.ids) for one in free) >= 64
    assert max(max(one.ids) for one in held) < 64
    groups = [token_group(prompt, [one.ids]) for prompt, one in zip(prompts, held, strict=True)]
    exact = naive_log_probs(CausalModel(made), build_stream(groups))  # of all tokens, as training has them
    written = np.concatenate([one.log_probs for one in held])
    assert written == pytest.approx(exact.detach().numpy(), abs=1e-4)


def test_no_beam_holds_tokens_that_the_tokenizer_has_not() -> None:
    made = toy_network("llama", vocab_size=80)
    with torch.no_grad():
        made.lm_head.weight[64:] *= 8
    for vocabulary, expected in ((None, True), (64, False)):
        decoder = Decoder(made, [EOS], vocabulary)
        found = beam_search(decoder, [[3, 4, 5]], beams=4, groups=2, penalty=0.5, rooms=[8])
        assert any(token >= 64 for one in found[0] for token in one.ids) is expected
