"""Toy groups, models and tokenizers: small enough for milliseconds, random enough that mistakes show."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.feedback.records import Origin

VOCABULARY = 64
PAD, BOS, EOS = 0, 1, 2


def token_group(
    prompt: int | Sequence[int], responses: Sequence[int | Sequence[int]], seed: int = 0,
    relation: Any = None, origin: Origin | None = None,
) -> TokenGroup[Any]:  # fmt: skip
    """A group of the ids given, or of random ids where a length is given; every response token is scored."""
    random = np.random.default_rng(seed)

    def ids(given: int | Sequence[int]) -> np.ndarray:
        if isinstance(given, int):
            return random.integers(EOS + 1, VOCABULARY, given, dtype=np.int32)
        return np.array(given, np.int32)

    rows = [ids(prompt), *(ids(response) for response in responses)]
    scored = tuple(TokenRow(row, np.ones(len(row), np.bool_)) for row in rows[1:])
    return TokenGroup(rows[0], scored, relation, origin)


_LLAMA = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
)  # fmt: skip
_GPT2 = dict(
    vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=512,
    bos_token_id=BOS, eos_token_id=EOS,
)  # fmt: skip
_OPT = dict(
    vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=512, word_embed_proj_dim=32, dropout=0.0,
)  # fmt: skip
_QWEN3_NEXT = dict(
    _LLAMA, head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
    shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=4,
    linear_key_head_dim=8, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
)  # fmt: skip
WINDOW = 4  # positions of a sliding window, itself included: far shorter than the prompts of the tests

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": dict(_LLAMA, head_dim=8),
    "mistral": dict(_LLAMA, sliding_window=WINDOW),
    "gemma2": dict(
        _LLAMA, head_dim=8, num_hidden_layers=4, sliding_window=WINDOW,
        attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
    ),
    "gemma3_text": dict(_LLAMA, head_dim=8, num_hidden_layers=6, sliding_window=WINDOW),
    "gpt_neox": {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
    "gpt2": _GPT2,
    "phi3": dict(_LLAMA, sliding_window=WINDOW),
    "cohere": dict(_LLAMA, logit_scale=0.25),
    "granite": dict(_LLAMA, logits_scaling=2.0),
    "opt": _OPT,
    "qwen3_next": _QWEN3_NEXT,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "bloom": dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),  # distances by the index
    "gpt_oss": dict(_LLAMA, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=WINDOW),
    "lfm3": _LLAMA,
}  # fmt: skip
"""Attention that is not ours to compute, or a state in every layer but some."""
HYBRID = "qwen3_next"  # half of its layers carry a state from token to token: no layout but the padded one can be right
SHARABLE = tuple(name for name in CONFIGS if name != HYBRID)


def far_from_uniform(network: Any) -> Any:
    """The network with other random weights. Matrices get entries of 0.3 rather than the library's 0.02, so that
    attention is far from uniform and the log-probabilities far from those of a uniform distribution."""
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return network.eval()


def toy_network(name: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random model of one architecture, far from uniform."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(name, **{**(CONFIGS | OTHERS)[name], **changes})
    return far_from_uniform(AutoModelForCausalLM.from_config(config))


SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>")
CHARACTERS = tuple(string.ascii_letters + string.digits + string.punctuation + " \n")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def char_tokenizer(
    *, bos: bool = True, eos: bool = True, pad: bool = True, chat_template: str | None = None,
    adds_space: bool = False, adds_eos: bool = False,
) -> Any:  # fmt: skip
    """A tokenizer whose tokens are single characters, ids readable by `decode`.

    Args:
        bos: knows a beginning of sequence, and puts it first.
        adds_space: puts a space before whatever it encodes, as Llama's does.
        adds_eos: puts an end of sequence last.
    """
    characters = [*CHARACTERS, "\u2581"]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *characters])}
    backend = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    if adds_space:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    else:
        backend.decoder = decoders.Fuse()
    ends = ("<bos> " * bos, " <eos>" * adds_eos)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{ends[0]}$A{ends[1]}", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    names = {"bos_token": "<bos>" if bos else None, "eos_token": "<eos>" if eos else None}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>" if pad else None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"], **names,
    )  # fmt: skip
    tokenizer.chat_template = chat_template
    return tokenizer


def save_tiny_model(
    folder: Path, *, seed: int = 0, tokenizer: Any = None, family: str = "llama", **changes: Any
) -> Path:
    """Write a Llama, or another like it, of two layers, 32 wide, and its tokenizer, as a model is published.

    Args:
        tokenizer: another than `char_tokenizer()`.
        changes: of the model's configuration.
    """
    tokenizer = tokenizer or char_tokenizer(chat_template=CHATML)
    torch.manual_seed(seed)
    changes = {"vocab_size": len(SPECIAL) + len(CHARACTERS) + 1, **changes}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**_LLAMA, **changes}))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def naive_log_probs(network: Any, groups: Sequence[TokenGroup[Any]]) -> torch.Tensor:
    """[S] what the model library computes: a padded row per response, and log_softmax of all logits."""
    rows = [(group.prompt, response) for group in groups for response in group.responses]
    width = max(len(prompt) + len(response.ids) for prompt, response in rows)
    token_NL = torch.full((len(rows), width), PAD)
    mask_NL = torch.zeros(len(rows), width, dtype=torch.int64)
    for number, (prompt, response) in enumerate(rows):
        ids = torch.from_numpy(np.concatenate([prompt, response.ids]).astype(np.int64))
        token_NL[number, : len(ids)] = ids
        mask_NL[number, : len(ids)] = 1
    network.set_attn_implementation("eager")
    logits = network(input_ids=token_NL, attention_mask=mask_NL, use_cache=False).logits
    log_prob_NL = logits[:, :-1].log_softmax(-1).gather(-1, token_NL[:, 1:, None])[..., 0]
    scored = [
        log_prob_NL[number, len(prompt) - 1 : len(prompt) - 1 + len(response.ids)][torch.from_numpy(response.scored)]
        for number, (prompt, response) in enumerate(rows)
    ]
    return torch.cat(scored)


def gradients(network: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of every trainable parameter."""
    named = {name: value for name, value in network.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}
