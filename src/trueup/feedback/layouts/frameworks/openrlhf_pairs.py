"""OpenRLHF's pairs under other keys than TRL's, text as it is, https://github.com/OpenRLHF/OpenRLHF.

{"question": "2 + 2 =", "response_chosen": " 4", "response_rejected": " 5"}
"""

from functools import partial

from trueup.feedback.fields import Place
from trueup.feedback.layouts.data_sets.exchange import request
from trueup.feedback.layouts.frameworks.dialogues import COMMON, compared
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue
from trueup.feedback.layouts.trl_pairs import repeated_text
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response, content


def convert(row: RowValue, origin: Origin, *, keys: tuple[str, str, str]) -> Example:
    """Prompt, chosen and rejected as given, without a prompt that both repeat.

    A row with the key `system` is a conversation, whatever it holds: system prompt and request (distilabel).
    """
    place = Place(origin)
    prompt, chosen, rejected = (content(row[key], place.key(key)) for key in keys)
    start = repeated_text(prompt, chosen, rejected)
    if isinstance(prompt, str) and "system" in row:
        prompt = request(prompt)
    chosen, rejected = (
        as_response(side[len(start) :], prompt, place.key(key))
        for side, key in zip((chosen, rejected), keys[1:], strict=True)
    )
    return compared(prompt, chosen, rejected, row, origin)


def layout(prompt: str, chosen: str, rejected: str) -> Layout:
    """The layout with these keys."""
    return Layout(
        name="OpenRLHF pairs",
        keys=(prompt, chosen, rejected),
        optional=COMMON,
        request=REQUEST,
        foreign=("prompt", "instruction"),
        meaning=f"A pair: `{chosen}` was preferred to `{rejected}` as a response to `{prompt}`.",
        convert=partial(convert, keys=(prompt, chosen, rejected)),
    )


QUESTIONS = layout("question", "response_chosen", "response_rejected")
INPUTS = layout("input", "chosen", "rejected")
