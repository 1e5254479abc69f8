"""One word, one token; text and ids convert into each other exactly."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trueup.world.language import MARKS, WORDS, draw, render
from trueup.world.model import make_tokenizer
from trueup.world.people import demonstrator

TOKENIZER = make_tokenizer()
TEXTS = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@given(TEXTS)
@settings(deadline=None)
def test_text_to_ids_and_back(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert len(ids) == len(text.split())
    assert TOKENIZER.decode(ids) == text


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_ids_of_a_prompt_then_of_a_response_are_the_ids_of_both(prompt: str, response: str) -> None:
    assert TOKENIZER.encode(prompt) + TOKENIZER.encode(response) == TOKENIZER.encode(f"{prompt} {response}")


def test_saving_and_loading_changes_nothing(reloaded: PreTrainedTokenizerFast) -> None:
    rng = Random(0)
    assert reloaded.get_vocab() == TOKENIZER.get_vocab()
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id", "padding_side"):
        assert getattr(reloaded, name) == getattr(TOKENIZER, name)
    for _ in range(100):
        prompt = render(draw(rng))
        text = f"{prompt} {demonstrator(prompt, 1, rng)[0]}"
        assert reloaded.encode(text) == TOKENIZER.encode(text)
        assert reloaded.decode(reloaded.encode(text)) == text


def test_special_tokens_are_set_and_other_words_are_unknown() -> None:
    special = [TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id]
    assert special == [0, 1, 2, 3]
    assert len(TOKENIZER) == 4 + len(WORDS) + len(MARKS)
    assert TOKENIZER.encode("list zebras .") == [
        TOKENIZER.encode("list")[0],
        TOKENIZER.unk_token_id,
        TOKENIZER.encode(".")[0],
    ]
