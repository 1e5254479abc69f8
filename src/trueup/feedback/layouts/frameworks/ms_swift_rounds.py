"""ms-swift's sharegpt format, https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html.

{"system": "Be short.", "conversation": [{"human": "2 + 2 =", "assistant": "4"}, ...]}
"""

from trueup.feedback.fields import Place, fields, items, needed, text
from trueup.feedback.layouts.frameworks.dialogues import COMMON, last_response
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue, Unusable
from trueup.feedback.records import Example, Message, Origin

ASKED = {"human": "user", "user": "user", "tool": "tool"}
"""Keys for what comes before an answer, and whose turn it is."""


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """The answer of the last round is to be imitated."""
    place = Place(origin)
    at = place.key("conversation")
    made: list[Message] = []
    for index, value in enumerate(items(row["conversation"], at, 'rounds {"human": ..., "assistant": ...}')):
        here = at.item(index)
        one = fields(value, here)
        asked = next((key for key in ASKED if key in one), "human")
        made.append(Message(ASKED[asked], text(needed(one, asked, here), here.key(asked))))
        made.append(Message("assistant", text(needed(one, "assistant", here), here.key("assistant"))))
    return last_response(tuple(made), at, row, origin)


def has_rounds(row: RowValue) -> bool:
    """Whether the conversation is a list of rounds."""
    given = row["conversation"]
    return isinstance(given, list) and any(isinstance(one, dict) and "assistant" in one for one in given)


LAYOUT = Layout(
    name="ms-swift rounds",
    keys=("conversation",),
    optional=COMMON,
    foreign=JUDGEMENTS,
    meaning="A demonstration: the answer of the last round is a response to imitate.",
    convert=convert,
    fits=has_rounds,
)
