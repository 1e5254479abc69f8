"""Beginnings and ends of sequence: one of each, whatever tokenizer, template and text each add of their own."""

import pytest
from support.tiny_models import BOS, CHATML, EOS, char_tokenizer

from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.feedback.records import Content, Group, Message, Prompt

IM_END = 5
ASK = (Message("user", "Why?"),)
WITH_BOS = "{{ bos_token }}" + CHATML
WITH_EOS = CHATML.replace("<|im_end|>", "{{ eos_token }}")
ENDLESS = CHATML.replace("<|im_end|>\n", "")


def encoded(
    prompt: Content,
    response: Content,
    *,
    template: str = CHATML,
    ends: tuple[int, ...] = (EOS, IM_END),
    **tokenizer: bool,
) -> tuple[list[int], list[int], list[bool]]:
    made = char_tokenizer(chat_template=template, **tokenizer)
    found = Encoder(made, end_ids=ends, limits=Limits(1000)).encode(Group(Prompt(prompt), (response,), None))
    assert isinstance(found, EncodedGroup)
    (row,) = found.tokens.responses
    return found.tokens.prompt.tolist(), row.ids.tolist(), row.scored.tolist()


@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize(("template", "beginnings"), [(CHATML, 0), (WITH_BOS, 1)])
def test_a_conversation_has_the_beginning_that_its_template_writes(
    template: str, beginnings: int, adds_eos: bool
) -> None:
    """The tokenizer's own, which it would put before any text, does not come on top of it."""
    prompt, response, _ = encoded(ASK, "So.", template=template, adds_eos=adds_eos)
    assert prompt.count(BOS) == beginnings
    assert prompt[0] == BOS or not beginnings
    assert EOS not in prompt
    assert BOS not in response


@pytest.mark.parametrize("template", [CHATML, WITH_EOS, ENDLESS], ids=["own end", "eos_token", "none"])
@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize("said", ["So.", (Message("assistant", "So."),)])
def test_an_answer_ends_once_and_its_end_is_learned(template: str, adds_eos: bool, said: Content) -> None:
    _, response, scored = encoded(ASK, said, template=template, adds_eos=adds_eos)
    assert sum(token in (EOS, IM_END) for token in response) == 1
    assert response[-1] == (IM_END if template == CHATML else EOS)
    assert all(scored)


@pytest.mark.parametrize("adds_eos", [False, True])
def test_an_answer_of_raw_text_ends_once(adds_eos: bool) -> None:
    for said in ("So.", "So.<eos>"):
        prompt, response, scored = encoded("Why?", said, adds_eos=adds_eos)
        assert prompt.count(BOS) == 1
        assert response.count(EOS) == 1
        assert response[-1] == EOS
        assert all(scored)


@pytest.mark.parametrize("prompt", ["Why?", ASK])
def test_an_end_that_is_the_padding_too_is_learned(prompt: Content) -> None:
    """No token is left out for its id: what is scored is known by place."""
    made = char_tokenizer(chat_template=WITH_EOS)
    made.pad_token = made.eos_token
    assert made.pad_token_id == EOS
    found = Encoder(made, end_ids=(EOS,), limits=Limits(1000)).encode(Group(Prompt(prompt), ("So.",), None))
    assert isinstance(found, EncodedGroup)
    (row,) = found.tokens.responses
    assert row.ids[-1] == EOS
    assert row.scored.all()


def test_an_end_of_sequence_that_the_tokenizer_does_not_know_is_the_one_given() -> None:
    prompt, response, scored = encoded("Why?", "So.", ends=(IM_END,), eos=False)
    assert response[-1] == IM_END
    assert len(response) == 4
    assert all(scored)
    assert EOS not in (*prompt, *response)


def test_an_end_that_is_no_special_token_ends_a_turn_all_the_same() -> None:
    """As where a line break is given for the end."""
    line = char_tokenizer().convert_tokens_to_ids("\n")
    turns = (Message("assistant", "So."), Message("user", "And?"), Message("assistant", "No."))
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\n' }}{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    _, response, scored = encoded(ASK, turns, template=template, ends=(line,))
    tokenizer = char_tokenizer()
    assert tokenizer.decode(response) == "So.\nuser: And?\nassistant: No.\n"
    assert (
        tokenizer.decode([token for token, one in zip(response, scored, strict=True) if one]) == "So.\nNo.\n"
    )
