"""OpenRLHF's pairs under other keys than TRL's, text as it is, https://github.com/OpenRLHF/OpenRLHF.

{"question": "2 + 2 =", "response_chosen": " 4", "response_rejected": " 5"}
"""

from functools import partial

from trueup.feedback.fields import Place
from trueup.feedback.layouts.frameworks.dialogues import COMMON, compared
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response, content


def convert(row: RowValue, origin: Origin, *, keys: tuple[str, str, str]) -> Example:
    """Prompt, chosen and rejected as given."""
    place = Place(origin)
    prompt = content(row[keys[0]], place.key(keys[0]))
    chosen, rejected = (
        as_response(content(row[key], place.key(key)), prompt, place.key(key)) for key in keys[1:]
    )
    return compared(prompt, chosen, rejected, row, origin)


def layout(prompt: str, chosen: str, rejected: str) -> Layout:
    """The layout with these keys."""
    return Layout(
        name="OpenRLHF pairs",
        keys=(prompt, chosen, rejected),
        optional=COMMON,
        foreign=("prompt", "instruction"),
        meaning=f"A pair: `{chosen}` was preferred to `{rejected}` as a response to `{prompt}`.",
        convert=partial(convert, keys=(prompt, chosen, rejected)),
    )


QUESTIONS = layout("question", "response_chosen", "response_rejected")
INPUTS = layout("input", "chosen", "rejected")
