"""Loading models and tokenizers: safetensors only, nothing run from the model's folder, nothing made up.

A weight that the files lack would be filled with random numbers by the library; here it is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.model_folder import base_folder, is_adapter, scores_text
from trueup.models import lora
from trueup.models.tokenizer import LoadedTokenizer, check_patterns, load_tokenizer, reading
from trueup.parallel.slices import is_unread, unread
from trueup.words import listed


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its tokenizer as read from a folder."""

    network: nn.Module
    """The transformers model, or a `PeftModel` whose adapter `default` is trainable."""
    tokenizer: Any
    end_ids: tuple[int, ...]
    starts_from_adapter: bool
    base_path: str
    """Folder of the full model; differs from the given one for an adapter."""
    condition: Condition | None = None
    """What the model was trained to be asked with, by conditional alignment."""
    template_date: str | None = None


def load(
    path: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
    quantize: Mapping[str, Any] | None = None,
    later: bool = False,
) -> Loaded:
    """Read a model, or an adapter on its base model, from a folder in Hugging Face or PEFT format.
    Parameters are held in `dtype`: float32 for anything that will be trained. `eos_token` and `chat_template`, a
    file, are for tokenizers without. `later` reads weights when the model is sharded
    (`trueup.parallel.slices`), where that can be. InputError: the folder is incomplete, or weights and tokenizer do
    not fit."""
    from transformers import AutoModelForCausalLM

    base = base_folder(path)
    if scores_text(base):
        raise InputError(
            f"{base}: a model for classification, such as a reward model, not a causal language model. Give the model "
            "whose responses are to become better"
        )
    read = load_tokenizer(path, trust_remote_code=trust_remote_code, eos_token=eos_token, chat_template=chat_template)
    check_patterns(path, base)
    what = "a causal language model that can be loaded"
    options = quantize or {}
    network, report = read_network(AutoModelForCausalLM, base, what, dtype, trust_remote_code, later, **options)
    refuse_incomplete(base, network, report)
    return put_together(path, network, read, device)


def in_4_bits(kind: str | None, device: torch.device, dtype: torch.dtype, plain: Sequence[str]) -> dict[str, Any]:
    """The library's options that hold linear layers, but `plain` ones, in 4 bits of a `kind`, nf4 or fp4, or None."""
    if kind is None:
        return {}
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", *plain],
    )
    return {"quantization_config": how, "device_map": {"": device}}


class _In4Bits(torch.autograd.Function):
    """x W^T, with the weights of a layer made again in the backward pass.
    The package's own kernels compute other numbers where no gradient is wanted: policy and reference would differ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, _weight_of(layer, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ _weight_of(ctx.layer, grads[0].dtype), None


def _weight_of(layer: Any, dtype: torch.dtype) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    weight: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight.to(dtype)


def _forward_in_4_bits(layer: Any, x: Tensor) -> Tensor:
    dtype = layer.compute_dtype or x.dtype
    y: Tensor = _In4Bits.apply(x.to(dtype), layer)  # type: ignore[no-untyped-call]
    return (y if layer.bias is None else y + layer.bias.to(dtype)).to(x.dtype)


def put_together(path: str, network: Any, read: LoadedTokenizer, device: torch.device) -> Loaded:
    """What was read of a folder, with its adapter on the network where it is the folder of one."""
    rows = network.get_input_embeddings().weight.shape[0]
    if len(read.tokenizer) > rows:
        raise InputError(
            f"{path}: the tokenizer knows {len(read.tokenizer)} tokens but the model has embeddings for {rows}; they "
            "do not belong together. Resize the embeddings and save the model again, or give the right tokenizer"
        )
    for layer in network.modules():
        if type(layer).__name__ == "Linear4bit":
            layer.forward = _forward_in_4_bits.__get__(layer)
    with reading(path, "no tokenizer that can be used"):
        highest = max([*read.tokenizer.get_vocab().values(), *read.tokenizer("a").input_ids])
    if highest >= rows:
        raise InputError(
            f"{path}: the tokenizer writes token {highest} but the model has embeddings for {rows}; they do not belong "
            "together. Give the right tokenizer"
        )
    if adapted := is_adapter(path):
        network = load_adapter(network, path)
    network = network if is_unread(network) else network.to(device)
    return Loaded(network, read.tokenizer, read.end_ids, adapted, base_folder(path), read.condition)


def read_network(
    AutoModel: Any, path: str, what: str, dtype: torch.dtype, trust_remote_code: bool, later: bool = False,
    head: str | None = None, **options: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """What the model library reads of a folder, and its report of the weights.
    `later`: weights but those of the `head` are read when the model is sharded, where that can be."""
    elsewhere: dict[str, Any] = {"device_map": {"": "meta"}} if later else {}
    try:
        with reading(path, f"not {what}"):
            network, report = AutoModel.from_pretrained(
                path,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **options,
                **elsewhere,
            )
    except InputError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise InputError(
            f"{path}: the weights have other shapes than config.json describes. The two do not belong together; "
            "download both again, or give the folder of a complete model"
        ) from error
    if later and not unread(network, path, head):
        return read_network(AutoModel, path, what, dtype, trust_remote_code, **options)
    return network, report


def refuse_incomplete(path: str, network: Any, report: Any, new: str | None = None) -> None:
    """Refuse weights that lack some of the model's parameters, but `new`, or hold some that have no place."""
    missing = sorted(report["missing_keys"]) + sorted(map(str, report.get("mismatched_keys", ())))
    refuse_keys(path, [name for name in missing if name != new])
    modules = {name for name, _ in network.named_modules()}
    containers = {"", network.base_model_prefix}

    def home(key: str) -> str:
        parts = key.split(".")[:-1]
        paths = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        return next((path for path in paths if path in modules), "")

    # Parts that the network lacks are for other purposes; without weights of one it has, it computes something else.
    unused = [key for key in sorted(report["unexpected_keys"]) if home(key) not in containers]
    if unused:
        raise InputError(
            f"{path}: the weights hold {listed(unused, 3)}, for which the model that config.json describes has no "
            "place. The two do not belong together; download both again, or give the folder of a complete model"
        )


def refuse_keys(path: str, missing: list[str]) -> None:
    if missing:
        raise InputError(
            f"{path}: the weights lack {listed(missing, 3)}, which would be filled with random numbers. Download "
            "it again, or give the folder of a complete model"
        )


def load_adapter(network: Any, path: str) -> Any:
    """Put the adapter of a folder on its base model, trainable, with all of its weights."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with reading(path, "not an adapter that can be loaded"):
        with safe_open(Path(path) / "adapter_model.safetensors", framework="pt") as stored:
            there = set(stored.keys())
        lora.place_head(network)
        adapted = PeftModel.from_pretrained(network, path, is_trainable=True, local_files_only=True)
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    refuse_keys(path, sorted(set(wanted) - there))
    unused = sorted(key for key in there - set(wanted) if ".lora_" in key)
    if unused:
        raise InputError(
            f"{path}: the adapter holds {listed(unused, 3)}, for which its base model or its own configuration has "
            "no place. Set base_model_name_or_path to the base model it was trained on, or copy the adapter again"
        )
    return adapted
