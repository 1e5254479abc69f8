"""The date that a chat template writes: one for all of a run, a command's work or a look, told, and kept with it."""

import datetime
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.faulty_feedback import write
from support.small_runs import command, in_child, run_here
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.batch import chat_template
from trueup.feedback.condition import Condition
from trueup.gathering.resumable import Work
from trueup.training import api

Captured = pytest.CaptureFixture[str]
On = Callable[[str], None]
DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML
FIRST, LATER = "2026-11-30", "2026-12-25"
SCORE = "def length(prompt, response):\n    return float(len(response))\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose template writes the date, and one whose template does not."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "dated", tokenizer=char_tokenizer(chat_template=DATED))
    save_tiny_model(folder / "plain", tokenizer=char_tokenizer(chat_template=CHATML))
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the models, conversations, prompts, and candidates to judge."""
    for name in ("dated", "plain"):
        (tmp_path / name).symlink_to(models / name)
    asked = [[{"role": "user", "content": f"say {number}"}] for number in range(70)]
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    write(tmp_path / "talks.jsonl", [{"messages": [*one, *answers[0]]} for one in asked[:4]])
    write(tmp_path / "prompts.jsonl", [{"prompt": one} for one in asked[:40]])
    given = [{"content": one} for one in answers]
    write(tmp_path / "candidates.jsonl", [{"prompt": one, "responses": given} for one in asked])
    (tmp_path / "rewards.py").write_text(SCORE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> On:
    """Sets the day on which something begins, which is also that of a template that is told nothing."""

    def begins(day: str) -> None:
        at = datetime.datetime.fromisoformat(day)
        date = SimpleNamespace(today=at.date)
        known = SimpleNamespace(date=date, datetime=datetime.datetime)
        monkeypatch.setattr(chat_template, "datetime", known)
        now = SimpleNamespace(now=lambda tz=None: at)
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", now)

    return begins


def test_a_run_goes_on_with_the_day_on_which_it_began(folder: Path, on: On) -> None:
    values: dict[str, Any] = {"model": "dated", "data": ["talks.jsonl"], "batch_size": 4, "steps": 2}
    values |= {"output": "run", "save_every": 1}
    run = Path("run")
    on(FIRST)
    run_here("sft", values)
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["settings"]["template_date"] == FIRST
    told = f"in all of this run it is {FIRST} (template_date)"
    assert (run / "run.log").read_text().count(told) == 1
    for done in ("checkpoints/step-00000002", "model"):
        shutil.rmtree(run / done)
    (run / "status.json").unlink()
    on(LATER)
    api.resume(run, quiet=True)
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert (run / "run.log").read_text().count(told) == 2
    assert yaml.safe_load((run / "run.yaml").read_text())["tokens_identity"] == record["tokens_identity"]
    run_here("sft", {**values, "output": "again", "template_date": FIRST})
    again = yaml.safe_load(Path("again/run.yaml").read_text())
    assert again["tokens_identity"] == record["tokens_identity"]
    assert "strftime_now" in (run / "model" / "chat_template.jinja").read_text()


def test_a_judge_has_the_day_of_its_run(folder: Path, on: On) -> None:
    """Also where the policy's own template writes none."""
    values: dict[str, Any] = {"model": "plain", "prompts": ["prompts.jsonl"], "annotator": "likelihood:dated"}
    values |= {"sampler.max_new_tokens": 6, "batch_size": 2, "steps": 1, "seed": 1}
    began = {"first": (FIRST, {}), "again": (LATER, {"template_date": FIRST}), "later": (LATER, {})}
    for output, (day, more) in began.items():
        on(day)
        run_here("rrhf", {**values, **more, "output": output})
    gathered = {output: (Path(output) / "examples.jsonl").read_bytes() for output in began}
    assert gathered["first"] == gathered["again"] != gathered["later"]
    assert yaml.safe_load(Path("first/run.yaml").read_text())["settings"]["template_date"] == FIRST
    assert f"it is {FIRST} (template_date)" in Path("first/run.log").read_text()


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("sample 0 0", ("sample", "--model", "dated", "--data", "prompts.jsonl", "--max-new-tokens", 6)),
        ("judge 0", ("annotate", "candidates.jsonl", "--annotator", "likelihood:dated")),
    ],
)
def test_work_goes_on_with_the_day_on_which_it_began(
    part: str, arguments: tuple[Any, ...], folder: Path, on: On, capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def ask(day: str, output: str) -> int:
        on(day)
        return command(*arguments, "--output", output)

    original = Work.keep

    def keep(self: Work, name: str, value: Any) -> None:
        original(self, name, value)
        if name == part:
            os.kill(os.getpid(), signal.SIGKILL)

    assert (ask(FIRST, "first.jsonl"), ask(LATER, "later.jsonl")) == (0, 0)
    assert f"in all of this work it is {FIRST}" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(Work, "keep", keep)
        assert in_child(lambda: ask(FIRST, "out.jsonl")) == -signal.SIGKILL
    assert ask(LATER, "out.jsonl") == 0
    assert Path("out.jsonl").read_bytes() == Path("first.jsonl").read_bytes()
    assert Path("later.jsonl").read_bytes() != Path("first.jsonl").read_bytes()


def test_a_look_tells_the_day_and_takes_another(folder: Path, on: On, capsys: Captured) -> None:
    on(LATER)
    for given, day in (((), LATER), (("--template-date", FIRST), FIRST)):
        assert command("inspect", "talks.jsonl", "--model", "dated", "--show", 1, *given) == 0
        out = capsys.readouterr().out
        assert f"the chat template writes the date, here {day} (--template-date)" in out
        shown = "".join(part.strip() for part in out.partition("prompt (")[2].split("|"))
        assert datetime.date.fromisoformat(day).strftime("%d%b%Y") in shown
    assert command("inspect", "talks.jsonl", "--model", "plain") == 0
    assert "writes the date" not in capsys.readouterr().out


def test_conditions_are_compared_on_one_day(folder: Path, on: On, capsys: Captured) -> None:
    shutil.copytree(folder / "dated", folder / "asking")
    Condition(" {reward} ", 1, "end", reward=1.2, lowest=-1.0, highest=1.2).save(folder / "asking")
    on(FIRST)
    given = ("--prompts", "prompts.jsonl", "--count", 3, "--reward", "rewards.py:length")
    assert command("condition", "asking", *given, "--max-new-tokens", 4, "--dry-run") == 0
    assert f"the chat template writes the date: here it is {FIRST}" in capsys.readouterr().err
