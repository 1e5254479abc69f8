"""Which causal language models of transformers are computed exactly?

Every architecture that the library builds by name is built tiny, with random weights, windows, chunks and first
contexts of a few tokens, and all that is random in training as its configuration has it. The check at the start of a
run sees short rows alone, and chooses a layout; then log-probabilities in training mode, of rows of many lengths in one
batch, are compared with the library's own forward pass of each row by itself, before anything was done to the model:

    exact     the prompt is computed once for all responses
    padded    prompts are repeated, and the numbers are right
    refused   the check refuses the model, with its reason
    wrong     anything else
    unbuilt   not a causal language model by itself, or not built at this size

    python benchmarks/architectures/run.py --output benchmarks/architectures/result.json
"""

import argparse
import json
import multiprocessing
import queue
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from trueup.batch.stream import build_stream
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.models.causal import CausalModel
from trueup.models.prepare import disable_noise
from trueup.models.selfcheck import check_attention, keep_as_at_inference

VOCABULARY, LONGEST, LAYERS = 96, 96, 4
SECONDS = 180
"""For one architecture."""
WINDOW = 8
SIZES: dict[str, int] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "emb_dim", "embed_dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "input_embedding_size", "output_embedding_size"), 32),
    **dict.fromkeys(("lru_width", "attention_hidden_size", "embedding_dim", "mamba_d_ssm"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "dim_ff", "d_inner", "ffn_hidden_size"), 64),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "feed_forward_size", "intermediate_size_mlp"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size", "adapter_rank"), 16),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("num_decoder_layers", "encoder_layers", "num_encoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "linear_num_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("swa_num_attention_heads", "mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("linear_num_key_heads", "linear_key_head_dim", "index_n_heads"), 2),
    **dict.fromkeys(("head_dim", "d_head", "dim_head", "attention_head_size", "kv_channels", "v_head_dim"), 8),
    **dict.fromkeys(("swa_head_dim", "index_head_dim", "linear_value_head_dim", "linear_head_dim", "d_rel"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim", "attention_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "query_pre_attn_scalar"), 16),
    **dict.fromkeys(("laurel_rank", "hidden_size_per_layer_input", "dim_model_base", "router_hidden_size"), 16),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim", "state_size", "ssm_state_size"), 16),
    **dict.fromkeys(("mamba_d_state", "mamba_dt_rank", "time_step_rank"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("num_dense_layers", "n_groups", "mamba_n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id", "eod_token_id"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 512),
    **dict.fromkeys(("model_max_length", "max_target_positions"), 512),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "window_size"), WINDOW),
    **dict.fromkeys(("local_attention", "keep_window_size", "local_attention_window_len"), 2 * WINDOW),
    **dict.fromkeys(("attention_chunk_size", "original_max_position_embeddings", "floor_scale"), 2 * WINDOW),
    **dict.fromkeys(
        (
            "log_scaling_n_floor",
            "rel_extent",
            "index_topk",
        ),
        16,
    ),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size", "index_block_size", "block_size"), WINDOW),
    **dict.fromkeys(("index_topk_blocks", "no_rope_layer_interval", "global_attn_every_n_layers"), 2),
    **dict.fromkeys(("sliding_window_pattern", "_sliding_window_pattern", "attn_layer_period"), 2),
    **dict.fromkeys(("max_window_layers", "num_kv_shared_layers", "attn_layer_offset"), 0),
    **dict.fromkeys(("position_bias_max_distance", "relative_max_distance", "bias_max_distance"), 16),
    **dict.fromkeys(("heavily_compressed_attention", "compress_ratio"), WINDOW),
    **dict.fromkeys(("token_budget", "top_k_experts"), 2),
    "use_sliding_window": 1,
}
"""Sizes of a tiny model, by the names that configurations give them."""
ROPE = {"rope_type": "default", "rope_theta": 1e4}
FITTING: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_d_head": 16, "mamba_n_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "qwen4_exp_text": {"token_budget": 32, "compress_ratio": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    **{name: {"per_layer_config": {"1": {"head_dim": 16}}} for name in ("gemma4_text", "gemma4_unified_text")},
    "dots3_note_text": {"per_layer_config": {}},
}
"""What fits together where the sizes do not."""


