"""Measures of text, by hand and against the definitions written out."""

import math
from collections import Counter
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.evaluate.measures import distinct, refuses, self_bleu, style, text_measures

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=7).map(" ".join), min_size=2, max_size=6)


def bleu(text: str, references: list[str]) -> float:
    """As Papineni et al. define it, each reference looked through, with Chen and Cherry's first smoothing."""
    words, others = text.split(), [one.split() for one in references]
    if not words:
        return 0.0
    logs = []
    for size in range(1, 5):
        grams = [Counter(zip(*(one[at:] for at in range(size)), strict=False)) for one in (words, *others)]
        matches = sum(min(number, max(one[gram] for one in grams[1:])) for gram, number in grams[0].items())
        logs.append(math.log((matches or 0.1) / max(1, grams[0].total())))
    nearest = min((len(one) for one in others), key=lambda length: (abs(length - len(words)), length))
    return min(1.0, math.exp(1 - nearest / len(words))) * math.exp(fmean(logs))


@given(TEXTS)
def test_self_bleu_is_bleu_with_all_others_as_references(texts: list[str]) -> None:
    expected = fmean(bleu(one, texts[:at] + texts[at + 1 :]) for at, one in enumerate(texts))
    assert self_bleu(texts) == pytest.approx(expected, rel=1e-12)


def test_variety_by_hand() -> None:
    assert self_bleu(["a b c d e"] * 3) == pytest.approx(1.0)
    assert self_bleu(["alone"]) is None
    assert distinct(["a b a", "a b"], 1) == 2 / 5
    assert distinct(["a b a", "a b"], 2) == 2 / 3
    assert distinct(["a", ""], 2) is None


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I am very sorry, but that I cannot do.", True),
        ("We're not going to do that.", True),
        ("Sorry, I cannot write that.", True),
        ("I can\u2019t assist with this request.", True),
        ("As an AI language model, I do not have opinions.", True),
        ("Unfortunately I am unable to say.", True),
        ("  I must decline.", True),
        ("I'm sorry to hear that, here is what helps.", False),
        ("Sorry to hear that! Here are some tips.", False),
        ("I can help with that.", False),
        ("I cannonball into the pool.", False),
        ("The letter said: I'm sorry.", False),
        ("", False),
    ],
)
def test_refusals_are_known_by_how_they_begin(text: str, refused: bool) -> None:
    assert refuses(text) is refused


def test_style_is_counted() -> None:
    plain, dressed = "one two three", "# Head\n\n- one\n- two\n3. three\n\n**Bold**\n"
    assert style(plain) == (3.0, 0.0, 0.0)
    assert style(dressed) == (9.0, 3.0, 2.0)


def test_measures_of_a_model_are_over_prompts() -> None:
    found = text_measures([["a b", "a b c d"], ["I cannot say."]])
    assert (found["words"].value, found["words"].error) == (3.0, 0.0)
    assert found["refusals"].value == 0.5
    assert found["distinct_1"] == 7 / 9
