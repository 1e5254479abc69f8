"""From groups of text to groups of tokens: everything that is cut or left out is counted and named."""

from dataclasses import dataclass
from typing import Any

import pytest
from support.small_runs import stopping_at
from support.tiny_models import char_tokenizer

from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokenizing import tokens_of
from trueup.batch.tokens import TokenGroup
from trueup.display import collected
from trueup.errors import InputError, Stopped
from trueup.feedback.records import DemonstrationRelation, Group, Message, Origin, Prompt

TOKENIZER = char_tokenizer()
END = TOKENIZER.eos_token_id


def groups(*texts: tuple[str, str], file: str = "a.jsonl") -> list[Group[DemonstrationRelation]]:
    return [
        Group(Prompt(prompt, origin=Origin(file, row)), (response,), DemonstrationRelation())
        for row, (prompt, response) in enumerate(texts, 1)
    ]


@dataclass
class Prepared:
    groups: list[TokenGroup[Any]]
    lines: list[str]  # what was said of them


def prepared(given: list[Group[DemonstrationRelation]], tokenizer: object = TOKENIZER, **limits: int) -> Prepared:
    encoder = Encoder(tokenizer, end_ids=(END,), limits=Limits(**{"max_length": 100, **limits}))
    with collected() as lines:
        groups = tokens_of(given, encoder, what="training")
    return Prepared(groups, list(lines))


def test_whole_groups_pass_without_a_word() -> None:
    found = prepared(groups(("say red", " red"), ("say blue", " blue")))
    assert found.lines == []
    assert [len(group.prompt) for group in found.groups] == [8, 9]  # <bos> and one token a character
    assert [group.origin.row for group in found.groups if group.origin] == [1, 2]
    for group, text in zip(found.groups, (" red", " blue"), strict=True):
        (row,) = group.responses
        assert row.ids[-1] == END
        assert TOKENIZER.decode(row.ids[:-1]) == text
        assert row.scored.all()


def test_a_response_that_is_cut_has_no_end_of_sequence() -> None:
    """A policy must not learn to stop where no response stopped."""
    found = prepared(groups(("say", " red"), ("say", " " + "blue" * 9)), max_length=12)
    whole, cut = (group.responses[0].ids for group in found.groups)
    assert whole[-1] == END
    assert len(cut) == 12 - 4
    assert END not in cut
    assert TOKENIZER.decode(cut) == " bluebl" + "u"
    assert found.lines == [
        "training data: 1 of 2 responses lost their end to max_length 12 (no end of sequence is put there)"
    ]


def test_a_response_whose_end_alone_does_not_fit_counts_as_cut() -> None:
    found = prepared(groups(("say", " red")), max_length=8)
    assert TOKENIZER.decode(found.groups[0].responses[0].ids) == " red"
    assert "1 of 1 responses lost their end" in found.lines[0]


def test_a_prompt_that_is_cut_loses_its_beginning() -> None:
    """All but the token that begins every sequence."""
    found = prepared(groups(("say red", " red"), ("say", " red")), max_prompt_length=5)
    assert [TOKENIZER.decode(group.prompt) for group in found.groups] == ["<bos> red", "<bos>say"]
    assert found.lines == ["training data: 1 of 2 prompts lost their beginning to max_prompt_length 5"]


def test_what_is_left_out_is_named_by_file_and_row() -> None:
    given = groups(("x" * 30, " red"), ("say", " red"), ("y" * 30, " red"))
    given += groups(("z" * 30, " red"), file="b.jsonl")
    found = prepared(given, max_length=20)
    assert len(found.groups) == 1
    assert found.lines == [
        "training data left out: prompt as long as max_length, 20 tokens, 3 examples (a.jsonl rows 1, 3; b.jsonl "
        "row 1)",
        "long prompts can be kept, without their beginning, by --max-prompt-length",
    ]


def test_many_rows_are_counted_and_some_named() -> None:
    found = prepared(groups(("say", " red"), *((f"{'x' * 30}{n}", " red") for n in range(9))), max_length=20)
    assert "9 examples (a.jsonl rows 2, 3, 4, 5, 6 and 4 more)" in found.lines[0]


def test_nothing_left_is_refused() -> None:
    message = (
        r"nothing of the training data is left to train on: .*left out: prompt as long as max_length, 4 tokens, 1 "
        r"example \(a\.jsonl row 1\)\. Raise --max-length, or set --max-prompt-length"
    )
    with pytest.raises(InputError, match=message):
        prepared(groups(("say red", " red")), max_length=4)


def test_a_group_that_cannot_be_expressed_is_named() -> None:
    """Conversations and a tokenizer without a chat template."""
    given = groups(("say", " red"))
    given.append(
        Group(Prompt((Message("user", "say"),), origin=Origin("c.jsonl", 7)), (" red",), DemonstrationRelation())
    )
    with pytest.raises(InputError, match=r"^c\.jsonl:7: .*no chat template.*--chat-template"):
        prepared(given)


def test_notes_of_the_encoder_are_said_once() -> None:
    given = groups(("<|im_start|>say", " red"), ("<|im_start|>say", " blue"), ("say", " red"))
    found = prepared(given)
    assert found.lines == [
        "note: raw prompts spell special tokens; they and their responses are taken as already rendered"
    ]


def test_a_signal_is_heard_between_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = stopping_at(monkeypatch, 3)
    with pytest.raises(Stopped):
        prepared(groups(*[("say", " red")] * 4))
    assert len(looks) == 3
