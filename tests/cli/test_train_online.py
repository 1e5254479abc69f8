"""What `trueup train` makes of arguments that say how feedback is gathered."""

import re
from pathlib import Path

import pytest
import yaml

import trueup
from trueup.cli.app import run
from trueup.config.annotator_names import run_settings
from trueup.config.resolve import Resolved, dump
from trueup.settings.annotator_settings import (
    EndpointAnnotator,
    FunctionAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)
from trueup.training import api

URL = "http://localhost:8000/v1"
GIVEN = ["--model", "m", "--prompts", "prompts.jsonl", "--output", "o"]


class Begun:
    """What the command handed to the training package."""

    resolved: Resolved


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    seen = Begun()
    monkeypatch.setattr(api, "run", lambda resolved: setattr(seen, "resolved", resolved))
    return seen


def train(*arguments: str) -> int:
    return run(["train", *arguments])


class TestArguments:
    @pytest.mark.parametrize(
        ("method", "more", "annotator"),
        [
            ("oaif", "--annotator local --annotator.model models/j", LocalAnnotator("models/j")),
            ("oaif", "--annotator world:gold --annotator.noise 0.1", WorldAnnotator("gold", noise=0.1)),
            ("ca", "--reward rewards.py:brevity", FunctionAnnotator("rewards.py:brevity")),
            ("rrhf", "--reward runs/rm/model --source online", RewardAnnotator("runs/rm/model")),
        ],
    )
    def test_an_annotator(self, begun: Begun, method: str, more: str, annotator: object) -> None:
        assert train(method, *GIVEN, *more.split()) == 0
        settings = begun.resolved.settings
        assert settings.annotator == annotator and settings.prompts == ("prompts.jsonl",)
        assert settings.source == ("offline" if method == "ca" else "online")

    def test_an_endpoint(self, begun: Begun) -> None:
        judge = ["--annotator", "openai", "--annotator.base_url", URL, "--annotator.model", "J"]
        more = ["--annotator.instruction", "Prefer the short one.", "--annotator.max-requests=100"]
        assert train("oaif", "--objective", "ipo", *GIVEN, *judge, *more, "--annotator.cache", "false") == 0
        assert begun.resolved.settings.annotator == EndpointAnnotator(
            URL, "J", instruction="Prefer the short one.", max_requests=100, cache=False
        )
        assert dict(begun.resolved.method_settings)["objective"] == "ipo"

    def test_rrhf_resynchronised(self, begun: Begun) -> None:
        more = "--reward rm --source online --sampler.resync 32 --sampler.models a --sampler.models b"
        assert train("rrhf", *GIVEN, *more.split()) == 0
        sampler = begun.resolved.settings.sampler
        assert (sampler.resync, sampler.models) == (32, ("a", "b"))

    def test_names_of_trl(self, begun: Begun) -> None:
        options = "--reward_model_path rm --max_new_tokens 53 --num-generations 4 --dataset_name d"
        assert train("oaif", "--model", "m", "--output", "o", *options.split()) == 0
        settings = begun.resolved.settings
        assert (settings.annotator, settings.prompts) == (RewardAnnotator("rm"), ("d",))
        assert (settings.sampler.max_new_tokens, settings.sampler.responses) == (53, 4)

    @pytest.mark.parametrize(
        ("given", "stop"),
        [
            (r"\n\nHuman:", "\n\nHuman:"), ("\n\nHuman:", "\n\nHuman:"), (r"a\tb", "a\tb"), (r"\\n", r"\n"),
            (r"\d\\", "\\d\\"), ("END", "END"), (r"\\\n", "\\\n"),
        ],
    )  # fmt: skip
    def test_escapes_in_a_stop_text(self, begun: Begun, given: str, stop: str) -> None:
        assert train("oaif", *GIVEN, "--reward", "rm", "--sampler.stop", given) == 0
        assert begun.resolved.settings.sampler.stop == (stop,)
        assert train("oaif", *GIVEN, "--reward", "rm", "--sampler.stop", "x", "--sampler.stop", given) == 0
        assert begun.resolved.settings.sampler.stop == ("x", stop)

    def test_escapes_are_read_nowhere_else(self, begun: Begun) -> None:
        judge = ["--annotator", "local:m", "--annotator.instruction", r"a\nb"]
        assert train("oaif", *GIVEN, *judge, "--run_name", r"c\nd") == 0
        assert begun.resolved.settings.annotator == LocalAnnotator("m", instruction=r"a\nb")
        assert begun.resolved.settings.run_name == r"c\nd"
        assert [setting.path for setting in run_settings() if setting.escaped] == ["sampler.stop"]

    def test_a_replay(self, begun: Begun, tmp_path: Path) -> None:
        assert train("oaif", *GIVEN, "--reward", "rm", "--objective", "ipo") == 0
        first = begun.resolved
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(dump(first)))
        again = f"--config {path} --source replay --data runs/x/examples.jsonl --output y"
        assert train("oaif", *again.split()) == 0
        replayed = begun.resolved
        assert (replayed.settings.source, replayed.settings.data) == ("replay", ("runs/x/examples.jsonl",))
        assert replayed.method_settings == first.method_settings
        assert replayed.settings.sampler == first.settings.sampler


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


