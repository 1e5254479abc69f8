"""The identity of a set of weights: a hash that two models share only when they are the same function.

Hashing reads every weight, so that it is done where weights are born or read; what moves away from them is named by
where it began and by its moves.
"""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def identity_of(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes, in order of name; the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def model_identity(network: nn.Module) -> str:
    """Identity of every parameter and persistent buffer of a model."""
    return identity_of(network.state_dict().items())


def moved_identity(identity: str, step: int) -> str:
    """Identity of weights that moved after optimizer step `step`, from what they were called before."""
    return hashlib.sha256(f"{identity} moved after step {step}".encode()).hexdigest()[:16]
