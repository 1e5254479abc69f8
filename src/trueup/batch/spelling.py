"""Text that a tokenizer cannot spell: what it has only a mark for unknown text for, and what it drops."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from trueup.feedback.records import Content
from trueup.words import shortened

EXCERPT = 30
"""Characters of an excerpt."""


def contents(given: Content) -> list[str]:
    """The texts of a prompt or a response."""
    return [given] if isinstance(given, str) else [one.content for one in given]


def detokenized(ids: Sequence[int], tokenizer: Any) -> str:
    """The text of ids, special tokens and spaces as they are."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def squeezed(text: str) -> str:
    """The text without white space and case."""
    return "".join(text.casefold().split())


def dropped(text: str, kept: str) -> str:
    """The visible characters that are oftener in one text than in what became of it, each once, in order.

    White space, case, accents and other forms of a character do not count. Nothing is said to be dropped where
    as many other characters stand for it.
    """
    if squeezed(text) in squeezed(kept):
        return ""
    before, after = _folded(text), _folded(kept)
    less = {one: before.count(one) - after.count(one) for one in dict.fromkeys(before)}
    more = sum(
        after.count(one) - before.count(one) for one in set(after) if after.count(one) > before.count(one)
    )
    gone = {one: number for one, number in less.items() if number > 0 and one.isprintable()}
    return "".join(gone) if sum(gone.values()) > more else ""


def _folded(text: str) -> str:
    folded = squeezed(text if text.isascii() else unicodedata.normalize("NFKD", text))
    return folded if folded.isascii() else "".join(one for one in folded if not unicodedata.combining(one))


def lost_of(given: Content, ids: Sequence[int], tokenizer: Any, ends: Sequence[int]) -> str:
    """What the ids of a prompt or a response do not hold: the characters, and an excerpt; empty where all is there.

    Args:
        given: text, or messages; their ids hold the template's own text as well.
        ids: of all of it, in order.
        ends: ids that end a response.
    """
    full = detokenized(_bare(ids, tokenizer.bos_token_id, ends), tokenizer)
    for text in contents(given):
        kept = full
        if not isinstance(given, str) and squeezed(text) not in squeezed(full):
            # The template's own text would hide what is lost, or seem to stand for it.
            kept = detokenized(tokenizer(text, add_special_tokens=False).input_ids, tokenizer)
        if gone := dropped(_stripped(text, tokenizer), kept):
            return f"drops {shortened(gone, 12)} of {shortened(around(text, gone), EXCERPT)}"
    return ""


def _bare(ids: Sequence[int], begin: int | None, ends: Sequence[int]) -> list[int]:
    """The ids without those that begin and end a sequence."""
    kept = [int(one) for one in ids]
    while kept and kept[-1] in ends:
        kept.pop()
    while kept and kept[0] == begin:
        kept.pop(0)
    return kept


def _stripped(text: str, tokenizer: Any) -> str:
    """The text without such tokens spelled out."""
    end, begin = tokenizer.eos_token, tokenizer.bos_token
    while end and text.endswith(end):
        text = text.removesuffix(end)
    while begin and text.startswith(begin):
        text = text.removeprefix(begin)
    return text


def around(text: str, gone: str) -> str:
    """Some of the text around the first character that is gone."""
    places = (at for at, one in enumerate(text) if set(_folded(one)) & set(gone))
    start = max(0, next(places, 0) - EXCERPT // 2)
    return text[start : start + EXCERPT]
