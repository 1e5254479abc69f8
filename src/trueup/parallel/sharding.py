"""Models whose weights lie in shards over several processes, by torch's own engine (`fully_shard`).

Zhao et al., 2023, https://arxiv.org/abs/2304.11277, in its second form. Gradients are summed over the processes and
divided by nothing: the step divides once, by the weight of its whole batch. What is small and trained beside a frozen
model (adapters, a value head) is not sharded; its gradients are summed by `Optimizer`.

In one process nothing is sharded, and nothing of `torch.distributed` is imported.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trueup.errors import is_out_of_memory
from trueup.parallel import slices
from trueup.parallel.processes import gather, owns, rank, size
from trueup.words import one_line

T = TypeVar("T")

PART = 2**27
"""Bytes of a file that a process writes of its shards."""


@cache
def _mesh(device: str, inside: int) -> Any:
    """Processes by node: sharded inside, replicated between."""
    from torch.distributed.device_mesh import init_device_mesh

    if inside == size():
        return init_device_mesh(device, (inside,), mesh_dim_names=("shard",))
    return init_device_mesh(device, (size() // inside, inside), mesh_dim_names=("replicate", "shard"))


def shard(model: Any, *, device: torch.device, inside: int, frozen: bool) -> None:
    """Shard a model over the processes: each decoder layer by itself, and the rest with the root.

    Of a model that is only ever read (`frozen`) no shard stays gathered after a forward pass.
    """
    from torch.distributed import fsdp

    options: dict[str, Any] = {"mesh": _mesh(device.type, inside)}
    if frozen:
        options["reshard_after_forward"] = True
    if model.autocast is not None:
        options["mp_policy"] = fsdp.MixedPrecisionPolicy(param_dtype=model.autocast, reduce_dtype=torch.float32)
        model.products, model.autocast = model.autocast, None
    adapted = any(".lora_" in name for name, _ in model.named_parameters())
    ignored = {
        value
        for name, value in model.named_parameters()  # and holds none of them while they are sharded
        if ".lora_" in name or name.startswith("value_head.") or (adapted and value.requires_grad)
    }
    for value in ignored:
        value.data = value.data.to(device)
    options["ignored_params"] = ignored or None
    for module in (*model.layers, model):
        slices.fill(module.parameters(), inside)
        if module is model and "mp_policy" in options:  # whose streams hold whole numbers, and are not to be copied
            options["mp_policy"] = replace(options["mp_policy"], cast_forward_inputs=False)
        fsdp.fully_shard(module, **options)
    fsdp.register_fsdp_forward_method(model, "by_library")
    from trueup.parallel.collectives import Gather, Scatter

    for unit in _units(model):
        unit.set_custom_all_gather(Gather())
        unit.set_custom_reduce_scatter(Scatter())
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def _units(model: Any) -> list[Any]:
    """What of a model is gathered by itself."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def kept_up(models: Sequence[Any], action: Callable[[bool], T]) -> tuple[T, str]:
    """What `action` makes of a pass, and "" or the error where memory ran out: then it is that of `action(True)`.

    With True it is to take as little as there is; what it makes then is worth nothing, but no other process waits for
    this one. See `trueup.parallel.collectives`.
    """
    from torch.distributed.fsdp import FSDPModule

    from trueup.parallel.collectives import COUNT, made_up

    roots: list[Any] = list({id(one): one for one in models if isinstance(one, FSDPModule)}.values())
    units, before = [unit for one in roots for unit in _units(one)], COUNT.made
    for unit in units:
        unit.reshard()  # as what is gathered by now decides what the pass gathers
    try:
        return action(False), ""
    except (MemoryError, RuntimeError) as error:
        # Torch knows of it from 2.13 on; with one process a copy there is nothing to count.
        counted = hasattr(FSDPModule, "reset_iter_state") and roots and copies(roots[0].parameters()) < size()
        if not is_out_of_memory(error) or not counted:
            raise
        lacking = one_line(error)
    # Out of reach of the error, whose frames hold what filled the memory.
    with made_up(roots, units, COUNT.made - before):
        return action(True), lacking


@contextmanager
def unsharded(*models: Any) -> Iterator[None]:
    """Models with all of their weights in every process, each of which may call them as often as it likes."""
    if size() == 1:
        yield
        return
    trained = [one for one in models if one is not None and any(p.requires_grad for p in one.parameters())]
    parts = [part for one in models if one is not None for part in _units(one)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part not in trained, recurse=False)


def resharded(model: Any) -> Any:
    """A model whose parameters are its shards again: a forward pass without gradients leaves some of them gathered."""
    for unit in _units(model) if size() > 1 else ():
        unit.reshard()
    return model


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it alone."""
    if size() == 1:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, by reference; all of it where it is not sharded."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor.detach()
    part: Tensor = sharded.to_local()
    return part


def full(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process; no gradient goes through it."""
    if not is_sharded(tensor):
        return slices.values_of(tensor)
    from torch.distributed.tensor import Partial

    sharded: Any = tensor.detach()
    gathered: Tensor = sharded.full_tensor(grad_placements=[Partial()] * sharded.device_mesh.ndim)
    return gathered


