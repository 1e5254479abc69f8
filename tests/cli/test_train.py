"""What `trueup train` makes of its arguments, and how each way to end becomes a line and an exit code."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import trueup
from trueup.cli.app import run
from trueup.config.resolve import Resolved, dump, run_settings
from trueup.errors import AnnotatorError, CheckpointError, InputError, NumericsError, Stopped, TrueupError
from trueup.methods import METHODS
from trueup.references.choices import TrustRegion
from trueup.settings.annotator_kinds import FunctionAnnotator, LocalAnnotator, RewardAnnotator, WorldAnnotator
from trueup.settings.run_settings import NO_DATA, LoraSettings
from trueup.training import api

Captured = pytest.CaptureFixture[str]
URL = "http://localhost:8000/v1"
GIVEN = ["--model", "m", "--data", "a.jsonl", "--output", "o"]
GATHERING = ["--model", "m", "--prompts", "prompts.jsonl", "--output", "o"]


class Begun:
    """What the command handed to the training package."""

    resolved: Resolved
    resumed: Resolved


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    seen = Begun()
    monkeypatch.setattr(api, "run", lambda resolved: setattr(seen, "resolved", resolved))
    monkeypatch.setattr(api, "go_on", lambda resolved: setattr(seen, "resumed", resolved))
    return seen


def train(*arguments: str) -> int:
    return run(["train", *arguments])


OFFLINE = "--model m --data a.jsonl --output o "
ONLINE = "--model m --prompts prompts.jsonl --output o "
OF_TRL = (
    "--model_name_or_path m --output_dir o --dataset_name d.jsonl --bf16 --use_peft --lora_r 4 --lora_target_modules q "
    "--lora_target_modules v --sync_ref_model --ref_model_sync_steps 8 --max_steps 9"
)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        (
            "tr-dpo", f"{OFFLINE} --beta 0.2 --reference.alpha 1 --reference.every=64 --lora.rank 8",
            {"beta": 0.2, "reference": TrustRegion(alpha=1.0, every=64), "lora": LoraSettings(rank=8)},
        ),
        (
            "dpo", f"{OFFLINE} --batch-size 4 --max_length=64 --per-device-eval-batch-size 2 --learning_rate 5e-7",
            {"batch_size": 4, "max_length": 64, "learning_rate": 5e-7},
        ),
        (
            "dpo", f"{OFFLINE} b.jsonl --seed 3 c.jsonl --data d.jsonl --eval_data e",
            {"data": ("a.jsonl", "d.jsonl", "b.jsonl", "c.jsonl"), "eval_data": ("e",)},
        ),
        (
            "dpo", f"{OFFLINE} --trackers wandb --trackers trackio --lora.targets q --lora.targets v",
            {"trackers": ("wandb", "trackio"), "lora": LoraSettings(targets=("q", "v"))},
        ),
        (
            "dpo", f"{OFFLINE} --allow_overlap --gradient_checkpointing true --lora",
            {"allow_overlap": True, "gradient_checkpointing": True, "lora": LoraSettings()},
        ),
        (
            "dpo", f"{OFFLINE} --no-lora --gradient_checkpointing=false --seed 1 -- --b",
            {"data": ("a.jsonl", "--b"), "lora": None, "gradient_checkpointing": False},
        ),
        (
            "dpo", OF_TRL,
            {"model": "m", "data": ("d.jsonl",), "output": "o", "precision": "bf16", "steps": 9,
             "lora": LoraSettings(rank=4, targets=("q", "v")), "reference": TrustRegion(every=8)},
        ),
        (
            "oaif", f"{ONLINE} --annotator local --annotator.model models/j",
            {"annotator": LocalAnnotator("models/j"), "prompts": ("prompts.jsonl",), "source": "online"},
        ),
        (
            "oaif", f"{ONLINE} --annotator world:gold --annotator.noise 0.1",
            {"annotator": WorldAnnotator("gold", noise=0.1)},
        ),
        (
            "ca", f"{ONLINE} --reward rewards.py:brevity",
            {"annotator": FunctionAnnotator("rewards.py:brevity"), "source": "offline"},
        ),
        (
            "rrhf", f"{ONLINE} --reward runs/rm/model --source online",
            {"annotator": RewardAnnotator("runs/rm/model"), "source": "online"},
        ),
    ],
)  # fmt: skip
def test_arguments(begun: Begun, method: str, options: str, expected: dict[str, Any]) -> None:
    """Of the method and of the run, by our names and by TRL's, several times, as switches and as files."""
    assert train(method, *options.split()) == 0
    made = dict(begun.resolved.settings) | dict(begun.resolved.method_settings)
    assert {name: made[name] for name in expected} == expected


