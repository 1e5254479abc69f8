"""Weights that are read when a model is sharded; and gradients of gathered weights, which are named or not taken."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.source_tree import MODULES
from support.tiny_models import save_tiny_model
from support.tiny_reward_models import save_reward
from transformers import AutoModelForCausalLM

from trueup.models import lora
from trueup.models.causal import model_identity
from trueup.models.load import load
from trueup.models.reward import load_reward
from trueup.parallel import slices

CPU = torch.device("cpu")
EXPERTS = {"family": "mixtral", "num_local_experts": 5}
"""Which the library reads from a tensor each, and puts together."""


@pytest.mark.parametrize("more", [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}, EXPERTS])
def test_each_process_reads_its_rows(more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more; 103 rows of embeddings over three processes; numbers in bfloat16, in two files."""
    folder = save_tiny_model(tmp_path / "m", **more)
    stored = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = sorted(stored)
    placed = {name: f"part-{at % 2}.safetensors" for at, name in enumerate(names)}
    for file in set(placed.values()):
        part = {name: stored[name] for name in names if placed[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))

    expected, network = (load(str(folder), device=CPU, later=later).network for later in (False, True))
    assert slices.is_unread(network) and not slices.is_unread(expected)
    assert sum(value.untyped_storage().nbytes() for value in network.parameters()) < 200
    assert model_identity(network) == model_identity(expected)
    for name, buffer in expected.named_buffers():
        assert torch.equal(network.get_buffer(name), buffer)
    read, plain, tied = list[int](), slices._read, more.get("tie_word_embeddings", False)
    monkeypatch.setattr(slices, "_read", lambda *given: (read.append((made := plain(*given)).numel()), made)[1])
    pieces = []
    for rank in range(3):
        monkeypatch.setattr(slices, "rank", lambda rank=rank: rank)
        copy: Any = slices.copied(network)
        assert (copy.lm_head.weight is copy.model.embed_tokens.weight) == tied
        read.clear()
        slices.fill(copy.parameters(), 3)
        assert not slices.is_unread(copy) and slices.is_unread(network)
        cut = (list(one.chunk(3)) for one in copy.parameters())
        assert sum(read) == sum(several[rank].numel() for several in cut if rank < len(several))
        pieces.append(copy)
    for name, value in expected.named_parameters():
        of_each = [list(one.get_parameter(name).chunk(3)) for one in pieces]
        mine = [several[rank] for rank, several in enumerate(of_each) if rank < len(several)]
        assert torch.equal(torch.cat(mine), value), name


@pytest.mark.parametrize("trained", [False, True])
def test_of_a_reward_model_the_head_alone_is_there(trained: bool, tmp_path: Path) -> None:
    folder = save_reward(tmp_path) if trained else save_tiny_model(tmp_path / "m", **EXPERTS)
    expected, found = (load_reward(str(folder), device=CPU, seed=3, later=later).network for later in (False, True))
    there = {name for name, value in found.named_parameters() if not hasattr(value, slices.SOURCE)}
    assert there == {"score.weight"} and model_identity(found) == model_identity(expected)


def test_an_adapter_takes_norms_and_copies_of_weights_that_are_not_there(tmp_path: Path) -> None:
    folder, factors = str(save_tiny_model(tmp_path / "m")), []
    for later in (False, True):
        torch.manual_seed(0)
        network = load(folder, device=CPU, later=later).network
        adapted = lora.add_lora(
            network, rank=2, alpha=4.0, dropout=0.0, targets="all-linear", base=folder, saved=["lm_head"], dora=True
        )
        assert slices.is_unread(network) == later
        lora.add_reference(adapted)
        factors += [lora.factors(adapted, name) for name in (lora.POLICY, lora.REFERENCE)]
    for values in factors[1:]:
        assert values.keys() == factors[0].keys() and len(values) == 3 * 14 + 1
        assert all(torch.equal(value, factors[0][name]) for name, value in values.items())


def test_what_is_not_all_there_is_not_read_later(tmp_path: Path) -> None:
    """Such as weights of other shapes, which the library refuses by itself."""
    folder = save_tiny_model(tmp_path / "m")
    network = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "meta"}, dtype=torch.float32)
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
