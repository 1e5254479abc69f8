"""A policy ready to train."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.refusals import refused
from support.tiny_models import SHARABLE, gradients, naive_log_probs, token_group, toy_network

from trueup.batch.stream import build_stream
from trueup.models.attention import names
from trueup.models.prepare import disable_noise, load_policy, num_parameters, pick_autocast, pick_device
from trueup.settings.run_settings import LoraSettings

CPU = torch.device("cpu")
ADAPTER = LoraSettings(rank=4, alpha=8.0, dropout=0.0, targets="all-linear")
DROPOUTS: dict[str, dict[str, float]] = {
    "gpt2": {"attn_pdrop": 0.3, "resid_pdrop": 0.3, "embd_pdrop": 0.3},
    "gpt_neox": {"attention_dropout": 0.3, "hidden_dropout": 0.3},
    "phi3": {"attention_dropout": 0.3, "resid_pdrop": 0.3, "embd_pdrop": 0.3},
    "opt": {"attention_dropout": 0.3, "dropout": 0.3, "activation_dropout": 0.3},
}


@pytest.mark.parametrize("name", SHARABLE)
def test_no_dropout_of_the_model_is_left(name: str) -> None:
    groups = [token_group(9, [8, 5], 1)]
    noisy = toy_network(name, **DROPOUTS.get(name, {"attention_dropout": 0.3})).train()
    assert not torch.equal(naive_log_probs(noisy, groups), naive_log_probs(noisy, groups))
    disable_noise(noisy, keep_adapters=True)
    assert torch.equal(naive_log_probs(noisy, groups), naive_log_probs(toy_network(name), groups))


def test_a_whole_policy_trains_every_parameter_in_float32(tiny_model: Path) -> None:
    policy, loaded = load_policy(str(tiny_model), device=CPU, precision="auto", adapter=None)
    assert policy.network is loaded.network
    assert policy.network.training
    assert policy.autocast is None
    assert all(value.requires_grad for value in policy.network.parameters())
    assert {value.dtype for value in policy.network.parameters()} == {torch.float32}
    assert num_parameters(policy.network) == sum(value.numel() for value in policy.network.parameters())


def test_an_adapted_policy_trains_its_adapter_only_and_keeps_its_dropout(tiny_model: Path) -> None:
    settings = LoraSettings(rank=4, alpha=8.0, dropout=0.25, targets=("q_proj",))
    policy, _ = load_policy(str(tiny_model), device=CPU, precision="fp32", adapter=settings)
    network: Any = policy.network
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert len(trained) == 4
    assert all(".lora_" in name for name in trained)
    assert network.peft_config["default"].base_model_name_or_path == str(tiny_model)
    dropped = {module.p for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert dropped == {0.25}


@pytest.mark.parametrize("adapter", [None, ADAPTER], ids=["full", "LoRA"])
@pytest.mark.parametrize("layout", [one for one in names() if one != "forked"])  # which refuses: test_selfcheck
def test_activations_made_again_in_the_backward_pass_change_nothing(
    layout: str, adapter: LoraSettings | None, tiny_model: Path
) -> None:
    stream = build_stream([token_group(9, [8, 5], 1), token_group(1, [3], 2)])
    sides = []
    for again in (False, True):
        torch.manual_seed(0)
        policy, _ = load_policy(
            str(tiny_model), device=CPU, precision="fp32", adapter=adapter, gradient_checkpointing=again
        )
        assert any(getattr(module, "gradient_checkpointing", False) for module in policy.network.modules()) == again
        policy.set_attention(layout)
        sides.append(gradients(policy.network, policy.log_probs(stream).token_S.sum()))
    plain, made_again = sides
    assert plain.keys() == made_again.keys()
    assert all(torch.equal(made_again[name], grad) for name, grad in plain.items())
    assert any(grad.abs().max() > 0 for grad in plain.values())


def test_an_adapter_on_top_of_an_adapter_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    policy, _ = load_policy(str(tiny_model), device=CPU, precision="fp32", adapter=ADAPTER)
    policy.network.save_pretrained(tmp_path)  # type: ignore[operator]
    with refused(r"is an adapter.*cannot be put on top. Leave lora out, or give the base"):
        load_policy(str(tmp_path), device=CPU, precision="fp32", adapter=ADAPTER)
    assert load_policy(str(tmp_path), device=CPU, precision="fp32", adapter=None)[1].starts_from_adapter


@pytest.mark.filterwarnings("ignore")  # what PEFT says of such adapters
@pytest.mark.parametrize("special", [{"trainable_token_indices": [3, 4]}, {"bias": "lora_only", "lora_bias": True}])
def test_an_adapter_that_trains_what_is_not_its_own_is_refused(
    tiny_model: Path, tmp_path: Path, special: dict[str, Any]
) -> None:
    """A frozen copy of it, or a mixture, would leave the rest behind."""
    base = load_policy(str(tiny_model), device=CPU, precision="fp32", adapter=None)[0].network
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **special)
    get_peft_model(base, config).save_pretrained(tmp_path)  # type: ignore[arg-type]
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    written["base_model_name_or_path"] = str(tiny_model)
    (tmp_path / "adapter_config.json").write_text(json.dumps(written))
    with refused("neither low-rank factors of a linear layer nor in a module to save"):
        load_policy(str(tmp_path), device=CPU, precision="fp32", adapter=None)


def test_devices_and_precisions_by_name() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another system")
def test_buffers_that_are_made_again_have_no_fresh_pages() -> None:
    """16 buffers of 8 MiB are 32,768 pages; where they are given back, each of them is a fault the next time."""
    code = """
import resource, torch
from trueup.models.prepare import pick_device
pick_device("cpu")
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffers = [torch.empty(2**21).fill_(1) for _ in range(16)]
    del buffers
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert min(map(int, faults.split()[2:])) < 1_000, faults  # a system short of memory may take some pages itself
    assert pick_autocast("auto", CPU) is None
    assert pick_autocast("bf16", CPU) is torch.bfloat16
    assert pick_autocast("fp32", CPU) is None


def test_dropout_saved_in_an_adapter_stays_off_unless_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    asked = LoraSettings(rank=2, alpha=4.0, dropout=0.3, targets="all-linear")
    options = {"device": torch.device("cpu"), "precision": "fp32"}
    policy, _ = load_policy(str(tiny_model), adapter=asked, **options)
    policy.network.save_pretrained(tmp_path / "adapter")

    def rates(network: torch.nn.Module) -> set[float]:
        return {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}

    assert rates(policy.network) == {0.3}
    continued, _ = load_policy(str(tmp_path / "adapter"), adapter=None, **options)
    assert rates(continued.network) == {0.0}
