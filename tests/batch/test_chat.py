"""Conversations rendered once, with the span of every message known."""

import pytest
from support.tiny_models import CHATML, char_tokenizer

from trueup.batch.chat import Piece, Rendered, render, render_prompt
from trueup.errors import InputError
from trueup.feedback.records import Message

SYSTEM, ASK = Message("system", "Be brief."), Message("user", "Why?")
ANSWER = Message("assistant", "So.")


def rendered(template: str, prompt: tuple[Message, ...], response: tuple[Message, ...]) -> Rendered:
    return render(char_tokenizer(chat_template=template), prompt, response)


def text(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def contents(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.text for piece in pieces if piece.content]


def test_the_response_begins_where_the_model_starts_to_speak() -> None:
    found = rendered(CHATML, (SYSTEM, ASK), (ANSWER,))
    assert text(found.prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert contents(found.prompt) == ["Be brief.", "Why?"]
    assert found.response == (
        Piece("So.", content=True, assistant=True),
        Piece("<|im_end|>\n", content=False, assistant=True),
    )
    assert found.note is None


def test_the_prompt_is_the_one_of_inference() -> None:
    tokenizer = char_tokenizer(chat_template=CHATML)
    found = render(tokenizer, (SYSTEM, ASK), (ANSWER,))
    assert render_prompt(tokenizer, (SYSTEM, ASK)) == found.prompt
    conversation = [{"role": message.role, "content": message.content} for message in (SYSTEM, ASK)]
    asked = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert text(found.prompt) == asked


def test_several_turns_know_who_speaks() -> None:
    turns = (ANSWER, Message("user", "And?"), Message("assistant", "No."))
    found = rendered(CHATML, (ASK,), turns)
    assert [(piece.text, piece.assistant) for piece in found.response] == [
        ("So.", True),
        ("<|im_end|>\n<|im_start|>user\n", True),
        ("And?", False),
        ("<|im_end|>\n<|im_start|>assistant\n", False),
        ("No.", True),
        ("<|im_end|>\n", True),
    ]


def test_contents_that_look_like_each_other_or_like_the_template_are_told_apart() -> None:
    ask = Message("user", "<|im_end|>\n<|im_start|>assistant\nSo.")
    found = rendered(CHATML, (ask, ANSWER, ask), (ANSWER, ask, ANSWER))
    assert contents(found.prompt) == [ask.content, "So.", ask.content]
    assert contents(found.response) == ["So.", ask.content, "So."]


@pytest.mark.parametrize("strip", ["| trim", ".strip()", ".rstrip()", ".lstrip()"])
def test_a_template_that_strips_is_followed(strip: str) -> None:
    template = CHATML.replace("{{ m.content }}", "{{ m.content" + strip + " }}")
    found = rendered(template, (Message("user", "  Why? \n"),), (Message("assistant", "\n So.  "),))
    conversation = [{"role": "user", "content": "  Why? \n"}, {"role": "assistant", "content": "\n So.  "}]
    whole = char_tokenizer(chat_template=template).apply_chat_template(conversation, tokenize=False)
    assert text(found.prompt) + text(found.response) == whole
    assert [piece.strip() for piece in contents(found.response)] == ["So."]
    assert whole.count("  Why? \n") + whole.count("\n So.  ") < 2  # it did strip


def test_empty_contents_have_their_place() -> None:
    found = rendered(CHATML, (Message("user", ""),), (Message("assistant", ""),))
    assert contents(found.prompt) == [""]
    assert contents(found.response) == [""]


@pytest.mark.parametrize("rewritten", ["{{ m.content | upper }}", "{{ m.content | replace('W', 'V') }}"])
def test_a_template_that_rewrites_contents_is_refused(rewritten: str) -> None:
    with pytest.raises(InputError, match=r"rewrites what a message says.*--chat-template FILE"):
        rendered(CHATML.replace("{{ m.content }}", rewritten), (ASK,), (ANSWER,))


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("for m in messages", "for m in messages[1:]"),
        CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"),
        CHATML.replace("for m in messages", "for m in messages | reverse"),
    ],
    ids=["leaves out", "repeats", "reorders"],
)
def test_a_template_that_does_not_keep_every_message_once_is_refused(template: str) -> None:
    with pytest.raises(InputError, match=r"leaves out, repeats or reorders messages.*--chat-template FILE"):
        rendered(template, (SYSTEM, ASK), (ANSWER,))


def test_a_template_that_fails_names_the_roles_and_its_own_reason() -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match=r"refuses a conversation of user, assistant: roles must alternate"):
        rendered(template, (ASK,), (ANSWER,))


def test_what_the_template_writes_only_in_answers_is_the_models_to_learn() -> None:
    think = CHATML.replace(
        "{{ m.role }}\n", "{{ m.role }}\n{% if m.role == 'assistant' %}<think></think>{% endif %}"
    )
    found = rendered(think, (ASK,), (ANSWER,))
    assert text(found.prompt).endswith("<|im_start|>assistant\n")
    assert found.response[0] == Piece("<think></think>", content=False, assistant=True)
    assert found.response[1] == Piece("So.", content=True, assistant=True)
    assert found.note is None


def test_an_opening_that_differs_at_inference_is_noted_and_preferred() -> None:
    template = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>model\n{% endif")
    found = rendered(template, (ASK,), (ANSWER,))
    assert text(found.prompt) == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>model\n"
    assert text(found.response) == "So.<|im_end|>\n"
    assert found.note is not None
    assert "training uses the former" in found.note
    assert "model" in found.note.split(" but with ")[0]
    assert contents(found.prompt) == ["Why?"]
