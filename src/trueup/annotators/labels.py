"""The tokens by which a language model begins each of two answers."""

from __future__ import annotations

from typing import Any

from trueup.batch.pieces import PieceEncoder
from trueup.errors import InputError

LEADS = ("", " ")
"""What a model may write before a label: it is the same answer."""


def answer_tokens(pieces: PieceEncoder, labels: tuple[str, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the tokens that are each label, alone or behind a space.

    Both labels get as many, spelled alike, so that neither is favoured; all of them differ.

    Raises:
        InputError: the tokenizer writes a label in several tokens, or both in the same.
    """
    found = [_alike(pieces, lead, labels) for lead in LEADS]
    kept = list(dict.fromkeys(pair for pair in found if pair is not None))
    first, second = (tuple(pair[place] for pair in kept) for place in range(2))
    if not kept or set(first) & set(second):
        raise InputError(
            f"the tokenizer does not write {labels[0]!r} and {labels[1]!r} as one token each, so a verdict cannot be "
            "read off the model's next token; choose another model as the judge"
        )
    return first, second


def _alike(pieces: PieceEncoder, lead: str, labels: tuple[str, str]) -> tuple[int, int] | None:
    one, other = (_single(pieces, lead, label) for label in labels)
    return None if one is None or other is None else (one, other)


def _single(pieces: PieceEncoder, lead: str, label: str) -> int | None:
    """The one token that a label is in the middle of a text; None where there is no such token."""
    tokenizer: Any = pieces.tokenizer
    ids = pieces.raw(lead + label, literal=True)
    if len(ids) != 1:
        return None
    return ids[0] if str(tokenizer.decode(ids)).strip() == label else None
