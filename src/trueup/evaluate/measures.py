"""What is measured of responses as text: length in words between white space, variety, style, refusals."""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from trueup.estimates import bootstrap, mean

LONGEST = 4
EPSILON = 0.1
"""Matches that count where there is none: Chen and Cherry's first smoothing (2014), as in NLTK."""
STYLE = ("length", "lists", "headers")
LIST = re.compile(r"^\s*(?:[-*+\u2022]|\d+[.)])\s", re.MULTILINE)
HEADER = re.compile(r"^\s*#{1,6}\s|^\s*\*\*[^*\n]+\*\*:?\s*$", re.MULTILINE)
CANNOT = r"(?:can(?:not|['\u2019]t| not)|won['\u2019]t|will not|unable|not able|not going to|must decline|refuse)\b"
REFUSAL = re.compile(
    rf"\s*(?:(?:i|we)\s+(?:am\s+|are\s+)?{CANNOT}|(?:i|we)['\u2019](?:m|re)\s+{CANNOT}"
    rf"|(?:(?:i['\u2019]?m|i am|we['\u2019]?re|we are)\s+(?:\w+\s+)?(?:sorry|afraid)"
    rf"|sorry|apologies|unfortunately|as an ai)\b[^.!?\n]{{0,60}}\b(?:{CANNOT}|do(?:n['\u2019]t| not) have))",
    re.IGNORECASE,
)
"""How a response begins that declines what it is asked. A rule: it knows neither what is asked nor other languages."""


def refuses(response: str) -> bool:
    return REFUSAL.match(response) is not None


def style(response: str) -> tuple[float, ...]:
    found = response.split(), LIST.findall(response), HEADER.findall(response)
    return tuple(float(len(one)) for one in found)


def text_measures(responses: Sequence[Sequence[str]], *, seed: int = 0) -> dict[str, Any]:
    """Measures of one model's responses to each prompt, by name; the seed is of resamples of prompts."""
    flat = [text for several in responses for text in several]
    return {
        "words": mean([fmean(len(text.split()) for text in several) for several in responses]),
        "distinct_1": distinct(flat, 1),
        "distinct_2": distinct(flat, 2),
        "self_bleu": self_bleu(flat),
        "refusals": bootstrap([fmean(map(refuses, several)) for several in responses], seed=seed, share=True),
    }


def distinct(responses: Sequence[str], size: int) -> float | None:
    """Different n-grams of words as a share of all (Li et al., 2016, https://arxiv.org/abs/1510.03055).
    It falls with the number of words, so that only equally many responses of similar length compare. None where no
    response has `size` words."""
    found = [gram for text in responses for gram in _grams(text.split(), size)]
    return len(set(found)) / len(found) if found else None


def self_bleu(responses: Sequence[str]) -> float | None:
    """Mean BLEU-4 of each response with all others as references (Zhu et al., 2018, https://arxiv.org/abs/1802.01886).
    1 where all are the same. None for a single response."""
    if len(responses) < 2:
        return None
    words = [text.split() for text in responses]
    lengths = sorted(map(len, words))
    counts = [[Counter(_grams(one, size)) for one in words] for size in range(1, LONGEST + 1)]
    most = [_two_highest(of_size) for of_size in counts]
    every = enumerate(map(len, words))
    return fmean(_bleu(length, lengths, [of_size[at] for of_size in counts], most) for at, length in every)


def _bleu(
    length: int, lengths: Sequence[int], counts: Sequence[Counter[Any]],
    most: Sequence[dict[Any, tuple[int, int]]],
) -> float:  # fmt: skip
    """BLEU of a response whose n-grams are counted by size; `lengths` of all are sorted."""
    if not length:
        return 0.0
    logs = []
    for own, highest in zip(counts, most, strict=True):
        # Of the others: the second highest count where the highest is this one's own.
        of_others = [(number, *highest[gram]) for gram, number in own.items()]
        matches = sum(min(own, second if own == first else first) for own, first, second in of_others)
        logs.append(math.log((matches or EPSILON) / max(1, own.total())))
    at = bisect_left(lengths, length)
    others = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    brevity = 1.0 if length > nearest else math.exp(1 - nearest / length)
    return brevity * math.exp(fmean(logs))


def _two_highest(counts: Sequence[Counter[Any]]) -> dict[Any, tuple[int, int]]:
    found: dict[Any, tuple[int, int]] = {}
    for one in counts:
        for gram, number in one.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (max(first, number), max(second, min(first, number)))
    return found


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
