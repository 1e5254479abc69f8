"""Help: what is usually set on two screens of 80 columns, everything where that is asked for."""

import re
from collections.abc import Callable

import pytest

from trueup.cli.app import COMMANDS, run
from trueup.config.resolve import run_settings
from trueup.methods import METHODS
from trueup.settings.command_settings import ConditionSettings, ConvertSettings, InspectSettings, LabelSettings
from trueup.settings.gathering_settings import (
    NOT_HERE,
    AnnotateSettings,
    ChatSettings,
    EvaluateSettings,
    SampleSettings,
)
from trueup.settings.schema import settings_in

LINES, COLUMNS = 100, 80
"""Of two screens."""
Help = Callable[..., str]


@pytest.fixture
def helped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Help:
    def shown(*arguments: str, columns: int = COLUMNS) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run(arguments) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return shown


def named(shown: str) -> set[str]:
    return set(re.findall(r"--([\w.]+) ", shown))


def in_a_line(shown: str) -> str:
    return " ".join(re.sub("[\u2502|]", " ", shown).split())


def fits(shown: str) -> bool:
    lines = shown.splitlines()
    return len(lines) <= LINES and max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("method", METHODS)
def test_a_method_s_settings_and_the_common_ones_fit_two_screens(method: str, helped: Help) -> None:
    """An example first; gathering settings where the run gathers, and only there."""
    info = METHODS[method]
    for source in ("offline", "online"):
        if source not in info.sources:
            continue
        shown, gathers = helped("train", method, "--source", source, "--help"), source == "online"
        assert fits(shown)
        words = in_a_line(shown)
        common = {"model", "output", "learning_rate", "batch_size", *info.settings.model_fields}
        assert info.title in words and common - {"reference"} <= named(shown)
        assert f"trueup train {method} --model models/sft --{'prompts' if gathers else 'data'}" in words
        assert f"trueup train {method} --help-all" in words
        assert not named(shown) & {"keep_checkpoints", "output_dir"}
        assert ({"sampler.responses", "reward"} <= named(shown)) == gathers == ("data" not in named(shown))
        assert gathers or "--sampler" not in shown
        assert {"round_passes", "eval_fraction"} & named(shown) == {"round_passes" if gathers else "eval_fraction"}
        own = info.opponent or info.build().rollout is not None  # it learns from what it has just written
        assert ("eval_data" in named(shown)) == info.evaluates == (not own)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_s_help_fits_two_screens(command: str, helped: Help) -> None:
    shown = helped(command, "--help")
    assert fits(shown)
    assert COMMANDS[command].split(":")[0].split(";")[0] in in_a_line(shown)


@pytest.mark.parametrize(
    ("command", "model", "common", "short"),
    [
        ("sample", SampleSettings, "model data output count seed responses max_new_tokens annotator best", "sampler."),
        ("annotate", AnnotateSettings, "data output annotator rewrite show_template", ""),
        ("evaluate", EvaluateSettings, "models prompts output judge rate reward reference held_out json", "sampler."),
        ("inspect", InspectSettings, None, ""),
        ("convert", ConvertSettings, None, ""),
        ("label", LabelSettings, None, ""),
        ("chat", ChatSettings, "model against keep temperature max_new_tokens", "sampler."),
        ("condition", ConditionSettings, None, ""),
    ],
)  # fmt: skip
def test_what_a_command_shows_at_once_and_what_on_demand(
    command: str, model: type, common: str | None, short: str, helped: Help
) -> None:
    """Where all fits, there is nothing to leave for later."""
    every, brief = helped(command, "--help-all", columns=160), helped(command, "-h")
    unseen = ("sampler.models", "sampler.resync")
    if model in (EvaluateSettings, ChatSettings):
        unseen = (*NOT_HERE, *(["sampler.responses"] if model is ChatSettings else []))
    paths = {one.path.removeprefix(short) for one in settings_in(model) if one.path not in unseen}
    assert paths <= named(every)
    if common is None:
        assert paths <= named(brief)
    else:
        assert set(common.split()) <= named(brief)
        assert "timeout" not in named(brief) and f"Every setting: trueup {command} --help-all" in brief
        assert f"trueup {command} " in brief.partition("Usage")[2].partition("Settings")[2] + in_a_line(brief)


@pytest.mark.parametrize("method", METHODS)
def test_all_help_shows_every_setting_and_no_name_of_trl(method: str, helped: Help) -> None:
    shown = named(helped("train", method, "--prompts", "world:prompts", "--help-all", columns=160))
    settings = [*run_settings(), *settings_in(METHODS[method].settings)]
    known = [one for one in settings if "online" in METHODS[method].sources or not one.role.gathers]
    assert {one.path for one in known if len(one.choices) != 1 or one.words} <= shown
    assert "output_dir" not in shown
    shown = named(helped("train", method, "--source", "replay", "--help-all", columns=160))
    unused = {"sampler.top_p", "annotator.kind", "reward", "round_prompts"}
    assert "round_passes" in shown and not shown & unused


def test_a_setting_is_told_in_full(helped: Help) -> None:
    """What gathers is one group; an option says for which kinds it is; defaults are the method's."""
    shown = helped("train", "oaif", "--help-all", columns=160)
    group = shown.partition("Gathering feedback")[2].partition("Length and batches")[0]
    named = ("source", "prompts", "annotator", "reward", "annotator.model", "annotator.noise", "sampler.stop")
    for name in named:
        assert len(re.findall(rf"--{re.escape(name)} ", group)) == 1
    words = in_a_line(shown)
    assert "local, likelihood: Folder of a causal language model. openai: The name" in words
    assert "For annotator.kind openai. Default: OPENAI_API_KEY." in words
    assert "before a token is drawn. Greater than 0. Default: 0.9." in words
    assert re.search(r"an online run's log\. One of offline, online, replay\. Default: online\.", words)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_of_trueup_lists_the_commands_and_that_of_train_the_methods(arguments: list[str], helped: Help) -> None:
    assert all(about in in_a_line(helped(*arguments)) for about in COMMANDS.values())
    shown = helped("train", *(arguments or ["--help"]))
    assert all(info.name in shown and info.title in shown for info in METHODS.values())
