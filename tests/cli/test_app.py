"""The commands beside `train`, and the command as a process: exit codes, speed, what it imports."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.faulty_feedback import pair, write

import trueup
from trueup.cli.app import run
from trueup.methods import METHODS

SOURCE = Path(trueup.__file__).parents[1]


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trueup", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=SOURCE, timeout=300, check=False)


class TestCommands:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--version"]) == 0
        assert capsys.readouterr().out == f"trueup {trueup.__version__}\n"

    def test_methods(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["methods"]) == 0
        shown = capsys.readouterr().out
        for info in METHODS.values():
            assert all(text in shown for text in (info.name, info.title, info.formula, info.paper, info.feedback))
        assert (
            "beta 0.05, sft_weight 0.0, reference.kind trust-region, reference.alpha 0.6, reference.every 512" in shown
        )
        headed = shown.strip().split("\n\n")
        assert [one.split(" \u2500")[0] for one in headed if one.startswith("of ")][:2] == [
            "of demonstrations",
            "of pairs",
        ]
        blocks = {block.split()[0]: block.splitlines() for block in headed if not block.startswith("of ")}
        assert "  reference  frozen, adapter-off, cached, trust-region" in blocks["ulma"]
        assert "  reference  trust-region" in blocks["tr-kto"]
        assert "  reference  none" in blocks["rrhf"]
        assert "  sources    online, replay" in blocks["oaif"]
        assert all(len(re.findall(r"^  reference  \S", "\n".join(lines), re.M)) == 1 for lines in blocks.values())

    def test_a_second_form_is_in_the_formula(self) -> None:
        """What a switch turns into another loss is told where methods are chosen."""
        assert all("continuous, (z - s)^2" in METHODS[name].formula for name in ("ulma", "pointwise-dpo"))
        assert "with ascent" in METHODS["unlikelihood"].formula

    def test_methods_for_a_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["methods", "--json"]) == 0
        listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert set(listed) == set(METHODS)
        assert [*listed][:2] == ["sft", "apo-down"]  # by the feedback one has
        assert listed["dpo"]["settings"] == {
            "beta": 0.1, "label_smoothing": 0.0, "per_token": False, "sft_weight": 0.0, "reference.kind": "frozen",
        }  # fmt: skip
        assert listed["dpo"]["defaults"] == {"learning_rate": 1e-6}
        kinds = {name: entry["reference"] for name, entry in listed.items()}
        assert kinds["tr-dpo"] == ["trust-region"] and kinds["sft"] == ["none"]
        assert {name for name, offered in kinds.items() if {"frozen", "trust-region"} <= set(offered)} == {
            *("dpo", "robust-dpo", "ipo", "slic", "kto", "paired-kto", "pointwise-dpo", "ulma"),
            *("dpo-positive", "ld-dpo", "f-dpo", "wpo", "exo", "apo-zero", "apo-down", "nca", "sppo", "bco"),
            *("rso", "oaif", "ppo", "reinforce", "rloo", "grpo", "nash-md", "xpo"),
        }
        assert listed["dpo"]["sources"] == ["offline", "online", "replay"]
        assert listed["oaif"]["sources"] == ["online", "replay"] and "cached" not in kinds["oaif"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["trian"], "trian is not a command of trueup; did you mean train?"),
            ([""], "'' is not a command of trueup"),
            (["inspect", "x" * 300], f"{'x' * 40}...: File name too long"),
            (["--nothing"], "--nothing is not an option of trueup"),
            (["--verison"], "--verison is not an option of trueup; did you mean version?"),
            (["methods", "--jsn"], "jsn is not an option of trueup methods; did you mean json?"),
            (["methods", "--json=x"], "json must be true or false; got 'x'"),
            (["demo", "runs/x"], "runs/x is one argument too many for trueup demo; its options begin with --"),
            (["condition", "a", "b"], "b is one argument too many for trueup condition; its options begin with --"),
            (["condition"], "model is required; prompts is required; reward is required"),
            (["convert", "--to", "trl"], "data is required; output is required"),
            (["convert", "x", "--output", "y"], "to is required: one of canonical, pairs, rankings, points, trl"),
            (["inspect"], "no file of feedback was given; name at least one"),
            (["inspect", "--modle", "m"], "modle is not an option of trueup inspect; did you mean model?"),
        ],
    )  # fmt: skip
    def test_wrong_usage(self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(arguments) == 2
        assert capsys.readouterr().err == f"trueup: {message}\n"

    def test_the_package_offers_methods_lazily(self) -> None:
        assert trueup.methods is sys.modules["trueup.methods"]
        with pytest.raises(AttributeError, match="module 'trueup' has no attribute 'nothing'"):
            _ = trueup.nothing  # type: ignore[attr-defined]


class TestProcess:
    def test_exit_codes(self) -> None:
        refused = process("train", "dpo", "--beta", "-1")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("trueup: beta must be greater than 0; got -1; model is required")
        assert refused.stderr.count("\n") == 1
        assert process("--version").returncode == 0

    @pytest.mark.parametrize(
        ("behind", "code", "said"),
        [
            ("methods | true", 0, ""),
            ("methods >&-", 0, ""),
            ("methods >/dev/full", 2, "No space left on device"),
            ("convert world:pairs --to trl --output - >&-", 2, "output: the standard output is closed; name a file"),
        ],
    )  # fmt: skip
    def test_a_standard_output_that_takes_nothing(self, behind: str, code: int, said: str) -> None:
        command = ["bash", "-c", f"{sys.executable} -m trueup {behind}"]
        ended = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=300, check=False)
        assert (ended.returncode, ended.stderr) == (code, said and f"trueup: {said}\n")

    def test_nothing_heavy_is_imported(self, tmp_path: Path) -> None:
        """One process runs every light command, and whatever is refused, and tells what it has imported."""
        data = write(tmp_path / "data.jsonl", [pair("say:", " a", " b")])
        lines = (
            *("--help", "--version", "methods", "train --help", "train dpo --help", "inspect --help"),
            *(f"inspect {data}", f"inspect {data} --json"),
            f"convert {data} --to pairs --output {tmp_path / 'pairs.jsonl'}",
            "train dpo --beta -1",
            f"train dpo --resume {tmp_path}",
            "train oaif --model world --prompts world:prompts --reward org/rm --output o",
            "train oaif --model world --prompts p --annotator openai --output o",
            f"train ulma --model org/m --data x --output {tmp_path / 'o'}",
            f"train dpo --model {SOURCE} --data world:pairs --output {tmp_path / 'o'}",
        )
        commands = [line.split() for line in lines]
        script = (
            "import sys, trueup\n"
            "from trueup.cli.app import run\n"
            f"codes = [run(command) for command in {commands!r}]\n"
            "from trueup.errors import InputError\n"
            "try:\n"
            "    trueup.methods.dpo(beta=-1)\n"
            "except InputError: codes.append('refused')\n"
            "heavy = {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)\n"
            "print(codes, sorted(heavy), file=sys.stderr)\n"
        )
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=300, check=False)
        assert ended.stderr.splitlines()[-1] == "[0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 'refused'] []"

    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_help_answers_at_once(self, option: str) -> None:
        """Under 0.3 s of a processor at best of five; on a slow machine, under 15 times what an empty program takes."""

        def best(*arguments: str) -> float:
            seconds = []
            for _ in range(5):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run([sys.executable, *arguments], cwd=SOURCE, capture_output=True, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            return min(seconds)

        assert best("-m", "trueup", option) < max(0.3, 15 * best("-c", "pass"))
