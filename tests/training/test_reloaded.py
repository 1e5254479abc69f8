"""The finished model is read again before a run says that it is done, and another one than the policy is an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.small_runs import run_here, settings, write_feedback

from trueup.errors import CheckpointError
from trueup.training import export as exporting

SHORT = {"epochs": None, "steps": 2}


def values(method: str, model: Path, folder: Path, **more: Any) -> dict[str, Any]:
    return settings(method, model, write_feedback(folder, 8), folder / "run", **SHORT, **more)


@pytest.mark.parametrize("method", ["dpo", "reward-model"])
@pytest.mark.parametrize(
    "more", [{}, {"save_dtype": "bfloat16"}, {"lora.rank": 2, "lora.modules_to_save": ["norm"]}], ids=str
)
def test_a_run_reads_its_model_again(
    method: str, more: dict[str, Any], tiny_model: Path, tmp_path: Path, told: list[str]
) -> None:
    run_here(method, values(method, tiny_model, tmp_path, **more))
    (line,) = [line for line in told if "read again" in line]
    (file,) = (tmp_path / "run/model").glob("*.safetensors")
    tensors = len(load_file(file))
    assert line.endswith(f"{tensors} tensors the same, values of 6 rows off by 0")


def one_bit(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    tensor = next(iter(tensors.values())).flatten()
    tensor[0] = tensor[0].nextafter(tensor[0] + 1)
    file.unlink()  # which is one file with the checkpoint's
    save_file(tensors, file, metadata={"format": "pt"})


def rewritten(name: str, **keys: Any) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | keys))

    return tamper


def lost(folder: Path) -> None:
    (folder / "config.json").unlink()


LORA = {"lora.rank": 2}
TAMPERED: list[tuple[Callable[[Path], None], dict[str, Any], str]] = [
    (one_bit, {}, "differ. Do not use it"),
    (one_bit, LORA, "differ. Do not use it"),
    (rewritten("config.json", rms_norm_eps=1e-2), {}, "what it says of a row is off by"),
    (rewritten("config.json", rms_norm_eps=1e-2), {"save_dtype": "bfloat16"},
     "what it says of a row is off by"),
    (rewritten("adapter_config.json", lora_alpha=400), LORA, "what it says of a row is off by"),
    (lost, {}, "it cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize("tamper, more, words", TAMPERED)
def test_another_model_is_an_error(
    tamper: Callable[[Path], None], more: dict[str, Any], words: str, tiny_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original = exporting.export

    def export(network: Any, tokenizer: Any, folder: Path, **given: Any) -> None:
        original(network, tokenizer, folder, **given)
        tamper(folder)

    monkeypatch.setattr(exporting, "export", export)
    with pytest.raises(CheckpointError, match=f"is not the policy that was trained: .*{words}"):
        run_here("dpo", values("dpo", tiny_model, tmp_path, **more))
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] != "done"
    assert [one.name for one in (tmp_path / "run/checkpoints").iterdir()][-1:] == ["step-00000002"]
