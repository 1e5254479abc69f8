"""Loading models and tokenizers: safetensors only, nothing run from the model's folder, nothing made up.

A weight that the files lack would be filled with random numbers by the library; here it is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueup.errors import InputError, listed


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its tokenizer as read from a folder."""

    network: nn.Module
    """The transformers model, or a `PeftModel` whose adapter `default` is trainable."""
    tokenizer: Any
    end_ids: tuple[int, ...]
    """Tokens that end a response; the first is the tokenizer's end of sequence."""
    starts_from_adapter: bool
    base_path: str
    """Folder of the full model; differs from the given one for an adapter."""


def load(
    path: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
) -> Loaded:
    """Read a model, or an adapter on its base model, from a folder.

    Args:
        path: folder in Hugging Face format, or of a PEFT adapter.
        device: where the parameters go.
        dtype: what the parameters are held in; float32 for anything that will be trained.
        eos_token: end of sequence for a tokenizer that has none.
        chat_template: file with a chat template for a tokenizer that has none.

    Raises:
        InputError: files are missing or incomplete, weights are missing, the vocabulary does not fit the
            tokenizer, or there is no end of sequence.
    """
    adapter = Path(path) / "adapter_config.json"
    base = _base_of(adapter) if adapter.is_file() else path
    network = _network(base, dtype, trust_remote_code)
    tokenizer = _tokenizer(path, base, trust_remote_code)
    if chat_template is not None:
        try:
            tokenizer.chat_template = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"--chat-template {chat_template}: not a text file in UTF-8: {error}") from error
    ends = _end_ids(network, tokenizer, eos_token, path)
    rows = network.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"{path}: the tokenizer knows {len(tokenizer)} tokens but the model has embeddings for {rows}; they do "
            "not belong together. Resize the embeddings and save the model again, or give the right tokenizer"
        )
    if adapter.is_file():
        network = _adapter(network, path)
    return Loaded(network.to(device), tokenizer, ends, adapter.is_file(), base)


def _network(path: str, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet():
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
        except Exception as error:  # the library raises many kinds for a folder it cannot read
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a causal language model that can be loaded: {reason}") from error
    network, report = loaded
    _refuse_missing(
        path, sorted(report["missing_keys"]) + sorted(map(str, report.get("mismatched_keys", ())))
    )
    return network


def _refuse_missing(path: str, missing: list[str]) -> None:
    if missing:
        raise InputError(
            f"{path}: the weights lack {listed(missing, 3)}, which would be filled with random numbers. Download "
            "it again, or give the folder of a complete model"
        )


def _tokenizer(path: str, base: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    own = any((Path(path) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    with quiet():
        try:
            return AutoTokenizer.from_pretrained(
                path if own else base, local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # as above
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: no tokenizer that can be loaded: {reason}") from error


def _base_of(adapter: Path) -> str:
    try:
        config = dict(json.loads(adapter.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:  # no JSON object, or no UTF-8
        raise InputError(f"{adapter}: not a PEFT adapter's configuration: {error}. Save it again") from error
    base = str(config.get("base_model_name_or_path") or "")
    for candidate in (Path(base), adapter.parent / base):
        if base and (candidate / "config.json").is_file():
            return str(candidate)
    raise InputError(
        f"{adapter}: the adapter's base model is {base!r}, which is no folder here. Set base_model_name_or_path in "
        "that file to the folder of the base model"
    )


def _adapter(network: Any, path: str) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with quiet():
        try:
            with safe_open(Path(path) / "adapter_model.safetensors", framework="pt") as stored:
                there = set(stored.keys())
            adapted = PeftModel.from_pretrained(network, path, is_trainable=True, local_files_only=True)
        except Exception as error:  # as above
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not an adapter that can be loaded: {reason}") from error
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    _refuse_missing(path, sorted(set(wanted) - there))
    return adapted


def _end_ids(network: Any, tokenizer: Any, eos_token: str | None, path: str) -> tuple[int, ...]:
    if eos_token is not None:
        number = tokenizer.convert_tokens_to_ids(eos_token)
        if number is None or number == tokenizer.unk_token_id:
            raise InputError(f"{path}: --eos-token {eos_token!r} is not one token of the model's vocabulary")
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{path}: the tokenizer has no end-of-sequence token, so a response could not be ended. Name one of its "
            "tokens with --eos-token"
        )
    config = getattr(network, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    named = [] if named is None else [named] if isinstance(named, int) else list(named)
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *map(int, named)]))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the model library's notices and progress bars off the user's screen while it loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
