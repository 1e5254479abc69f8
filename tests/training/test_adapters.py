"""Runs of adapters beyond plain LoRA, which PEFT computes: they end alike when killed, merge, and are references."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from support.refusals import refused
from support.small_runs import break_off, command, metrics_of, model_bytes, options, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM

from trueup.model_folder import check_model
from trueup.models.tokenizer import quiet_library
from trueup.training import api

IDS = torch.tensor([[4, 9, 11, 6]])
VARIANTS: dict[str, dict[str, Any]] = {
    "rank-stabilised": {"lora.rslora": True},
    "dora": {"lora.dora": True},
    "copies": {"lora.modules_to_save": ["lm_head", "model.norm"]},
    "patterns": {
        "lora.rank_pattern": ["q_proj=2", "layers.0.mlp.down_proj=8"],
        "lora.alpha_pattern": {"k_proj": 3},
    },
    "all": {
        "lora.rslora": True, "lora.dora": True, "lora.dropout": 0.1, "lora.rank_pattern": ["q_proj=2"],
        "lora.modules_to_save": ["embed_tokens"],
    },
}  # fmt: skip
FOLLOWING = {"reference.kind": "trust-region", "reference.every": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one matrix for its input and output embeddings."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tied", tie_word_embeddings=True)


@pytest.fixture(scope="module", params=VARIANTS)
def finished(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """Settings of a run of 12 steps, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    values = settings("dpo", model, write_feedback(folder), folder / "run", **{"lora.rank": 4})
    values |= VARIANTS[request.param]
    run_here("dpo", values)  # the check of the first batch has found the policy to be its reference to the bit
    return values, folder / "run"


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(IDS).logits
    return found


def test_a_run_that_was_killed_ends_with_the_same_bits(finished: Any, tmp_path: Path) -> None:
    values, whole = finished
    again = {**values, "output": str(tmp_path / "run")}
    break_off("dpo", again, before_step=8)
    api.resume(tmp_path / "run", quiet=True)
    assert model_bytes(tmp_path / "run") == model_bytes(whole) != {}
    assert metrics_of(tmp_path / "run") == metrics_of(whole)


def test_the_adapter_is_pefts_and_its_merge_computes_what_it_computes(
    finished: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, run = finished
    with quiet_library():
        base = AutoModelForCausalLM.from_pretrained(model)
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), run / "model")
    config = adapted.peft_config["default"]
    assert (config.use_rslora, config.use_dora) == (
        "lora.rslora" in values, "lora.dora" in values,
    )  # fmt: skip
    assert not torch.allclose(logits(adapted), logits(base), atol=1e-3)
    assert command("export", run, "--merge", "--output", tmp_path / "merged") == 0, capsys.readouterr().err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(adapted), atol=1e-5, rtol=1e-5)
    with quiet_library():
        pefts = adapted.merge_and_unload()
    assert torch.equal(logits(merged), logits(pefts))


@pytest.mark.parametrize("alpha", [None, pytest.param(1.0, marks=pytest.mark.many), 0.6])
def test_a_reference_that_begins_at_an_adapter(finished: Any, alpha: float | None, tmp_path: Path) -> None:
    """Frozen where it begins, following the policy, or mixed with it where that can be; and back after a kill."""
    values, run = finished
    plain = {name: value for name, value in values.items() if not name.startswith("lora.")}
    more = {} if alpha is None else {**FOLLOWING, "reference.alpha": alpha}
    again = {**plain, "model": str(run / "model"), **more, "output": str(tmp_path / "a")}
    if alpha == 0.6 and "lora.dora" in values:
        with refused("reference.alpha 0.6 is refused on an adapter of DoRA"):
            run_here("dpo", again)
        return
    run_here("dpo", again)
    break_off("dpo", {**again, "output": str(tmp_path / "b")}, before_step=8)
    api.resume(tmp_path / "b", quiet=True)
    assert model_bytes(tmp_path / "a") == model_bytes(tmp_path / "b")
    assert metrics_of(tmp_path / "a")[0]["kl"] == 0


REFUSED = [
    ({"lora.modules_to_save": ["lm_haed"]}, "lora.modules_to_save: lm_haed is no module of LlamaForCausalLM"),
    ({"lora.modules_to_save": ["layers"]}, "lora.modules_to_save layers: No modules were targeted"),
    ({"lora.rank_pattern": ["query=4"]}, "lora.rank_pattern: no layer with an adapter has a name that ends in 'query'"),
    ({"lora.rank_pattern": ["q_proj"]}, "lora.rank_pattern must be names with whole numbers, as in q_proj=8; got"),
    ({"lora.alpha_pattern": ["(a+)+b=4"]}, "lora.alpha_pattern: no layer"),
    ({"lora.dora": True, **FOLLOWING, "reference.alpha": 0.5}, "reference.alpha 0.5 is refused under lora.dora"),
    ({"quantize": "nf4", "lora.rank": None}, "weights in 4 bits are not trained; give lora.rank"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str, model: Path, tmp_path: Path) -> None:
    values = settings("dpo", model, write_feedback(tmp_path), tmp_path / "run", **{"lora.rank": 4})
    values = {name: value for name, value in {**values, **changes}.items() if value is not None}
    with refused(message):
        run_here("dpo", values)


@pytest.mark.parametrize("method", ["gptq", "fp8", "bitsandbytes"])
def test_weights_that_are_stored_quantized_are_refused_before_they_are_read(
    method: str, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    with refused(f"config.json: weights quantized by {method}, which are not read; give the model that they"):
        check_model(str(folder), trust_remote_code=False)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed here")
def test_4_bits_without_their_package_are_refused_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings("dpo", model, write_feedback(tmp_path), tmp_path / "run", quantize="nf4")
    assert command("train", "dpo", *options({**values, "lora.rank": 4})) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("trueup: quantize nf4 needs the package bitsandbytes, which is not installed here: pip")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: the extra quantize")
@pytest.mark.parametrize("more", [{}, {"lora.dora": True}, {"lora.modules_to_save": ["lm_head"]}])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_an_adapter_on_4_bits(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    """The check of the first batch holds to the bit; killed it ends the same; it merges into the weights."""
    model = save_tiny_model(tmp_path / "model")
    values = settings("dpo", model, write_feedback(tmp_path), tmp_path / "a", quantize=kind, **{"lora.rank": 4})
    run_here("dpo", {**values, **more})
    break_off("dpo", {**values, **more, "output": str(tmp_path / "b")}, before_step=8)
    api.resume(tmp_path / "b", quiet=True)
    assert model_bytes(tmp_path / "a") == model_bytes(tmp_path / "b") != {}
    assert command("export", tmp_path / "a", "--merge", "--output", tmp_path / "merged") == 0
    merged, before = (load_file(tmp_path / "merged" / "model.safetensors"), load_file(model / "model.safetensors"))
    assert {name: value.dtype for name, value in merged.items()} == {
        name: value.dtype for name, value in before.items()
    }
