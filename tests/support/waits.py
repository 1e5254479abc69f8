"""What a device would have to be waited for."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Operations whose result, or the shape of it, the host has to know: on a device they wait for all before them."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "bincount", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        repeated = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        if masked or repeated or any(name.startswith(one) for one in self.NAMES):
            self.found.append(name)
        return func(*args, **(kwargs or {}))
