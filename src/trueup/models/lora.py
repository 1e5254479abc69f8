"""LoRA adapters: the policy's own, and the reference's beside it. Hu et al., 2021, https://arxiv.org/abs/2106.09685.

The policy trains the adapter `default`. A reference that is not the bare base model is a second adapter,
`reference`, on the same layers. PEFT computes with all of it: rank-stabilised scales, DoRA's norms, and copies of whole
modules that are trained and saved with an adapter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueup.errors import InputError
from trueup.model_hub import origin_of
from trueup.models.head import UnsupportedHead, head_of
from trueup.models.tokenizer import quiet_library
from trueup.parallel import sharding, slices
from trueup.words import listed

POLICY = "default"
REFERENCE = "reference"


def add_lora(
    network: Any, *, rank: int, alpha: float, dropout: float, targets: str | tuple[str, ...], base: str,
    head: str | None = None, saved: Sequence[str] = (), ranks: Mapping[str, int] | None = None,
    alphas: Mapping[str, int] | None = None, rslora: bool = False, dora: bool = False,
) -> Any:  # fmt: skip
    """Put a fresh adapter on a model; B is zero, so the function is unchanged.
    `targets` are module names, or `all-linear` for every linear layer but the head; `saved` modules, and a reward
    model's `head`, are trained whole; `ranks` and `alphas` are of layers whose names end so."""
    from peft import LoraConfig, get_peft_model

    place_head(network)
    saved = [*([] if head is None else [head]), *saved]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # any number is understood
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM" if head is None else "SEQ_CLS",
        modules_to_save=list(saved) or None,
        rank_pattern=dict(ranks or {}),
        alpha_pattern=dict(alphas or {}),
        use_rslora=rslora,
        use_dora=dora,
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in network.modules()),
    )
    try:
        with quiet_library():
            adapted = get_peft_model(network, config, adapter_name=POLICY)
    except (ValueError, TypeError, re.error) as error:
        linear = (name for name, module in network.named_modules() if isinstance(module, nn.Linear))
        names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        more = f", lora.modules_to_save {listed(saved)}" if saved else ""
        raise InputError(f"lora.targets {targets!r}{more}: {error}. This model's linear layers are: {names}") from error
    if slices.is_unread(network):
        _read_values(adapted)
    stand_on(adapted, base)
    _refuse_unmatched(adapted, saved, {"rank_pattern": ranks or {}, "alpha_pattern": alphas or {}})
    refuse_special(adapted, f"lora.targets {targets!r}")
    return adapted


@torch.no_grad()
def _read_values(network: Any) -> None:
    """Take copies of modules and DoRA's norms of weights that are read later, one after the other."""
    for module in _saved_modules(network).values():
        copies = module.modules_to_save[POLICY].parameters()
        for own, copied in zip(module.original_module.parameters(), copies, strict=True):
            copied.copy_(slices.values_of(own))
    for layer in layers(network).values():
        if POLICY in layer.lora_magnitude_vector:
            weight = layer.get_base_layer().weight
            none, weight.data = weight.data, slices.values_of(weight)
            layer.lora_variant[POLICY].init(layer, POLICY)
            weight.data = none


def place_head(network: Any) -> None:
    """Put our head in the place of a language model's own, so that copies of it that are trained are ours too."""
    with suppress(UnsupportedHead):  # raised again where the head is read
        head_of(network)


def _refuse_unmatched(network: Any, saved: Sequence[str], patterns: Mapping[str, Iterable[str]]) -> None:
    """Refuse names that PEFT finds no module for, which it would pass over in silence."""
    copied = list(_saved_modules(network))
    if lost := [name for name in saved if not any(path.endswith(name) for path in copied)]:
        raise InputError(
            f"lora.modules_to_save: {listed(lost)} is no module of {type(network.get_base_model()).__name__}, or lies "
            "in a layer with an adapter; give names such as lm_head and embed_tokens"
        )
    for setting, keys in patterns.items():
        for key in keys:
            if not any(re.match(rf"(.*\.)?({key})$", name) for name in layers(network)):
                raise InputError(f"lora.{setting}: no layer with an adapter has a name that ends in {key!r}; mend it")


def stand_on(network: Any, base: str) -> None:
    """Record what an adapter stands on: a folder by its full path; a model of the hub by id and commit."""
    path = str(Path(base).resolve()) if Path(base).exists() else base
    config = network.peft_config[POLICY]
    config.base_model_name_or_path, config.revision = origin_of(base) or (path, None)


def refuse_special(network: Any, where: str) -> None:
    """Refuse an adapter of more than factors A and B under the head, DoRA's norms, and copies of whole modules."""
    if hasattr(network.get_base_model().get_output_embeddings(), "lora_A"):
        raise InputError(
            f"{where}: the output head carries an adapter, but log-probabilities are computed from its plain weight. "
            "Leave the head out"
        )
    plain = {id(factor) for factor in factors(network, POLICY).values()}
    trained = (name for name, one in network.named_parameters() if one.requires_grad and id(one) not in plain)
    if more := list(trained):
        raise InputError(
            f"{where}: the adapter trains {listed(more, 2)}, which are neither low-rank factors of a linear layer nor "
            "in a module to save. Give an adapter of linear layers, without biases, embeddings or tokens"
        )


def is_adapted(network: nn.Module) -> bool:
    return hasattr(network, "peft_config")


