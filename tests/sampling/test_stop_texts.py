"""A stop text is found as soon as it is whole, wherever the borders of the tokens are."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_model import read_model

from trueup.sampling.sampler import SLACK, StopTexts

PIECES = ("a", "b", "ab", " a", "", "ba", "aab", "c")


def joined(ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in ids)


@pytest.mark.parametrize(
    "stops, text, expected",
    [
        (["b"], "aab c b", "aa"),
        (["b"], "aa", None),
        (["xyz", "y"], "wxyz", "wx"),  # "y" is whole before "xyz" is
        (["yz", "xyz"], "wxyz", "w"),  # both are whole at once: nothing of either stays
        (["aab"], "aaab", "a"),
        (["\n\nHuman:"], "\n\nHuman:", ""),
    ],
)
def test_what_stands_before_the_first(stops: list[str], text: str, expected: str | None) -> None:
    assert StopTexts(stops, joined).cut(text) == expected


def first_complete(stops: StopTexts, ids: Sequence[int]) -> int | None:
    """How many tokens there are when a response is known to hold a stop text."""
    return next((count for count in range(1, len(ids) + 1) if stops.complete(ids[:count])), None)


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 7), max_size=SLACK),
    st.lists(st.text("abc ", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_a_stop_text_is_seen_with_the_token_that_completes_it(ids: list[int], texts: list[str]) -> None:
    stops = StopTexts(texts, joined)
    counts = (count for count in range(1, len(ids) + 1) if stops.cut(joined(ids[:count])) is not None)
    assert first_complete(stops, ids) == next(counts, None)


def test_decoding_is_not_quadratic() -> None:
    """Also where characters are never finished."""
    decoded = 0

    def broken(ids: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return "\ufffd" * len(ids)

    ids = list(range(1000))
    assert first_complete(StopTexts(["never"], broken), ids) is None
    assert decoded < 25 * 1000


TEXT = "Once upon a time, there was a café. \u4e2d\u6587 \U0001f600!\n\nTom said: “Stop here, please.” The end. <stop>"
"""Characters of one to four bytes, which both tokenizers spell in bytes where they lack them."""


@pytest.mark.parametrize("folder", ["tinystories-656k-bf16", "stories260K"])
def test_every_part_of_a_text_is_found_with_a_real_tokenizer(shared: Callable[[str], Path], folder: str) -> None:
    """In the middle of a token, across several, and in characters that are spread over tokens."""
    _, encoder = read_model(shared(f"models/{folder}"))
    ids = encoder.tokenizer(TEXT, add_special_tokens=False).input_ids
    text = encoder.text(ids)
    assert len(text) > 50
    texts = [encoder.text(ids[: count + 1]) for count in range(len(ids))]
    for at in range(0, len(text) - 1, 3):
        stop = text[at : at + 1 + at % 7]
        stops = StopTexts([stop], encoder.text)
        assert first_complete(stops, ids) == 1 + next(at for at, text in enumerate(texts) if stop in text)
        assert stops.cut(text) == text[: text.index(stop)]


def test_tokens_without_a_text_in_between(shared: Callable[[str], Path]) -> None:
    """The space of a word that follows them is its own, although this tokenizer drops one at the beginning."""
    _, encoder = read_model(shared("models/stories260K"))
    first, then = (encoder.tokenizer(text, add_special_tokens=False).input_ids for text in ("Tom", "Tom went"))
    ids = [*first, *encoder.end_ids[:1] * 3, *then[len(first) :]]
    text = encoder.text(ids)
    assert "m w" in text
    expected = next(at for at in range(len(ids)) if "m w" in encoder.text(ids[:at]))
    assert first_complete(StopTexts(["m w"], encoder.text), ids) == expected
