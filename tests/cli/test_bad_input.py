"""Every mistake a user can make: one line that names the place and the remedy, exit code 2, nothing left behind."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_runs import write_feedback
from support.tiny_models import char_tokenizer, save_tiny_model

from trueup.cli.app import run

GOOD = {"prompt": "say red:", "chosen": " red", "rejected": " blue"}


def lines(*rows: object) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def scored(*scores: float | str) -> dict[str, object]:
    return {"prompt": "p", "responses": [f" {n}" for n in range(len(scores))], "scores": list(scores)}


BAD_DATA = {
    "a torn last line": (lines(GOOD, b'{"prompt": "a", "cho'), r"data\.jsonl:2"),
    "a bad line in the middle": (lines(GOOD, b"{oops}\n", GOOD), r"data\.jsonl:2"),
    "wrong keys": (
        lines({"prompt": "a", "choosen": "b", "rejected": "c"}),
        r"data\.jsonl:1.*did you mean 'chosen'",
    ),
    "a number for text": (lines(GOOD, {**GOOD, "chosen": 3}), r"data\.jsonl:2.*chosen"),
    "a missing key later": (lines(GOOD, {"prompt": "a", "chosen": "b"}), r"data\.jsonl:2.*rejected"),
    "bytes that are not UTF-8": (lines(GOOD, b'{"prompt": "caf\xe9"}\n'), r"data\.jsonl:2.*UTF-8"),
    "a NaN score": (
        lines(b'{"prompt": "p", "responses": ["a", "b"], "scores": [NaN, 1]}\n'),
        r"data\.jsonl:1.*scores\[0\].*finite",
    ),
    "an empty file": (b"", r"data\.jsonl.*empty"),
    "only identical pairs": (lines({**GOOD, "rejected": " red"}), r"identical pair"),
    "only empty responses": (lines({**GOOD, "rejected": ""}), r"empty"),
    "only equal scores": (lines(scored(1, 1, 1)), r"all scores equal"),
}


@pytest.fixture
def trueup(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command; its exit code and the last line it said, which must be the only one of an error."""

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if line.startswith("trueup: ")]
        assert len(errors) == (code != 0), said
        return code, errors[0] if errors else ""

    return call


