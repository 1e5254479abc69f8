"""Checkpoints of a few numbers, told apart bit for bit."""

from pathlib import Path

import torch

from trueup.training.checkpoint import Checkpoint


def toy(step: int) -> Checkpoint:
    value = float(step)
    return Checkpoint(
        step,
        {
            "policy": {"a": torch.full((3, 2), value), "b": torch.tensor([value], dtype=torch.float64)},
            "optimizer": {"a.step": torch.tensor(value)},
            "reference": {},
            "random": {"cpu": torch.arange(step, dtype=torch.uint8)},
        },
        {"reference": {"identity": f"{step:016x}"}, "update_pending": False},
    )


def same(one: Checkpoint | None, other: Checkpoint) -> bool:
    """Bit for bit, dtypes and shapes as well."""
    if one is None or one.step != other.step or one.parts.keys() != other.parts.keys():
        return False
    metadata = {key: one.metadata[key] for key in other.metadata}
    return metadata == other.metadata and all(
        tensors.keys() == other.parts[name].keys()
        and all(
            torch.equal(value, other.parts[name][key]) and value.dtype == other.parts[name][key].dtype
            for key, value in tensors.items()
        )
        for name, tensors in one.parts.items()
    )


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)
