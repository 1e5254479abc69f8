"""Weights that are read when a model is sharded; and gradients of gathered weights, which are named or not taken."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.source_tree import MODULES
from support.tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM

from trueup.models.causal import model_identity
from trueup.parallel import slices


def on_no_device(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, device_map={"": "meta"}, dtype=torch.float32)


@pytest.mark.parametrize("tied", [True, False])
def test_each_process_reads_its_rows(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """103 rows of embeddings over three processes; numbers in bfloat16, in two files."""
    folder = save_tiny_model(tmp_path / "m", tie_word_embeddings=tied)
    stored = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = sorted(stored)
    placed = {name: f"part-{at % 2}.safetensors" for at, name in enumerate(names)}
    for file in set(placed.values()):
        part = {name: stored[name] for name in names if placed[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))

    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    network = on_no_device(folder)
    assert slices.unread(network, str(folder)) and slices.is_unread(network)
    assert sum(value.untyped_storage().nbytes() for value in network.parameters()) < 200
    assert model_identity(network) == model_identity(expected)
    for name, buffer in expected.named_buffers():
        assert torch.equal(network.get_buffer(name), buffer)
    pieces = []
    for rank in range(3):
        monkeypatch.setattr(slices, "rank", lambda rank=rank: rank)
        copy = slices.copied(network)
        assert (copy.lm_head.weight is copy.model.embed_tokens.weight) == tied
        slices.fill(copy.parameters(), 3)
        assert not slices.is_unread(copy) and slices.is_unread(network)
        pieces.append(copy)
    for name, value in expected.named_parameters():
        cut = [list(one.get_parameter(name).chunk(3)) for one in pieces]
        mine = [several[rank] for rank, several in enumerate(cut) if rank < len(several)]
        assert torch.equal(torch.cat(mine), value), name


def test_what_is_not_all_there_as_it_is_read_is_read_whole(tmp_path: Path) -> None:
    """Such as experts that the library puts together, or weights of other shapes, which it refuses by itself."""
    folder = save_tiny_model(tmp_path / "m")
    network = on_no_device(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].repeat(2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert not slices.unread(network, str(folder)) and not slices.is_unread(network)


def test_nothing_gathers_a_tensor_without_naming_its_gradient() -> None:
    """`full_tensor()` alone drops what the other processes' parts add to a gradient, without a word."""
    calls = [
        (name, {one.arg for one in node.keywords})
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "full_tensor"
    ]
    assert calls and all("grad_placements" in given for _, given in calls), calls
