"""What settings say of conversations: the date that a template writes, and what is made of raw texts."""

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.small_runs import run_here
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokenizing import tokens_of
from trueup.config.resolve import resolve
from trueup.display import collected
from trueup.feedback.records import Message
from trueup.inspection.encoded import all_responses
from trueup.settings.validation import SettingsError
from trueup.sources.by_name import examples_named, prompts_named
from trueup.training import api, setup


def on(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run begin on a day, and a template that nothing is told write it."""

    class Date(datetime.date):
        @classmethod
        def today(cls) -> "Date":
            return cls.fromisoformat(day)

    class Now(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Now":
            return cls.fromisoformat(day)

    monkeypatch.setattr(setup, "date", Date)
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Now)


def test_the_date_that_a_template_writes_is_that_on_which_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    model = save_tiny_model(tmp_path / "model", tokenizer=char_tokenizer(chat_template=template))
    data = tmp_path / "talks.jsonl"
    talks = [[{"role": "user", "content": "say"}, {"role": "assistant", "content": str(n)}] for n in range(4)]
    data.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    run = tmp_path / "run"
    values = {"model": str(model), "data": [str(data)], "output": str(run), "batch_size": 4, "steps": 2}
    values["save_every"] = 1
    on("2026-11-30", monkeypatch)
    run_here("sft", values)
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["settings"]["template_date"] == "2026-11-30"
    assert "in all of this run it is 2026-11-30 (template_date)" in (run / "run.log").read_text()
    for done in ("checkpoints/step-00000002", "model"):
        shutil.rmtree(run / done)
    (run / "status.json").unlink()
    on("2026-12-25", monkeypatch)
    api.resume(run, quiet=True)
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert yaml.safe_load((run / "run.yaml").read_text())["tokens_identity"] == record["tokens_identity"]
    run_here("sft", {**values, "output": str(tmp_path / "again"), "template_date": "2026-11-30"})
    again = yaml.safe_load((tmp_path / "again" / "run.yaml").read_text())
    assert again["tokens_identity"] == record["tokens_identity"]
    assert "strftime_now" in (run / "model" / "chat_template.jinja").read_text()


@pytest.mark.parametrize("given", ["2026-11-30", datetime.date(2026, 11, 30)])
def test_a_date_is_a_day(given: object, tiny_model: Path, tmp_path: Path) -> None:
    values = {"model": str(tiny_model), "data": ["a.jsonl"], "output": str(tmp_path / "run")}
    assert resolve("sft", overrides={**values, "template_date": given}).settings.template_date == "2026-11-30"
    with pytest.raises(SettingsError, match="template_date"):
        resolve("sft", overrides={**values, "template_date": "tomorrow"})


@pytest.fixture
def raw(tmp_path: Path) -> str:
    path = tmp_path / "raw.jsonl"
    path.write_text('{"prompt": "say a", "chosen": "a", "rejected": "b"}\n')
    return str(path)


def test_raw_texts_are_turns_where_that_is_asked_for(raw: str) -> None:
    (example,) = examples_named([raw], chat=True).examples
    turn = (Message("user", "say a"),)
    assert example.prompt.content == turn
    assert [one.content for one in example.responses] == [(Message("assistant", said),) for said in "ab"]
    assert [one.content for one in prompts_named([raw], chat=True).prompts] == [turn]
    for chat in (None, False):
        assert isinstance(examples_named([raw], chat=chat).examples[0].prompt.content, str)


def test_raw_texts_beside_a_template_are_warned_of(raw: str) -> None:
    def said(*, meant: bool = False, chat: bool = False, template: str | None = CHATML) -> list[str]:
        made = char_tokenizer(chat_template=template)
        encoder = Encoder(made, end_ids=(made.eos_token_id,), limits=Limits(99), raw_meant=meant)
        (example,) = examples_named([raw], chat=chat).examples
        with collected() as lines:
            tokens_of([all_responses(example)], encoder, what="training")
        return list(lines)

    (line,) = said()
    assert line.startswith("training data: 1 of 1 examples are raw text")
    assert "--chat true" in line
    assert said(meant=True) == said(chat=True) == said(template=None) == []