Trueup = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name: str, trueup: Trueup, tiny_model: Path, tmp_path: Path) -> None:
    content, message = BAD_DATA[name]
    data, output = tmp_path / "data.jsonl", tmp_path / "run"
    data.write_bytes(content)
    code, said = trueup("train", "dpo", "--model", tiny_model, "--data", data, "--output", output)
    assert code == 2
    assert re.search(message, said), said
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dpo", "--beta", "-1"), r"beta must be greater than 0.*-1"),
        (("dpo", "--bta", "0.1"), r"bta.*did you mean beta"),
        (("ddpo",), r"ddpo is not a method.*did you mean.*dpo"),
        (("sft", "--reference.alpha", "0.5"), r"reference.*sft"),
        (("dpo", "--reference.kind", "adapter-off"), r"no adapter to switch off|adapter"),
        (("tr-dpo", "--reference.alpha", "1.5"), r"reference\.alpha.*at most 1.*1\.5"),
        (("dpo", "--max-length", "100000"), r"max_length 100000.*512"),
        (("dpo", "--data", "absent.jsonl"), r"absent\.jsonl"),
        (("dpo", "--model", "absent"), r"absent"),
        (("dpo", "--lora.rank", "4", "--lora.targets", "nowhere"), r"nowhere.*q_proj"),
        (("dpo", "--trackers", "mlflow"), r"trackers.*tensorboard"),
        (("dpo", "--eval-fraction", "0.001"), r"eval_fraction"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_settings(
    arguments: tuple[str, ...], message: str, trueup: Trueup, tiny_model: Path, tmp_path: Path
) -> None:
    given = {"--model": tiny_model, "--data": write_feedback(tmp_path)["pairs"], "--output": tmp_path / "run"}
    missing = [part for name, value in given.items() if name not in arguments for part in (name, value)]
    code, said = trueup("train", *arguments, *missing)
    assert code == 2
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_prompts_longer_than_the_limit(trueup: Trueup, tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_bytes(lines({**GOOD, "prompt": "a" * 50}))
    arguments = ("train", "dpo", "--model", tiny_model, "--data", data, "--max-length", "40")
    code, said = trueup(*arguments, "--output", tmp_path / "run")
    assert code == 2
    assert re.search(r"data\.jsonl row 1.*--max-prompt-length", said), said
    assert trueup(*arguments, "--max-prompt-length", "20", "--output", tmp_path / "cut") == (0, "")


def spoil(model: Path, folder: Path, how: str) -> Path:
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    if how == "half of the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif how == "no weights":
        weights.unlink()
    elif how == "only a pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif how == "a torn config":
        (folder / "config.json").write_text('{"model_type": "lla')
    elif how == "code in the folder":
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine"}}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "how, message",
    [
        ("half of the weights", r"model\.safetensors"),
        ("no weights", r"safetensors"),
        ("only a pickle", r"pytorch_model\.bin|\.bin"),
        ("no tokenizer", r"tokenizer"),
        ("a torn config", r"config\.json"),
        ("code in the folder", r"trust_remote_code|trust-remote-code"),
    ],
)
def test_a_half_written_model(
    how: str, message: str, trueup: Trueup, tiny_model: Path, tmp_path: Path
) -> None:
    model = spoil(tiny_model, tmp_path / "model", how)
    data = write_feedback(tmp_path)["pairs"]
    code, said = trueup("train", "dpo", "--model", model, "--data", data, "--output", tmp_path / "run")
    assert code == 2
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_end_of_sequence(trueup: Trueup, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", tokenizer=char_tokenizer(eos=False), eos_token_id=None)
    data = write_feedback(tmp_path)["pairs"]
    arguments = ("train", "dpo", "--model", model, "--data", data, "--epochs", "0.2")
    code, said = trueup(*arguments, "--output", tmp_path / "run")
    assert code == 2
    assert "no end-of-sequence token" in said and "--eos-token" in said
    assert trueup(*arguments, "--output", tmp_path / "run", "--eos-token", "<|im_end|>") == (0, "")


def test_a_tokenizer_without_padding_needs_none(trueup: Trueup, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", tokenizer=char_tokenizer(pad=False), pad_token_id=None)
    data = write_feedback(tmp_path)["pairs"]
    arguments = ("train", "dpo", "--model", model, "--data", data, "--epochs", "0.2")
    assert trueup(*arguments, "--output", tmp_path / "run") == (0, "")


def test_a_tokenizer_without_chat_template(trueup: Trueup, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", tokenizer=char_tokenizer())
    data, template = tmp_path / "data.jsonl", tmp_path / "template.jinja"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    data.write_bytes(lines({"messages": turns}))
    template.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    arguments = ("train", "sft", "--model", model, "--data", data)
    code, said = trueup(*arguments, "--output", tmp_path / "run")
    assert code == 2
    assert re.search(r"data\.jsonl:1.*no chat template.*--chat-template", said), said
    assert trueup(*arguments, "--output", tmp_path / "run", "--chat-template", template) == (0, "")


def test_a_folder_that_holds_a_run(trueup: Trueup, tiny_model: Path, tmp_path: Path) -> None:
    data = write_feedback(tmp_path)["pairs"]
    arguments = ("train", "dpo", "--model", tiny_model, "--data", data, "--output", tmp_path / "run")
    assert trueup(*arguments, "--epochs", "0.2") == (0, "")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    code, said = trueup(*arguments)
    assert code == 2
    assert "--resume" in said
    assert trueup("train", "dpo", "--resume", tmp_path / "run")[0] == 2  # it is done
    assert trueup("train", "dpo", "--resume", tmp_path / "nowhere")[0] == 2
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
