"""turbo-alignment's conversations, https://github.com/turbo-llm/turbo-alignment (dataset/chat/models.py).

    {"id": "0", "messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "bot", "content": "4"}]}

`disable_loss` in a turn leaves it out of the loss: such a response is not used.
"""

from trueup.feedback.fields import Place
from trueup.feedback.layouts.frameworks.dialects import TURBO_ALIGNMENT, spoken_by, turns
from trueup.feedback.layouts.frameworks.dialogues import COMMON, last_response
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin

CLASS = (
    "a label of a turbo-alignment conversation is its class, which says nothing of a response; "
    "for feedback write 'context', 'answer' and 'is_desirable'"
)


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """The turns of the bot after the last one of the user are to be imitated."""
    at = Place(origin).key("messages")
    if isinstance(row.get("label"), int | float):
        raise Place(origin).key("label").fault(CLASS)
    return last_response(turns(row["messages"], at, TURBO_ALIGNMENT), at, row, origin)


LAYOUT = Layout(
    name="turbo-alignment chat",
    keys=("messages",),
    optional=COMMON,
    foreign=("answers", *(key for key in JUDGEMENTS if key != "label")),
    meaning="A demonstration: the turns of the bot after the last one of the user are a response to imitate.",
    convert=convert,
    fits=lambda row: spoken_by(row, "messages", ("bot",), ("disable_loss",)),
)
