"""Tokenizers of published models: they merge across words and put a space before what they encode."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import CHATML
from transformers import AutoTokenizer

from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.feedback.records import Group, Message, Prompt

MODELS = ("tinystories-656k-bf16", "stories260K")
PAIRS = [
    ("Once upon a time", " there was a cat."),
    ("Once upon a ti", "me there was a cat."),
    ("The cat sat.\n", "It was happy."),
    ("The cat sat.", "\nIt was happy."),
    ("The cat", "  sat"),
]


@pytest.fixture(params=MODELS)
def encoder(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> Encoder:
    tokenizer = AutoTokenizer.from_pretrained(shared(f"models/{request.param}"))
    return Encoder(tokenizer, end_ids=[tokenizer.eos_token_id], limits=Limits(512))


def pieces(encoder: Encoder, prompt: str, response: str) -> tuple[list[int], list[int]]:
    encoded = encoder.encode(Group(Prompt(prompt), (response,), None))
    assert isinstance(encoded, EncodedGroup)
    return encoded.tokens.prompt.tolist(), encoded.tokens.responses[0].ids.tolist()


@pytest.mark.parametrize(("prompt", "response"), PAIRS)
def test_the_joined_ids_say_the_joined_text(encoder: Encoder, prompt: str, response: str) -> None:
    first, second = pieces(encoder, prompt, response)
    tokenizer = encoder.tokenizer
    assert first == tokenizer(prompt).input_ids
    assert second[-1] == tokenizer.eos_token_id
    joined = tokenizer.decode([*first, *second[:-1]], skip_special_tokens=True)
    assert joined.removeprefix(" ") == prompt + response


def test_encoding_the_joined_text_would_be_another_sequence(encoder: Encoder) -> None:
    first, second = pieces(encoder, "Once upon a ti", "me there was a cat.")
    joined = encoder.tokenizer("Once upon a time there was a cat.").input_ids
    assert first != joined[: len(first)]
    assert [*first, *second[:-1]] != joined


def test_a_response_does_not_get_the_space_of_a_beginning(encoder: Encoder) -> None:
    tokenizer = encoder.tokenizer
    _, with_space = pieces(encoder, "The cat", " sat")
    _, without = pieces(encoder, "The cat", "sat")
    assert with_space != without
    assert tokenizer("sat", add_special_tokens=False).input_ids != without[:-1]  # what these tokenizers do


def test_of_a_conversation_the_words_are_learned_as_they_stand(encoder: Encoder) -> None:
    encoder.tokenizer.chat_template = CHATML.replace("<|im_end|>", encoder.tokenizer.eos_token)
    prompt = (Message("user", "Tell me of a cat."),)
    encoded = encoder.encode(Group(Prompt(prompt), ("The cat sat.",), None))
    assert isinstance(encoded, EncodedGroup)
    (row,) = encoded.tokens.responses
    assert row.scored.all()
    assert encoder.tokenizer.decode(list(row.ids)).lstrip() == "The cat sat." + encoder.tokenizer.eos_token
    assert encoder.prompt_ids(Prompt(prompt)) == encoded.tokens.prompt.tolist()
