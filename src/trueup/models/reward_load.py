"""Loading reward models: one that was trained before, or a causal language model whose head is new."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from trueup.errors import InputError
from trueup.model_folder import base_folder, is_adapter, scores_text
from trueup.models.foreign_code import check_folder
from trueup.models.load import (
    Loaded,
    check_vocabulary,
    load_adapter,
    quiet,
    refuse_missing,
    refuse_unused,
)
from trueup.models.reward import HEAD
from trueup.models.tokenizer import load_tokenizer
from trueup.words import one_line


def load_reward(
    path: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
) -> Loaded:
    """Read a reward model, or a causal language model that is to become one.

    The tokenizer is given the padding token that the library looks for when it reads a score (`padding`). What a
    policy was trained to be asked with is none of a reward model's business and left out.

    Args:
        path: folder in Hugging Face format: of a model for sequence classification with one output, of a causal
            language model, or of an adapter of the first kind.
        device: where the parameters go.
        dtype: what the body's parameters are held in; the head's are float32.
        seed: what the head of a causal language model is drawn from; None refuses such a model.
        eos_token: end of sequence for a tokenizer that has none.
        chat_template: file with a chat template for a tokenizer that has none.

    Raises:
        InputError: files are missing or incomplete, weights are missing or have no place in the model, its family
            has no such head, or it is no reward model and `seed` is None.
    """
    adapted = is_adapter(path)
    base = base_folder(path)
    if adapted and not scores_text(path):
        raise InputError(
            f"{path}: an adapter of a causal language model, which a reward model cannot be made of. Merge it "
            "into its base model and give that, or give the base model"
        )
    trained = scores_text(base)
    if seed is None and not trained and not adapted:
        raise InputError(
            f"{path}: a causal language model, not a reward model. Give a folder that `trueup train reward-model` "
            f"wrote, or take its log-likelihoods for scores with likelihood:{path}"
        )
    read = load_tokenizer(
        path, trust_remote_code=trust_remote_code, eos_token=eos_token, chat_template=chat_template
    )
    check_folder(path, base, chat_template)
    network = _network(base, trained, dtype, trust_remote_code)
    if not trained:
        draw_head(network, seed or 0)
        network.config.eos_token_id = list(read.end_ids) if len(read.end_ids) > 1 else read.end_ids[0]
    head: nn.Module = getattr(network, HEAD)
    head.float()
    padding(network, read.tokenizer, trained=trained)
    check_vocabulary(path, network, read.tokenizer)
    if adapted:
        network = load_adapter(network, path)
    return Loaded(network.to(device), read.tokenizer, read.end_ids, adapted, base)


def draw_head(network: Any, seed: int) -> None:
    """Entries from a normal distribution of variance 1 / (H + 1), H being the width, as Stiennon et al., 2020,
    https://arxiv.org/abs/2009.01325, Appendix B, begin with."""
    weight: nn.Parameter = getattr(network, HEAD).weight
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1)
    with torch.no_grad():
        weight.copy_(drawn)


def padding(network: Any, tokenizer: Any, *, trained: bool) -> None:
    """Let network and tokenizer agree on a padding token, one that does not end responses where there is such a one.

    The library reads a sequence at its last token that is not padding. Where the end of sequence is the padding, as it
    has to be with GPT-2's tokenizer, that is the token before the end.

    Args:
        trained: the network is a reward model already; where it reads is then left as it is.
    """
    config, end = network.config.get_text_config(), tokenizer.eos_token_id
    known = (config.pad_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    usable = [one for one in known if one is not None and 0 <= one < len(tokenizer)]
    pad = next((one for one in usable if one != end), None)
    if trained and config.pad_token_id is not None:
        pad = config.pad_token_id
    elif pad is None and not trained:
        pad = end
    config.pad_token_id = network.config.pad_token_id = pad
    if pad is not None and 0 <= pad < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.padding_side = "right"


def _network(path: str, trained: bool, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForSequenceClassification

    options: dict[str, Any] = {} if trained else {"num_labels": 1, "problem_type": "regression"}
    with quiet():
        try:
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                path, dtype=dtype, use_safetensors=True, local_files_only=True,
                trust_remote_code=trust_remote_code, output_loading_info=True, **options,
            )  # fmt: skip
        except Exception as error:  # the library raises many kinds for a folder it cannot read
            reason = one_line(error)
            if "Unrecognized configuration class" in reason:
                reason = "its family has no class for sequence classification in transformers"
            raise InputError(f"{path}: not a model that can be loaded as a reward model: {reason}") from error
    network, report = loaded
    if network.config.num_labels != 1:
        raise InputError(
            f"{path}: a classifier of {network.config.num_labels} classes; a reward model has one output. "
            "Give another model"
        )
    if not isinstance(getattr(network, HEAD, None), nn.Linear):
        raise InputError(
            f"{path}: {type(network).__name__} has no linear head {HEAD!r} on a decoder's hidden states, which "
            "is where scores are read. Give a decoder of another family"
        )
    missing = sorted(report["missing_keys"]) + sorted(map(str, report.get("mismatched_keys", ())))
    refuse_missing(path, missing if trained else [name for name in missing if name != f"{HEAD}.weight"])
    refuse_unused(path, network, sorted(report["unexpected_keys"]))
    return network
