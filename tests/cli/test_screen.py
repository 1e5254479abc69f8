"""What a person sees on a terminal of 80 columns, and at the end of a run; in a real terminal."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from support.online_runs import online, write_reward
from support.small_runs import options, settings, write_feedback

COLUMNS = 80
RUNS: dict[str, dict[str, Any]] = {
    "dpo": {"eval_fraction": 0.25, "eval_every": 4, "keep_best": "eval_loss"},
    "tr-dpo": {"reference.every": 2, "epochs": 10},
    "kto": {"learning_rate": 10},
    "sft": {"lora.rank": 4, "epochs": 10},
    "oaif": {},
    "ppo": {"sampler.responses": 1, "round_passes": 2, "round_prompts": 4},
}
FIGURES = {
    "dpo": ("loss", "acc", "margin", "kl"),
    "tr-dpo": ("loss", "acc", "margin", "kl"),
    "kto": ("loss", "chosen", "rejected", "kl"),
    "sft": ("loss", "logp", "grad"),
    "oaif": ("loss", "score", "acc", "kl"),
    "ppo": ("score", "kl", "value", "clipped"),
}
NUMBER = r"-?(\d+(\.\d+)?(e-?\d+)?|inf|nan)"
COLOUR, ESCAPE = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SCRIPT = """
import json, sys
from trueup.cli.app import run
for arguments in json.loads(sys.argv[1]):
    print("=====", flush=True)
    assert run(arguments) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screen")


@pytest.fixture(scope="module")
def screens(tiny_model: Path, folder: Path) -> dict[str, list[str]]:
    """Method -> what was on the terminal, one line after the other, those that were written over as well."""
    data = write_feedback(folder, easy=True)
    write_reward(folder)
    commands = []
    for method, more in RUNS.items():
        gathers = method in ("oaif", "ppo")
        values = (
            online(tiny_model, folder, folder / method, **more)
            if gathers
            else settings(method, tiny_model, data, folder / method, **more)
        )
        commands.append(["train", method, *options(values)])
    terminal: dict[str, Any] = {"dimensions": (24, COLUMNS), "encoding": "utf-8", "timeout": 300}
    child = pexpect.spawn(sys.executable, ["-c", SCRIPT, json.dumps(commands)], **terminal)
    child.expect(pexpect.EOF)
    child.close()
    shown = child.before or ""
    assert child.exitstatus == 0, shown
    plain = ESCAPE.sub("\n", COLOUR.sub("", shown)).replace("\r", "\n")
    parts = [part.split("\n") for part in plain.split("=====")[1:]]
    return {method: [line for line in part if line.strip()] for method, part in zip(RUNS, parts, strict=True)}


@pytest.mark.parametrize("method", RUNS)
def test_a_line_holds_the_bar_and_every_figure(method: str, screens: dict[str, list[str]]) -> None:
    figures = "  ".join(f"{name} {NUMBER}" for name in FIGURES[method])
    bars = [line for line in screens[method] if re.match(rf"{method} +[\u2501\u2578\u257a]", line)]
    form = rf"{method} [\u2501\u2578\u257a]+ (\d+)/(\d+)  (took \d+s|\d+s left)  {figures} *"
    found = [matched for line in bars if (matched := re.fullmatch(form, line))]
    often = "epochs" in RUNS[method]  # long enough for its bar to be drawn more than once
    assert len(found) > often and found[-1][1] == found[-1][2] and found[-1][3].startswith("took ")
    unstarted = rf"{method} [\u2501\u2578\u257a]+ 0/\d+ *"
    assert not [line for line in bars if not re.fullmatch(f"{form}|{unstarted}", line)]
    assert max(map(len, bars)) < COLUMNS


def after(lines: list[str], method: str) -> list[str]:
    (last,) = (at for at, line in enumerate(lines) if re.match(rf"{method}: \d+ of \d+ steps, \d+s$", line))
    return lines[last:]


def test_the_summary_of_a_run_with_evaluations(screens: dict[str, list[str]], folder: Path) -> None:
    lines = screens["dpo"]
    figures = "  ".join(f"{name} {NUMBER}" for name in FIGURES["dpo"])
    steps = [found[1] for line in lines if (found := re.match(rf"held out, after step (\d+): {figures}$", line))]
    assert steps == ["4", "8", "9"]
    said = after(lines, "dpo")
    change = rf"({NUMBER} -> )?{NUMBER}"
    assert re.match(rf"held out, 4 -> 9 steps: loss {change}, acc {change}, margin {change}, kl {change}$", said[1])
    assert re.match(rf"best: the least eval_loss is {NUMBER}, after step 9$", said[2])
    assert re.match(rf"KL to the reference, of the feedback: {NUMBER} nats a response$", said[3])
    assert said[4:] == [
        f"how it went: {folder / 'dpo' / 'report.html'}",
        f"the aligned model is in {folder / 'dpo' / 'model'}",
        said_of("transformers", "AutoModelForCausalLM", folder / "dpo" / "model"),
    ]


def said_of(package: str, name: str, model: Path) -> str:
    code = f"from {package} import {name} as M; M.from_pretrained({str(model)!r})"
    return f"load it with: python -c {shlex.quote(code)}"


def test_the_summary_of_runs_that_sample(screens: dict[str, list[str]]) -> None:
    for method, responses, rounds in (("oaif", 72, 6), ("ppo", 24, 6)):
        lines = after(screens[method], method)
        (sampled,) = (line for line in lines if line.startswith("sampled: "))
        assert re.match(rf"sampled: {responses} responses in {rounds} rounds: score {NUMBER} -> {NUMBER}$", sampled)
        (kl,) = (line for line in lines if line.startswith("KL to the reference, of "))
        assert ("of samples" in kl) is (method == "ppo")


def test_a_ruined_run_is_not_plainly_called_aligned(screens: dict[str, list[str]], folder: Path) -> None:
    lines = after(screens["kto"], "kto")
    assert lines[-2] == (
        f"warning: the aligned model is in {folder / 'kto' / 'model'}, and what is said above is wrong with it"
    )
    assert lines[-3].startswith("warning: ")


def test_the_command_loads_the_model(screens: dict[str, list[str]]) -> None:
    *_, shown = after(screens["sft"], "sft")
    assert "peft import AutoPeftModelForCausalLM" in shown
    command = shown.removeprefix("load it with: ").replace("python ", f"{sys.executable} -W ignore ", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
