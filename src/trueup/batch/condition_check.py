"""Whether a tokenizer can express what conditional alignment writes into prompts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.records import Prompt

MOST = 200
"""Numbers tried between the lowest and the highest reward."""


def check_condition(condition: Condition, tokenizer: Any, prompts: Sequence[Prompt] = ()) -> None:
    """Refuse a condition that holds words the tokenizer knows only as its unknown token, or whose numbers it drops.

    Rewards would look alike to the model, or be written with something it has never seen.

    Args:
        condition: every number that it writes from its lowest to its highest reward is tried, up to `MOST`, and
            the one to ask for.
        tokenizer: a transformers tokenizer.
        prompts: a few in which it will stand, since a word may be another one beside others.

    Raises:
        InputError: the words are named, with what to do.
    """
    for prompt in prompts:
        _check_in_place(condition, tokenizer, prompt)
    span = condition.highest - condition.lowest
    rewards = [condition.reward, *(condition.lowest + span * step / MOST for step in range(MOST + 1))]
    written: dict[tuple[int, ...], str] = {}
    for words in dict.fromkeys(condition.words(reward) for reward in rewards):
        other = written.setdefault(_ids(words, tokenizer), words)
        if unknown := unknown_words(words, tokenizer):
            raise InputError(
                f"the tokenizer has only its unknown token for {', '.join(map(repr, unknown))} in the condition "
                f"{words!r}. Write the reward with words it knows, by --condition and --decimals"
            )
        if other != words:
            raise InputError(
                f"the tokenizer makes the same tokens of the conditions {other!r} and {words!r}, so that the model "
                "could not tell rewards apart. Write the reward with words it knows, by --condition and --decimals"
            )


def _check_in_place(condition: Condition, tokenizer: Any, prompt: Prompt) -> None:
    """The same within a prompt, for the lowest and the highest reward."""
    before, low, high = (
        _ids(_text(one), tokenizer)
        for one in (
            prompt,
            condition.applied(prompt, condition.lowest),
            condition.applied(prompt, condition.highest),
        )
    )
    unknown = tokenizer.unk_token_id
    lost = (
        unknown is not None and max(Counter(ids)[unknown] for ids in (low, high)) > Counter(before)[unknown]
    )
    same = low == high and condition.words(condition.lowest) != condition.words(condition.highest)
    if lost or same:
        what = "has only its unknown token for part of" if lost else "cannot tell rewards apart by"
        side = "before" if condition.position == "end" else "after"
        raise InputError(
            f"in a prompt, the tokenizer {what} the condition {condition.words()!r} at the {condition.position}: it "
            f"may be glued to the word beside it. Put a space {side} it in --condition, or write it with other words"
        )


def _text(prompt: Prompt) -> str:
    """What is said, one message after the other."""
    content = prompt.content
    return content if isinstance(content, str) else "\n".join(message.content for message in content)


def unknown_words(text: str, tokenizer: Any) -> list[str]:
    """The words of a text that the tokenizer has only its unknown token for."""
    token = tokenizer.unk_token
    if token is None or token in text or not _unknown(text, tokenizer):
        return []
    return [word for word in text.split() if _unknown(word, tokenizer)] or [text]


def _unknown(text: str, tokenizer: Any) -> bool:
    return tokenizer.unk_token_id in _ids(text, tokenizer)


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)
