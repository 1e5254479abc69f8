"""The finished model is what the libraries of others load, and it is the policy that was trained."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from support.small_runs import metrics_of, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from trueup.config.resolve import resolve
from trueup.errors import CheckpointError
from trueup.models import lora
from trueup.models.tokenizer import quiet_library
from trueup.training import export as exporting
from trueup.training.checkpoint import verify
from trueup.training.export import export

PROMPT = "say red 3: red"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The networks that runs write, as they are in memory."""
    seen: list[Any] = []

    def watched(network: Any, *arguments: Any, **more: Any) -> None:
        seen.append(network)
        export(network, *arguments, **more)

    monkeypatch.setattr(exporting, "export", watched)
    return seen


def run(method: str, model: Path, folder: Path, **more: Any) -> Path:
    output = folder / "run"
    run_here(method, settings(method, model, write_feedback(folder), output, **more))
    return output / "model"


@torch.no_grad()
def log_probs(network: Any, tokenizer: Any, text: str = PROMPT) -> torch.Tensor:
    """[L, V] of the model library's own forward pass."""
    network.eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    network.set_attn_implementation("sdpa")
    return network(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_loads_as_it_was_trained(tied: bool, tmp_path: Path, trained: list[Any]) -> None:
    model = save_tiny_model(tmp_path / "model", tie_word_embeddings=tied)
    folder = run("dpo", model, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert network.config.dtype == torch.float32
    assert (network.lm_head.weight is network.model.embed_tokens.weight) is tied
    got = log_probs(network, tokenizer)
    assert torch.equal(got, log_probs(trained[0], tokenizer))
    start = AutoModelForCausalLM.from_pretrained(model)
    assert (got - log_probs(start, tokenizer)).abs().max() > 0.01
    assert tokenizer(PROMPT).input_ids == AutoTokenizer.from_pretrained(model)(PROMPT).input_ids
    assert tokenizer.chat_template


@pytest.mark.parametrize("dtype, unit", [("bfloat16", 2**-8), ("float16", 2**-11)])
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_can_be_written_in_half_the_room(
    dtype: str, unit: float, tied: bool, tmp_path: Path, trained: list[Any]
) -> None:
    """Every weight is rounded once, to the nearest; the policy in memory is left as it was."""
    model = save_tiny_model(tmp_path / "model", tie_word_embeddings=tied)
    folder = run("sft", model, tmp_path, save_dtype=dtype)
    written = load_file(folder / "model.safetensors")
    state = trained[0].state_dict()
    assert set(state) - set(written) == ({"lm_head.weight"} if tied else set())
    for name, value in written.items():
        assert value.dtype == getattr(torch, dtype)
        assert torch.equal(value, state[name].to(value.dtype))
        assert state[name].dtype == torch.float32
    assert trained[0].config.dtype == torch.float32
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == getattr(torch, dtype)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.testing.assert_close(
        log_probs(loaded.float(), tokenizer), log_probs(trained[0], tokenizer), rtol=0, atol=8 * unit
    )  # weights off by half a unit, through two layers


@pytest.mark.parametrize("reference", [{}, {"reference.kind": "trust-region", "reference.every": 2}])
def test_an_adapter_loads_in_peft(
    reference: dict[str, Any], tiny_model: Path, tmp_path: Path, trained: list[Any]
) -> None:
    """Alone, without the base model and without the reference's adapter."""
    folder = run("dpo", tiny_model, tmp_path, **{"lora.rank": 3, "lora.alpha": 5.0, **reference})
    assert not list(folder.glob("model*.safetensors"))
    assert not [path for path in folder.iterdir() if path.is_dir()]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    start = log_probs(base, tokenizer)
    with quiet_library():  # peft asks the model library for something by a name that it is going to drop
        adapted = PeftModel.from_pretrained(base, folder)
    assert adapted.peft_config["default"].r == 3
    assert adapted.peft_config["default"].base_model_name_or_path == str(tiny_model)
    with lora.adapter(trained[0], lora.POLICY):
        assert torch.equal(log_probs(adapted, tokenizer), log_probs(trained[0], tokenizer))
    assert (log_probs(adapted, tokenizer) - start).abs().max() > 0.01
    merged = log_probs(adapted.merge_and_unload(), tokenizer)
    torch.testing.assert_close(
        merged, log_probs(trained[0], tokenizer), rtol=0, atol=1e-4
    )  # float32, the sum in another order


def front_matter(card: str) -> tuple[dict[str, Any], str]:
    empty, front, body = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), body


@pytest.mark.parametrize("adapter", [False, True])
def test_the_model_card_says_what_the_model_is(adapter: bool, tiny_model: Path, tmp_path: Path) -> None:
    more = {"lora.rank": 2} if adapter else {}
    folder = run("tr-dpo", tiny_model, tmp_path, beta=0.07, run_name="a: run", **more)
    front, body = front_matter((folder / "README.md").read_text())
    assert front == {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["trueup", "tr-dpo"],
    }
    assert "# a: run\n" in body
    assert "**tr-dpo** (Trust-region DPO)" in body
    assert "https://arxiv.org/abs/2404.09656" in body
    assert "24 pairs" in body
    quoted = body.partition("```yaml\n")[2].partition("```")[0]
    kept, told = yaml.safe_load((folder.parent / "run.yaml").read_text()), yaml.safe_load(quoted)
    assert (told["method"], told["method_settings"]) == (kept["method"], kept["method_settings"])
    assert told["settings"].items() <= {**kept["settings"], "lora": told["settings"].get("lora")}.items()
    assert {"model", "data", "batch_size", "learning_rate", "seed"} <= set(told["settings"])
    assert not {"sampler", "annotator", "prompts", "output", "trackers", "steps"} & set(told["settings"])
    (code,) = re.findall(r"^```python\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's, of transformers
        exec(code.replace('"."', repr(str(folder))), names)
    assert type(names["model"]).__name__ == ("PeftModelForCausalLM" if adapter else "LlamaForCausalLM")
    last = metrics_of(folder.parent)[-1]
    assert f"## Result after {last['step']} steps" in body
    assert f"- loss: {last['loss']:.6g}\n" in body


def test_a_model_that_was_there_is_replaced_whole(tiny_model: Path, tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old.safetensors").write_text("old")
    resolved = resolve("dpo", overrides={"model": "x", "data": ["x"], "output": "x"})
    export(network, tokenizer, folder, dtype=torch.float32, card=exporting.card_of(resolved, "x", name="x", step=1))
    assert not (folder / "old.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(CheckpointError, match=r"model: the finished model could not be written: 'scores' is undefined"):
        export(network, tokenizer, folder, dtype=torch.float32, card={"base": "x"})
    assert (folder / "config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("save_dtype", ["float32", "bfloat16"])
def test_a_finished_run_takes_no_more_of_the_disk_than_it_has_to(
    save_dtype: str, tiny_model: Path, tmp_path: Path
) -> None:
    """The last checkpoint alone, without the frozen reference; its policy is the model's file where both are alike."""
    model = run("dpo", tiny_model, tmp_path, save_dtype=save_dtype, keep_checkpoints=None)
    (last,) = (model.parent / "checkpoints").iterdir()
    assert last.name == "step-00000012"
    assert verify(last) is None
    assert load_file(last / "reference.safetensors") == {}
    assert (model / "model.safetensors").samefile(last / "policy.safetensors") == (save_dtype == "float32")