def like(part: Tensor, model: Tensor) -> Tensor:
    """Numbers of the shape of a tensor, of which this process has those for its own part."""
    if not is_sharded(model) or part.shape != local(model).shape:
        return part
    sharded: Any = model
    made: Tensor = sharded.from_local(
        part,
        sharded.device_mesh,
        sharded.placements,
        shape=model.shape,
        stride=model.stride(),
        run_check=False,
    )
    return made


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Give a tensor its values, of which each process takes its own part."""
    if not is_sharded(target) or is_sharded(value):
        local(target).copy_(local(value))
        return
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = target
    made = distribute_tensor(value.to(target.device), sharded.device_mesh, sharded.placements, src_data_rank=None)
    local(target).copy_(local(made))


def sum_(tensors: Iterable[Tensor]) -> None:
    """Sum tensors over the processes, in place; nothing where there is one."""
    parts = list(tensors)
    if size() == 1 or not parts:
        return
    import torch.distributed as dist

    flat = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(flat)
    for part, total in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(total.view_as(part))


def concatenated(own: Sequence[Tensor]) -> Tensor:
    """Lines of every process, one below the other in order of their numbers, on the device of these."""
    if size() == 1:
        return torch.cat(list(own))
    every = gather(torch.cat(list(own)).cpu() if own else None)
    return torch.cat([lines for lines in every if lines is not None])


def copies(tensors: Iterable[Tensor]) -> int:
    """How many processes hold the same part of a sharded tensor."""
    sharded: Any = next(one for one in tensors if is_sharded(one))
    return size() // int(sharded.device_mesh.size(sharded.device_mesh.ndim - 1))


def _checkpointing() -> Any:
    """Torch's own, for what is sharded."""
    from torch.distributed import checkpoint

    return checkpoint


class Shards(Mapping[str, Tensor]):
    """Tensors that several processes wrote, each its own parts; each is read in full when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.reader = _checkpointing().HuggingFaceStorageReader(str(folder))
        self.known: Mapping[str, Any] = self.reader.read_metadata().state_dict_metadata

    def __getitem__(self, name: str) -> Tensor:
        told = self.known[name]
        target = torch.empty(told.size, dtype=told.properties.dtype)
        self.fill({name: target}, alone=True)
        return target

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def fill(self, targets: Mapping[str, Tensor], *, alone: bool) -> None:
        """Read tensors, or of a sharded one this process's part; `alone`: not in all processes at once."""
        checkpoint = _checkpointing()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # which is meant
            try:
                checkpoint.load(dict(targets), storage_reader=self.reader, no_dist=alone)
            except checkpoint.CheckpointException as error:  # no `Exception`
                raise next(iter(error.failures.values()))[0] from None


def write(folder: Path, tensors: Mapping[str, Tensor]) -> list[Path]:
    """Write tensors that are sharded, each process its own parts, as safetensors; returns this process's files.

    A file is made in memory before it is written, so that there are several.
    """
    checkpoint = _checkpointing()
    ends = accumulate(tensor.nbytes // size() for tensor in tensors.values())
    number = {name: 1 + end // PART for name, end in zip(tensors, ends, strict=True)}
    writer = checkpoint.HuggingFaceStorageWriter(str(folder), number, save_distributed=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer)
    except checkpoint.CheckpointException as error:  # raised in all processes where one fails
        if rank() in error.failures:
            raise error.failures[rank()][0] from None
    return sorted(folder.glob(f"shard-{rank() + 1:05d}-*"))


def fill(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Give tensors their saved values, of which each process takes its own parts."""
    if isinstance(saved, Shards):
        saved.fill(targets, alone=size() == 1)
    else:
        for name, target in targets.items():
            put(target, saved[name])


def gathered(network: nn.Module) -> Iterator[tuple[list[str], Tensor]]:
    """Every parameter and persistent buffer of a network, one after the other; tied ones once, with all names."""
    owner = dict(network.named_parameters(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    state = network.state_dict()
    for name, value in state.items():
        names.setdefault(id(owner.get(name, value)), []).append(name)
    for several in names.values():
        yield several, full(state[several[0]])


@contextmanager
def full_state(network: nn.Module, folder: Path, dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    """A network's `state_dict`; of several processes the first has it, rounded, in files that are read as it is used.

    Args:
        folder: where the first process has room for it, under another name.
        dtype: of its numbers, where there are several processes.
    """
    if size() == 1:
        yield dict(network.state_dict())
        return
    found: dict[str, Tensor] = {}
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") if owns() else nullcontext() as place:
        for names, value in gathered(network):
            if place is not None:
                made = value.to(dtype) if value.is_floating_point() else value
                file = Path(place, str(len(found)))
                file.write_bytes(made.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
                kept = torch.from_file(str(file), size=made.numel(), dtype=made.dtype).view(made.shape)
                found |= dict.fromkeys(names, kept)
        yield found
