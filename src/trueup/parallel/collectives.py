"""Collectives of sharded models, counted, so that a pass that breaks off in one process is made up for.

Where memory runs out in the middle of a pass, the other processes wait in theirs. So the process makes the pass again
with as little as there is, and leaves out as many collectives as it had made: then all have made the same. What it
computed so is worth nothing, nor is what the others computed with it; they make the step again together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Their names up to torch 2.12 warn from 2.13 on.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass
class Count:
    """Of the collectives of this process."""

    made: int = 0
    left_out: int = 0
    """How many of the next ones are not made; what they would have brought are zeros."""
    copies: Any = None
    """Between which processes gradients of the same shards are summed, where the engine does not see to it."""

    def leaves_out(self, output: Tensor) -> bool:
        if self.left_out:
            self.left_out -= 1
            output.zero_()
            return True
        return False


COUNT = Count()


class _Allocating:
    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(size, dtype=dtype, device=device)


class Gather(_Allocating):
    """As the engine asks for it; see `FSDPModule.set_custom_all_gather`."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False) -> Any:
        if COUNT.leaves_out(output_tensor):
            return None
        work = _gather(output_tensor, input_tensor, group=group, async_op=async_op)
        COUNT.made += 1
        return work


class Scatter(_Allocating):
    """As the engine asks for it; see `FSDPModule.set_custom_reduce_scatter`."""

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False) -> Any:
        if COUNT.leaves_out(output_tensor):
            return None
        work = _scatter(output_tensor, input_tensor, op=op, group=group, async_op=async_op)
        if COUNT.copies is not None:
            dist.all_reduce(output_tensor, group=COUNT.copies)
        COUNT.made += 1
        return work


@contextmanager
def made_up(models: Sequence[Any], units: Sequence[Any], made: int) -> Iterator[None]:
    """In the block, a pass that broke off after so many collectives is made again, all of them but those.

    Args:
        models: those that are the root of what is gathered.
        units: what of them is gathered by itself.
    """
    for model in models:
        model.reset_iter_state()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    mesh = next(one.device_mesh for one in models[0].parameters() if hasattr(one, "device_mesh"))
    COUNT.left_out, COUNT.copies = made, mesh.get_group("replicate") if mesh.ndim > 1 else None
    for unit in units:
        unit.set_requires_all_reduce(False, recurse=False)
    try:
        yield
    finally:
        COUNT.left_out, COUNT.copies = 0, None
        for model in models:
            model.reset_iter_state()  # and what was summed of some of the copies alone
        for unit in units:
            unit.set_requires_all_reduce(True, recurse=False)
