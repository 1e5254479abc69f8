"""Settings, models and folders that cannot be: one line that names the place and the remedy, exit code 2, nothing left
behind. What data can get wrong is in test_refused_data.py."""

import json
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from support.small_runs import write_feedback
from support.tiny_models import char_tokenizer, save_tiny_model

from trueup.cli.app import run


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dpo", "--max-length", "100000"), r"max_length 100000.*512"),
        (("dpo", "--data", "absent.jsonl"), r"absent\.jsonl"),
        (("dpo", "--model", "absent"), r"absent"),
        (("dpo", "--lora.rank", "4", "--lora.targets", "nowhere"), r"nowhere.*q_proj"),
        (("dpo", "--eval-fraction", "0.001"), r"eval_fraction"),
        (("dpo", "--steps", "9" * 30), r"steps must be at most"),
        (("dpo", "--epochs", "1e30"), r"epochs must be at most"),
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


@pytest.mark.parametrize("option", ["--data", "--config", "--chat-template"])
def test_a_device_has_no_end(option: str, trueup: Trueup, tiny_model: Path, tmp_path: Path) -> None:
    given = {"--model": tiny_model, "--data": write_feedback(tmp_path)["pairs"], "--output": tmp_path / "run"}
    code, said = trueup("train", "dpo", *chain(*{**given, option: "/dev/zero"}.items()))
    assert code == 2 and "/dev/zero" in said and "this is a device; name a file" in said


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
    data.write_text(json.dumps({"messages": turns}) + "\n")
    template.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    arguments = ("train", "sft", "--model", model, "--data", data)
    code, said = trueup(*arguments, "--output", tmp_path / "run")
    assert code == 2
    assert re.search(r"data\.jsonl:1.*no chat template.*--chat-template", said), said
    assert trueup(*arguments, "--output", tmp_path / "run", "--chat-template", template) == (0, "")