def tiny(given: dict[str, Any]) -> dict[str, Any]:
    """The changes that make a configuration tiny, those of configurations within it too."""
    made: dict[str, Any] = {}
    heads = given.get("num_key_value_heads") == given.get("num_attention_heads") and "kv_lora_rank" in given
    layers = next((given[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if given.get(key)), 0)
    for key, value in given.items():
        if key in SIZES and isinstance(value, int | None):
            made[key] = bool(SIZES[key]) if isinstance(value, bool) else SIZES[key]
        elif isinstance(value, list) and layers and len(value) == layers:
            kinds = list(dict.fromkeys(map(str, value)))
            first = {str(one): one for one in value}
            made[key] = [first[kinds[place % len(kinds)]] for place in range(LAYERS)]
        elif isinstance(value, dict) and (key.endswith("_config") or key.startswith(("rope", "compress_rates"))):
            made[key] = {**value, **tiny(value)}
    return {**made, "num_key_value_heads": made["num_attention_heads"]} if heads else made


def built(kind: str) -> Any:
    """The model, with weights far from those that make every token as likely."""
    default = CONFIG_MAPPING[kind]()
    changes = {**tiny(vars(default)), **tiny(default.to_dict()), **FITTING.get(kind, {})}
    config = CONFIG_MAPPING[kind](**{key: value for key, value in changes.items() if key[0] != "_"})
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.2 * noise if parameter.dim() > 1 else parameter + 0.05 * noise)
    return network.train()


def groups(*lengths: tuple[int, tuple[int, ...]]) -> list[TokenGroup[Any]]:
    """Groups of random tokens with prompts and responses of these lengths, every token of a response scored."""
    random = np.random.default_rng(0)

    def ids(length: int) -> np.ndarray:
        return random.integers(3, VOCABULARY, length, dtype=np.int32)

    return [
        TokenGroup(ids(prompt), tuple(TokenRow(ids(one), np.ones(one, bool)) for one in responses), None)
        for prompt, responses in lengths
    ]


FIRST = groups((4, (2, 3)), (3, (3,)))
"""What the check is shown."""
COMPARED = groups((5, (2, 4)), (9, (8, 3, 1)), (20, (17, 4)), (50, (30, 12)), (40, (1, 50)))


def alone(network: Any) -> torch.Tensor:
    """[S] the library's log-probabilities of each response, each row by itself, of a model as it is loaded."""
    found = []
    with torch.no_grad():
        for group in COMPARED:
            for row in group.responses:
                ids = torch.tensor(np.concatenate([group.prompt, row.ids]))[None].long()
                log_prob = network(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
                start = len(group.prompt)
                found.append(log_prob[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0])
    return torch.cat(found)


def verdict(kind: str) -> tuple[str, str]:
    """What becomes of an architecture, and why."""
    try:
        network = built(kind)
        expected = alone(network.eval())
    except Exception as error:  # whatever the library raises for a size that does not fit
        return "unbuilt", f"{type(error).__name__}: {error}"[:200]
    model = CausalModel(network)
    try:
        disable_noise(network.train(), keep_adapters=False)
        check = check_attention(model, FIRST, None, LONGEST)
        model.set_attention(check.attention)
        kept = keep_as_at_inference(model, FIRST)
        with torch.no_grad():
            gap = float((model.log_probs(build_stream(COMPARED)).token_S - expected).abs().max())
    except InputError as error:
        return "refused", str(error)
    if not gap <= 1e-3:
        return "wrong", f"off by up to {gap:.2g} with {check.attention}; {check.message}"
    told = f"; kept as at inference: {', '.join(kept)}" if kept else ""
    return ("exact" if check.attention == "grouped" else check.attention), check.message + told


def _answer(kind: str, answers: Any) -> None:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    answers.put(verdict(kind))


def timed(kind: str) -> tuple[str, str]:
    """The same in a process of its own, which is given up when it takes too long."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_answer, args=(kind, answers))
    process.start()
    try:
        return answers.get(timeout=SECONDS)
    except queue.Empty:
        return "unbuilt", f"nothing after {SECONDS} seconds"
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Try all of them, or those named, and write what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", help="their `model_type`; those alone are tried again, all where none is named"
    )
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = json.loads(given.output.read_text()) if given.kinds and given.output and given.output.exists() else {}
    found = before.get("architectures", {})
    for kind in given.kinds or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        found[kind] = timed(kind)
        print(kind, *found[kind], flush=True)
    counts = dict(Counter(outcome for outcome, _ in found.values()).most_common())
    made = {"transformers": transformers.__version__, "counts": counts, "architectures": found}
    print(counts)
    if given.output:
        given.output.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
