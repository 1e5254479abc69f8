"""Weights that are read when a model is sharded, of each tensor only the rows that this process keeps.

A process that reads a model whole has to have room for all of it, though it keeps a part. Until it is sharded, a
parameter is one number that is repeated, with the right shape and no memory, and knows where its values stand.
Whatever is put on the model meanwhile, such as an adapter, is there as ever.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from trueup.parallel.processes import rank

SOURCE = "unread"
"""Attribute of such a parameter: its `_Source`."""


@dataclass(frozen=True)
class _Source:
    """Where a parameter's values stand: in a tensor of a file, or in several that the library makes one of."""

    target: str
    places: dict[str | None, list[tuple[str, str]]]
    """Files and names there, by the pattern of the library that they belong to."""
    converter: Any = None
    config: Any = None

    def read(self, rows: slice = slice(None)) -> Tensor:
        if self.converter is None:
            return _read(self.places[None][0], rows)
        from transformers.core_model_loading import Concatenate, MergeModulelist

        first, *later = self.converter.operations  # of a stack, such as one of experts, each tensor is a row
        stacked = isinstance(first, MergeModulelist) and first.dim == 0
        stacked &= all(isinstance(one, Concatenate) and one.dim > 0 for one in later)
        converter = copy.deepcopy(self.converter)
        for pattern, places in self.places.items():
            for place in places[rows] if stacked else places:
                converter.add_tensor(self.target, place[1], pattern, _read(place))
        made: Tensor = converter.convert(self.target, config=self.config)[self.target]
        return made if stacked else made[rows]


def unread(network: Any, folder: str, head: str | None = None) -> bool:
    """Make a network whose parameters are on no device one whose parameters are read later; whether that can be.

    It cannot where the library makes several parameters of one tensor of the files.

    Args:
        network: of the library, read to the device `meta`; all of its weights are in the folder, but perhaps the head.
        folder: in Hugging Face format.
        head: a module that is read now, or left to be filled.
    """
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    sources = _sources(network, Path(folder))
    named = dict(network.named_parameters(remove_duplicate=False))
    kept = {name for name, _ in network.named_buffers()} & network.state_dict().keys()
    made = {id(value): _placeholder(value, sources[name]) for name, value in named.items() if name in sources}
    for name, value in named.items():
        if head is not None and name.startswith(f"{head}."):
            # Drawn by the library where no file has it: an adapter is drawn from the random numbers that follow.
            stored = name in sources
            now = sources[name].read().to(value.dtype) if stored else torch.empty_like(value, device="cpu").normal_()
            made[id(value)] = nn.Parameter(now, value.requires_grad)
    if not {id(value) for value in named.values()} <= made.keys() or not kept <= sources.keys():
        return False
    for module in network.modules():
        module._parameters.update({name: made[id(one)] for name, one in module._parameters.items() if one is not None})
    with init_empty_weights(include_buffers=False):
        fresh = type(network)(network.config)
    for name, value in fresh.named_buffers():
        owner, _, own = name.rpartition(".")
        network.get_submodule(owner)._buffers[own] = sources[name].read() if name in kept else value
    return True


def _sources(network: Any, folder: Path) -> dict[str, _Source]:
    """Of what a network has and the files hold in its shape, by the name that the library gives it."""
    from transformers.core_model_loading import WeightConverter, dot_natural_key, rename_source_key

    shapes: dict[str, list[int]] = {}
    files: dict[str, str] = {}
    for file in _files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # no dict
                files[name], shapes[name] = file, opened.get_slice(name).get_shape()
    state, prefix = network.state_dict(), network.base_model_prefix
    changes = getattr(network, "_weight_conversions", None) or []
    converters = [one for one in changes if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    renamings = [one for one in changes if one not in converters]
    found: dict[str, _Source] = {}
    for name in sorted(files, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, prefix, state)
        if target not in state:
            target, pattern = rename_source_key(name, [], [], prefix, state)
        if target in state and (pattern or shapes[name] == list(state[target].shape)):
            made = _Source(target, {}, by_pattern[pattern] if pattern else None, network.config)
            found.setdefault(target, made).places.setdefault(pattern, []).append((files[name], name))
    return found


def _files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [str(folder / name) for name in sorted(names)]


def _placeholder(value: Tensor, source: _Source) -> nn.Parameter:
    made = nn.Parameter(torch.zeros((), dtype=value.dtype).expand(value.shape), value.requires_grad)
    setattr(made, SOURCE, source)
    return made


def _read(where: tuple[str, str], rows: slice = slice(None)) -> Tensor:
    with safe_open(where[0], framework="pt") as opened:  # anew, as what is mapped of a file counts as memory
        found = opened.get_slice(where[1])
        made: Tensor = found[rows] if found.get_shape() else opened.get_tensor(where[1])
    return made


def is_unread(network: nn.Module) -> bool:
    """Whether weights of a network are still to be read."""
    return any(hasattr(value, SOURCE) for value in network.parameters())


def values_of(tensor: Tensor) -> Tensor:
    """All values of a tensor, those of an unread one from its file."""
    source = getattr(tensor, SOURCE, None)
    return tensor if source is None else source.read().to(tensor.dtype)


def copied(network: Any) -> Any:
    """A copy of a network, whose parameters are unread where those of the network are."""
    memo: dict[int, Any] = {}
    for value in network.parameters():
        if (source := getattr(value, SOURCE, None)) is not None:
            memo[id(value)] = _placeholder(value, source)
    return copy.deepcopy(network, memo)


def fill(parameters: Iterable[nn.Parameter], inside: int) -> None:
    """Read this process's rows of unread parameters; the others have no values, and no memory until they are touched.

    Args:
        inside: processes that one copy of the weights is sharded over.
    """
    for value in parameters:
        if (source := getattr(value, SOURCE, None)) is None:
            continue
        made = torch.empty(value.shape, dtype=value.dtype)
        each = -(-value.shape[0] // inside)  # as `torch.chunk` cuts
        rows = slice(rank() % inside * each, (rank() % inside + 1) * each)
        if len(made[rows]):
            made[rows].copy_(source.read(slice(rows.start, min(rows.stop, value.shape[0]))))
        value.data = made
        delattr(value, SOURCE)