class TestHelp:
    @pytest.fixture
    def shown(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("COLUMNS", "160")
        assert train("oaif", "--help-all") == 0
        return capsys.readouterr().out

    def test_what_gathers_is_one_group(self, shown: str) -> None:
        group = shown.partition("Gathering feedback")[2].partition("Length and batches")[0]
        names = "source prompts annotator reward annotator.model annotator.noise sampler.stop"
        for name in names.split():
            assert len(re.findall(rf"--{re.escape(name)} ", group)) == 1

    def test_an_option_says_for_which_kinds(self, shown: str) -> None:
        words = " ".join(re.sub("[│|]", " ", shown).split())
        assert "local, likelihood: Folder of a causal language model. openai: The name" in words
        assert "For annotator.kind openai. Default: OPENAI_API_KEY." in words

    def test_defaults_are_the_method_s(self, shown: str) -> None:
        words = " ".join(re.sub("│", " ", shown).split())
        assert "before a token is drawn. Greater than 0. Default: 0.9." in words
        assert re.search(r"an online run's log\. One of offline, online, replay\. Default: online\.", words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--annotater", "openai"],
            "annotater is not a setting of method oaif or of a run; did you mean annotator?",
        ),
        (["--rewrd", "rm"], "rewrd is not a setting of method oaif or of a run; did you mean reward?"),
        (
            ["--annotator", "world:silver"],
            "annotator 'world:silver' is not known; the world has gold and proxy",
        ),
        (["--annotator", "openai"], "annotator.base_url is required; annotator.model is required"),
        (
            ["--annotator", "a.py:f", "--annotator.model", "m"],
            "annotator.model is a setting of annotator.kind local, openai, reward, likelihood, not of function",
        ),
        (
            ["--annotator", "world:gold", "--reward", "rm"],
            "reward and annotator are both given, and a reward is short for an annotator that scores; give one",
        ),
        (["--reward", "rm", "--sampler.tempreature", "1"], "did you mean sampler.temperature?"),
        (["--annotator", "world", "--annotator.noise", "two"], "annotator.noise must be a number; got 'two'"),
        (["--annotator"], "Option '--annotator' requires an argument."),
    ],
)
def test_one_line_and_exit_code_2(
    begun: Begun, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("oaif", *GIVEN, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("trueup: ") and shown.endswith(f"{message}\n") and shown.count("\n") == 1
    assert not hasattr(begun, "resolved")


def test_inputs_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--model", "world", "--prompts", "world:prompts", "--output", str(tmp_path / "o")]
    assert train("oaif", *given, "--reward", "runs/none/model") == 2
    assert "trueup: annotator.kind reward: model runs/none/model is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
