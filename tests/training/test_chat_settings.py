"""What settings say of conversations: the date that a template writes, and what is made of raw texts."""

import datetime
from pathlib import Path

import pytest
from support.tiny_models import CHATML, char_tokenizer

from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokenizing import tokens_of
from trueup.config.resolve import resolve
from trueup.display import collected
from trueup.feedback.records import Message
from trueup.inspection.encoded import all_responses
from trueup.settings.validation import SettingsError
from trueup.sources.by_name import examples_named, prompts_named


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