def has_norms(network: Any) -> bool:
    return is_adapted(network) and bool(network.peft_config[POLICY].use_dora)


def written_weights(network: Any) -> Iterable[tuple[list[str], Tensor]]:
    """The weights that are written of a model, of an adapted one its adapter's, with names of which the file has one.
    Of several processes all go through them."""
    if is_adapted(network):
        from peft import get_peft_model_state_dict

        adapter = get_peft_model_state_dict(network, adapter_name=POLICY, save_embedding_layers=False)
        return (([name], value) for name, value in adapter.items())
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    found, changes = sharding.gathered(network), get_model_conversion_mapping(network, add_legacy=False)
    if not changes:
        return found
    several: Iterable[dict[str, Tensor]] = ({names[0]: value} for names, value in found)
    if any(len(one.target_patterns) > 1 for one in changes):  # what becomes one tensor has to be there together
        several = [{name: value for one in several for name, value in one.items()}]
    return (([name], value) for one in several for name, value in revert_weight_conversion(network, one).items())


def layers(network: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}


def _saved_modules(network: nn.Module) -> dict[str, Any]:
    """What PEFT has put around modules of which an adapter has a copy of its own, by name."""
    from peft.utils import ModulesToSaveWrapper

    return {name: one for name, one in network.named_modules() if isinstance(one, ModulesToSaveWrapper)}


def factors(network: nn.Module, adapter: str) -> dict[str, Tensor]:
    """All of an adapter, by reference.
    `{layer}.A` [rank, in], `{layer}.B` [out, rank], under DoRA `{layer}.norm` [out]; of copies
    `{module}.{parameter}`."""
    found: dict[str, Tensor] = {}
    for name, layer in layers(network).items():
        if adapter in layer.lora_A:
            found[f"{name}.A"] = layer.lora_A[adapter].weight
            found[f"{name}.B"] = layer.lora_B[adapter].weight
        if adapter in layer.lora_magnitude_vector:
            found[f"{name}.norm"] = layer.lora_magnitude_vector[adapter].weight
    for name, module in _saved_modules(network).items():
        if adapter in module.modules_to_save:
            copied = module.modules_to_save[adapter].named_parameters()
            found |= {f"{name}.{key}": value for key, value in copied}
    return found


def set_factors(network: nn.Module, adapter: str, values: dict[str, Tensor]) -> None:
    """Give an adapter other values, its factors of whatever rank, frozen."""
    for name, layer in layers(network).items():
        for side, modules in (("A", layer.lora_A), ("B", layer.lora_B)):
            value = values[f"{name}.{side}"]
            old = modules[adapter].weight
            if old.shape != value.shape:
                outer, inner = value.shape
                linear = nn.Linear(inner, outer, bias=False, device=old.device, dtype=old.dtype)
                modules[adapter] = linear.requires_grad_(False)
    with torch.no_grad():
        for name, weight in factors(network, adapter).items():
            weight.copy_(values[name])


def add_reference(network: Any) -> None:
    """Put a frozen copy of the policy's adapter beside it."""
    config = deepcopy(network.peft_config[POLICY])
    config.lora_dropout = 0.0
    with quiet_library():
        network.add_adapter(REFERENCE, config)
    own = {name: value.detach() for name, value in factors(network, POLICY).items()}
    set_factors(network, REFERENCE, own)
    network.set_adapter(POLICY)


@contextmanager
def adapter(network: Any, name: str | None) -> Iterator[None]:
    """Compute with adapter `name`, or with none, without gradients to it; the policy's is back afterwards."""
    if name is None:
        with network.disable_adapter():
            yield
        return
    try:
        network.set_adapter(name, inference_mode=True)
        yield
    finally:
        network.set_adapter(POLICY)


@torch.no_grad()
def mix_products(policy: dict[str, Tensor], reference: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Factors of alpha B A + (1 - alpha) B' A', exact in the product, and copies of modules in the same proportion.
    Averaging A and B by themselves would be another matrix. The factors are stacked instead, [B alpha, B' (1 -
    alpha)] [A; A'], and brought back to the smallest rank that represents the product to rounding."""
    if alpha == 1:
        return {name: value.clone() for name, value in policy.items()}
    mixed: dict[str, Tensor] = {}
    for name in (key.removesuffix(".A") for key in policy if key.endswith(".A")):
        down = torch.cat([policy[f"{name}.A"], reference[f"{name}.A"]])
        up = torch.cat([alpha * policy[f"{name}.B"], (1 - alpha) * reference[f"{name}.B"]], 1)
        mixed[f"{name}.A"], mixed[f"{name}.B"] = _compressed(down, up)
    copies = {name: torch.lerp(reference[name], policy[name], alpha) for name in policy.keys() - mixed.keys()}
    return mixed | copies


def _compressed(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The same product B A with factors of its numerical rank (at least 1), split evenly."""
    q_up, r_up = torch.linalg.qr(up.double())
    q_down, r_down = torch.linalg.qr(down.double().T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    keep = max(1, int((values > values[0] * torch.finfo(down.dtype).eps / 8).sum()))
    root = values[:keep].sqrt()
    new_up = (q_up @ left[:, :keep]) * root
    new_down = root[:, None] * (right[:keep] @ q_down.T)
    return new_down.to(down.dtype), new_up.to(up.dtype)