def test_a_file_under_the_options(begun: Begun, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: m\ndata: [a, b]\noutput: o\nseed: 1\nbatch_size: 4\n")
    assert train("sft", "--config", str(path), "--seed", "2") == 0
    settings = begun.resolved.settings
    assert (settings.data, settings.seed, settings.batch_size) == (("a", "b"), 2, 4)


class TestGathering:
    @pytest.mark.parametrize(
        ("given", "stop"),
        [
            (r"\n\nHuman:", "\n\nHuman:"), ("\n\nHuman:", "\n\nHuman:"), (r"a\tb", "a\tb"), (r"\\n", r"\n"),
            (r"\d\\", "\\d\\"), ("END", "END"), (r"\\\n", "\\\n"),
        ],
    )  # fmt: skip
    def test_escapes_in_a_stop_text(self, begun: Begun, given: str, stop: str) -> None:
        assert train("oaif", *GATHERING, "--reward", "rm", "--sampler.stop", given) == 0
        assert begun.resolved.settings.sampler.stop == (stop,)
        assert train("oaif", *GATHERING, "--reward", "rm", "--sampler.stop", "x", "--sampler.stop", given) == 0
        assert begun.resolved.settings.sampler.stop == ("x", stop)

    def test_escapes_are_read_nowhere_else(self, begun: Begun) -> None:
        judge = ["--annotator", "local:m", "--annotator.instruction", r"a\nb"]
        assert train("oaif", *GATHERING, *judge, "--run_name", r"c\nd") == 0
        assert begun.resolved.settings.annotator == LocalAnnotator("m", instruction=r"a\nb")
        assert begun.resolved.settings.run_name == r"c\nd"
        assert [setting.path for setting in run_settings() if setting.role.escaped] == ["sampler.stop"]


def test_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Resolved] = []
    monkeypatch.setattr(api, "run", lambda resolved, quiet: seen.append(resolved))
    method = trueup.methods.oaif(objective="slic")
    where = {"model": Path("m"), "output": Path("o"), "prompts": Path("p.jsonl")}
    trueup.train(method, **where, annotator="world:proxy", sampler={"responses": 3})
    trueup.train(method, **where, reward=Path("runs/rm/model"))
    trueup.train(trueup.methods.dpo(), model="m", output="o", data=[Path("a.jsonl"), "b.jsonl"])
    first, second, third = seen
    assert (first.settings.annotator, first.settings.sampler.responses) == (WorldAnnotator("proxy"), 3)
    assert (first.settings.prompts, dict(first.method_settings)["objective"]) == (("p.jsonl",), "slic")
    assert second.settings.annotator == RewardAnnotator("runs/rm/model")
    assert third.settings.data == ("a.jsonl", "b.jsonl")


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["dpo", *GIVEN, "-x"], "x is not a setting of method dpo or of a run"),
            (["sft", "--eval-data"], "--eval-data stands without its value; give --eval-data VALUE"),
            (["dpo", "-beta", "1"], "-beta is not an option of trueup train dpo; did you mean --beta?"),
            (["dpo", "---beta", "1"], "---beta is not an option of trueup train dpo; did you mean --beta?"),
            (["dpo", "--config", ""], "'': cannot be read: Is a directory"),
            (["dpo", "--resume", ""],
             "'' is not a run, as it has no run.yaml; give the folder that was the output when it began"),
            (["dpo"], f"model is required; output is required; {NO_DATA}"),
            ([], f"a method is missing: trueup train METHOD, one of {', '.join(sorted(METHODS))}"),
            (["dpo", "--config", "none.yaml"], "none.yaml: no such file"),
            (["sft", "--rewrd", "m"], "rewrd is not a setting of method sft or of a run; did you mean reward?"),
            (["oaif", *GATHERING, "--annotator=openai"], "annotator.base_url is required; annotator.model is required"),
        ],
    )  # fmt: skip
    def test_one_line_and_exit_code_2(self, begun: Begun, arguments: list[str], message: str, capsys: Captured) -> None:
        assert train(*arguments) == 2
        assert capsys.readouterr() == ("", f"trueup: {message}\n")
        assert not hasattr(begun, "resolved")


@pytest.mark.parametrize(
    ("ending", "code", "line"),
    [
        (InputError("bad\n  row"), 2, "trueup: bad row\n"),
        (CheckpointError("disk full"), 4, "trueup: disk full\n"),
        (NumericsError("loss is nan"), 5, "trueup: loss is nan\n"),
        (AnnotatorError("no reply"), 6, "trueup: no reply\n"),
        (TrueupError("else"), 1, "trueup: else\n"),
        (Stopped("SIGTERM"), 143, ""),
        (Stopped("SIGINT"), 130, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_a_run_ends(
    ending: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def end(resolved: Resolved) -> None:
        raise ending

    monkeypatch.setattr(api, "run", end)
    assert train("dpo", *GIVEN) == code
    assert capsys.readouterr().err == line


class TestResume:
    @pytest.fixture
    def folder(self, begun: Begun, tmp_path: Path) -> str:
        train("tr-dpo", *GIVEN, "--output", str(tmp_path), "--log_every", "4")
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(dump(begun.resolved)))
        return str(tmp_path)

    def test_what_may_change_is_handed_on(self, begun: Begun, folder: str) -> None:
        assert train("tr-dpo", "--resume", folder, "--save_every", "7", "--report_to", "wandb") == 0
        settings = begun.resumed.settings
        assert (settings.output, settings.log_every, settings.save_every) == (folder, 4, 7)
        assert settings.trackers == ("wandb",)

    def test_the_same_command_again(self, begun: Begun, folder: str) -> None:
        assert train("tr-dpo", *GIVEN, "--output", folder, "--log_every", "4", "--resume", folder) == 0
        assert begun.resumed.settings.output == folder
