"""LoRA adapters: the policy's own, and the reference's beside it. Hu et al., 2021, https://arxiv.org/abs/2106.09685.

The policy trains the adapter `default`. A reference that is not the bare base model is a second adapter,
`reference`, on the same layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueup.errors import InputError
from trueup.model_hub import origin_of
from trueup.models.tokenizer import quiet_library
from trueup.words import listed

POLICY = "default"
REFERENCE = "reference"


def add_lora(
    network: Any, *, rank: int, alpha: float, dropout: float, targets: str | tuple[str, ...], base: str,
    head: str | None = None,
) -> Any:  # fmt: skip
    """Put a fresh adapter on a model; B is zero, so the function is unchanged.

    Args:
        targets: module names, or `all-linear` for every linear layer but the head.
        base: folder of the base model, recorded in the adapter (`stand_on`).
        head: the head of a sequence-classification model, which is trained whole and saved with the adapter.

    Raises:
        InputError: no module has one of the names, or the output head is among them.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # any number is understood
        lora_dropout=dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM" if head is None else "SEQ_CLS",
        modules_to_save=None if head is None else [head],
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in network.modules()),
    )
    try:
        with quiet_library():
            adapted = get_peft_model(network, config, adapter_name=POLICY)
    except ValueError as error:
        names = sorted(
            {name.rsplit(".", 1)[-1] for name, m in network.named_modules() if isinstance(m, nn.Linear)}
        )
        raise InputError(
            f"lora.targets {targets!r}: {error}. This model's linear layers are: {', '.join(names)}"
        ) from error
    stand_on(adapted, base)
    refuse_special(adapted, f"lora.targets {targets!r}", head=head)
    return adapted


def stand_on(network: Any, base: str) -> None:
    """Record what an adapter stands on: a folder by its full path; a model of the hub, in the cache, by id and commit.

    Args:
        base: a folder, or an id.
    """
    path = str(Path(base).resolve()) if Path(base).exists() else base
    config = network.peft_config[POLICY]
    config.base_model_name_or_path, config.revision = origin_of(base) or (path, None)


def refuse_special(network: Any, where: str, *, head: str | None = None) -> None:
    """An adapter is factors A and B of linear layers under the head, or it could not be copied and mixed.

    Args:
        head: what may be trained whole all the same: the head of a reward model, which is not copied.

    Raises:
        InputError: the policy's adapter is anything more.
    """
    if hasattr(network.get_base_model().get_output_embeddings(), "lora_A"):
        raise InputError(
            f"{where}: the output head carries an adapter, but log-probabilities are computed from its plain weight. "
            "Leave the head out"
        )
    plain = {id(factor) for factor in factors(network, POLICY).values()}
    if head is not None:
        plain |= {id(value) for value in getattr(network.get_base_model(), head).parameters()}
    more = [
        name for name, value in network.named_parameters() if value.requires_grad and id(value) not in plain
    ]
    if more:
        raise InputError(
            f"{where}: the adapter trains {listed(more, 2)}, which are not low-rank factors of a linear layer. Give a "
            "plain LoRA adapter of linear layers, without DoRA, biases, embeddings or modules to save"
        )


def is_adapted(network: nn.Module) -> bool:
    """Whether the model carries adapters."""
    return hasattr(network, "peft_config")


def layers(network: nn.Module) -> dict[str, Any]:
    """The adapted layers by name."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}


def written_weights(network: Any) -> dict[str, Tensor]:
    """The weights that are written of a model, by the names they have in the file: of an adapted one, its adapter."""
    if not is_adapted(network):
        return dict(network.state_dict())
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(network, adapter_name=POLICY, save_embedding_layers=False))


def factors(network: nn.Module, adapter: str) -> dict[str, Tensor]:
    """`{layer}.A` [rank, in] and `{layer}.B` [out, rank] of an adapter, by reference."""
    found: dict[str, Tensor] = {}
    for name, layer in layers(network).items():
        if adapter in layer.lora_A:
            found[f"{name}.A"] = layer.lora_A[adapter].weight
            found[f"{name}.B"] = layer.lora_B[adapter].weight
    return found


def set_factors(network: nn.Module, adapter: str, values: dict[str, Tensor]) -> None:
    """Give an adapter other factors, of whatever rank, frozen."""
    for name, layer in layers(network).items():
        for side, modules in (("A", layer.lora_A), ("B", layer.lora_B)):
            value = values[f"{name}.{side}"]
            old = modules[adapter].weight
            if old.shape != value.shape:
                linear = nn.Linear(
                    value.shape[1], value.shape[0], bias=False, device=old.device, dtype=old.dtype
                )
                modules[adapter] = linear.requires_grad_(False)
            with torch.no_grad():
                modules[adapter].weight.copy_(value)


def add_reference(network: Any) -> None:
    """Put a frozen copy of the policy's adapter beside it."""
    from copy import deepcopy

    config = deepcopy(network.peft_config[POLICY])
    config.lora_dropout = 0.0
    with quiet_library():
        network.add_adapter(REFERENCE, config)
    set_factors(
        network, REFERENCE, {name: value.detach() for name, value in factors(network, POLICY).items()}
    )
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
    """Factors of alpha B A + (1 - alpha) B' A', exact in the product.

    Averaging A and B by themselves would be another matrix. The factors are stacked instead, [B alpha,
    B' (1 - alpha)] [A; A'], and brought back to the smallest rank that represents the product to rounding.

    Args:
        policy: factors A, B of the policy's adapter, by layer.
        reference: factors A', B' of the reference's; both adapters scale alike.
        alpha: fraction of the way to the policy; 1 copies its factors.
    """
    if alpha == 1:
        return {name: value.clone() for name, value in policy.items()}
    mixed: dict[str, Tensor] = {}
    for name in (key.removesuffix(".A") for key in policy if key.endswith(".A")):
        down = torch.cat([policy[f"{name}.A"], reference[f"{name}.A"]])
        up = torch.cat([alpha * policy[f"{name}.B"], (1 - alpha) * reference[f"{name}.B"]], 1)
        mixed[f"{name}.A"], mixed[f"{name}.B"] = _compressed(down, up)
    return mixed


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
