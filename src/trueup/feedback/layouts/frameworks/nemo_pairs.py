"""NeMo-Aligner's pairs, https://docs.nvidia.com/nemo-framework/user-guide/latest/modelalignment/dpo.html.

{"prompt": "2 + 2 =", "chosen_response": "4", "rejected_response": "5", "chosen_reward": 1.5, "rejected_reward": 0}
"""

from trueup.feedback.fields import Place
from trueup.feedback.layouts.frameworks.dialogues import COMMON, compared
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue
from trueup.feedback.layouts.trl_pairs import repeated_text
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response, content

REWARDS = ("chosen_reward", "rejected_reward")


def convert(row: RowValue, origin: Origin) -> Example:
    """The two sides, with their rewards where the row has them."""
    place = Place(origin)
    prompt, *sides = (content(row[key], place.key(key)) for key in LAYOUT.keys)
    start = repeated_text(prompt, sides[0], sides[1])
    chosen, rejected = (
        as_response(side[len(start) :], prompt, place.key(key))
        for side, key in zip(sides, LAYOUT.keys[1:], strict=True)
    )
    return compared(prompt, chosen, rejected, row, origin, REWARDS)


LAYOUT = Layout(
    name="NeMo-Aligner pairs",
    keys=("prompt", "chosen_response", "rejected_response"),
    optional=(*REWARDS, *COMMON),
    request=REQUEST,
    meaning="A pair: `chosen_response` was preferred to `rejected_response`; their rewards are scores.",
    convert=convert,
)
