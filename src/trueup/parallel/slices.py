"""Weights that are read when a model is sharded, of each tensor only the rows that this process keeps.

A process that reads a model whole has to have room for all of it, though it keeps a part. Until it is sharded, a
parameter is one number that is repeated, with the right shape and no memory, and knows where its values stand.
Whatever is put on the model meanwhile, such as an adapter, is there as ever.
"""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from trueup.parallel.processes import rank

WHERE = "unread"
"""Attribute of such a parameter: a file and the name there."""


def unread(network: Any, folder: str) -> bool:
    """Make a network whose parameters are on no device one whose parameters are read later; whether that can be.

    It cannot where the library changes the weights as it reads them, such as experts that it puts together.

    Args:
        network: of the library, read to the device `meta`; all of its weights are in the folder.
        folder: in Hugging Face format.
    """
    from accelerate import init_empty_weights  # type: ignore[import-untyped]
    from transformers.conversion_mapping import get_model_conversion_mapping

    if get_model_conversion_mapping(network, add_legacy=False):
        return False
    stored: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in _files(Path(folder)):
        with safe_open(file, framework="pt") as opened:
            stored |= {name: (file, tuple(opened.get_slice(name).get_shape())) for name in opened.keys()}  # noqa: SIM118  # no dict
    named = dict(network.named_parameters(remove_duplicate=False))
    homes = {
        id(value): (stored[name][0], name)
        for name, value in named.items()
        if name in stored and stored[name][1] == value.shape
    }
    kept = {name for name, _ in network.named_buffers()} & network.state_dict().keys()
    if not all(id(value) in homes for value in named.values()) or not kept <= stored.keys():
        return False
    made = {id(value): _placeholder(value, homes[id(value)]) for value in named.values()}
    for module in network.modules():
        module._parameters.update({name: made[id(one)] for name, one in module._parameters.items() if one is not None})
    with init_empty_weights(include_buffers=False):
        fresh = type(network)(network.config)
    for name, value in fresh.named_buffers():
        owner, _, own = name.rpartition(".")
        network.get_submodule(owner)._buffers[own] = _read((stored[name][0], name)) if name in kept else value
    return True


def _files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [str(folder / name) for name in sorted(names)]


def _placeholder(value: Tensor, where: tuple[str, str]) -> nn.Parameter:
    made = nn.Parameter(torch.zeros((), dtype=value.dtype).expand(value.shape), value.requires_grad)
    setattr(made, WHERE, where)
    return made


def _read(where: tuple[str, str], rows: slice = slice(None)) -> Tensor:
    with safe_open(where[0], framework="pt") as opened:  # anew, as what is mapped of a file counts as memory
        found = opened.get_slice(where[1])
        made: Tensor = found[rows] if found.get_shape() else opened.get_tensor(where[1])
    return made


def is_unread(network: nn.Module) -> bool:
    """Whether weights of a network are still to be read."""
    return any(hasattr(value, WHERE) for value in network.parameters())


def values_of(tensor: Tensor) -> Tensor:
    """All values of a tensor, those of an unread one from its file."""
    where = getattr(tensor, WHERE, None)
    return tensor if where is None else _read(where).to(tensor.dtype)


def copied(network: Any) -> Any:
    """A copy of a network, whose parameters are unread where those of the network are."""
    memo: dict[int, Any] = {}
    for value in network.parameters():
        if (where := getattr(value, WHERE, None)) is not None:
            memo[id(value)] = _placeholder(value, where)
    return copy.deepcopy(network, memo)


def fill(parameters: Iterable[nn.Parameter], inside: int) -> None:
    """Read this process's rows of unread parameters; the others have no values, and no memory until they are touched.

    Args:
        inside: processes that one copy of the weights is sharded over.
    """
    for value in parameters:
        if (where := getattr(value, WHERE, None)) is None:
            continue
        made = torch.empty(value.shape, dtype=value.dtype)
        each = -(-value.shape[0] // inside)  # as `torch.chunk` cuts
        rows = slice(rank() % inside * each, (rank() % inside + 1) * each)
        if len(made[rows]):
            made[rows].copy_(_read(where, slice(rows.start, min(rows.stop, value.shape[0]))))
        value.data = made
        delattr(value, WHERE)
