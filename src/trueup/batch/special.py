"""Special tokens that somebody spells out in what they write."""

from collections.abc import Mapping, Sequence
from typing import Any

from trueup.feedback.groups import Group


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """How the special tokens of a tokenizer are spelled, in order."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted(text for text in {*tokenizer.all_special_tokens, *added} if text))


def spells(value: object, special: Sequence[str]) -> bool:
    """Whether a text, or any text or key in a JSON value, spells one of these special tokens."""
    if isinstance(value, str):
        return any(text in value for text in special)
    if isinstance(value, Mapping):
        return any(spells(key, special) or spells(one, special) for key, one in value.items())
    return isinstance(value, list | tuple) and any(spells(one, special) for one in value)


def contents_that_spell(group: Group[Any], special: Sequence[str]) -> int:
    """How many contents of a group spell special tokens.

    A prompt or response of raw text is one, and so is each message, with its further keys, and each tool. In a
    conversation they stay text; a raw prompt that spells one is taken as rendered beforehand.

    Args:
        special: see `special_texts`.
    """
    written: list[object] = list(group.tools)
    for content in (group.prompt, *group.responses):
        if isinstance(content, str):
            written.append(content)
        else:
            written += [(message.content, message.extra) for message in content]
    return sum(spells(one, special) for one in written)
