"""The hash of a set of weights: equal only for equal functions."""

import hashlib
import struct
from collections.abc import Callable

import pytest
import torch
from support.tiny_models import toy_network
from torch import Tensor

from trueup.models.identity import identity_of, model_identity

WEIGHTS = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([5.0])}
CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one bit": lambda w: {**w, "b": torch.nextafter(w["b"], torch.tensor([9.0]))},
    "sign of zero": lambda w: {**w, "b": torch.tensor([-0.0])},
    "dtype": lambda w: {**w, "a": w["a"].double()},
    "shape": lambda w: {**w, "a": w["a"].view(2, 2)},
    "name": lambda w: {"a": w["a"], "c": w["b"]},
    "swapped": lambda w: {"a": w["b"], "b": w["a"]},
    "one less": lambda w: {"a": w["a"]},
    "an empty one more": lambda w: {**w, "c": torch.zeros(0)},
}


def identity(weights: dict[str, Tensor]) -> str:
    return identity_of(weights.items())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_another_identity(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    assert identity(change(WEIGHTS)) != identity(WEIGHTS)


def test_order_memory_and_copies_do_not_matter() -> None:
    strided = torch.stack([WEIGHTS["a"], WEIGHTS["a"]], 1)[:, 0].requires_grad_()
    assert not strided.is_contiguous()
    assert identity({"b": WEIGHTS["b"].clone(), "a": strided}) == identity(WEIGHTS)


def test_what_is_hashed() -> None:
    """Stored in checkpoints and caches: any other choice of bytes makes them unreadable."""
    weights = {"x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "n": torch.tensor(3)}
    hashed = b"n torch.int64 ()\n" + struct.pack("<q", 3) + b"x torch.bfloat16 (2,)\n" + b"\xc0\x3f\x00\xc0"
    assert identity(weights) == hashlib.sha256(hashed).hexdigest()[:16]


def test_models() -> None:
    network = toy_network()
    before = model_identity(network)
    assert before == model_identity(toy_network())
    assert before != model_identity(toy_network(seed=1))
    with torch.no_grad():
        network.model.norm.weight[3] += 1e-6
    assert model_identity(network) != before
