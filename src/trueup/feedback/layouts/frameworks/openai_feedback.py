"""LLaMA-Factory's openai format with feedback: messages and two sides of one turn each, or a `kto_tag`.

    {"messages": [{"role": "user", "content": "2 + 2 ="}], "chosen": {"role": "assistant", "content": "4"}, ...}

https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
"""

from trueup.feedback.fields import Place, label
from trueup.feedback.layouts.frameworks.dialogues import COMMON, compared, last_response
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Message, Origin
from trueup.feedback.turns import as_response, message, messages


def point(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response with its label."""
    place = Place(origin)
    desirability = label(row["kto_tag"], place.key("kto_tag"))
    at = place.key("messages")
    return last_response(messages(row["messages"], at), at, row, origin, desirability)


def pair(row: RowValue, origin: Origin) -> Example | Unusable:
    """The messages are the prompt; `chosen` and `rejected` are a message each."""
    place = Place(origin)
    prompt = messages(row["messages"], place.key("messages"))
    chosen, rejected = (
        as_response(one_side(row[key], place.key(key)), prompt, place.key(key)) for key in SIDES
    )
    if prompt and prompt[-1].role == "assistant":
        return Unusable("the conversation ends with a turn of the assistant, before the two sides")
    return compared(prompt, chosen, rejected, row, origin)


SIDES = ("chosen", "rejected")


def one_side(value: object, place: Place) -> tuple[Message, ...]:
    """A side: one message, or a list of those of the assistant."""
    return messages(value, place) if isinstance(value, list) else (message(value, place),)


def has_sides(row: RowValue) -> bool:
    """Whether a side is one message, or a list that begins with one of the assistant."""
    sides = [row[key] for key in SIDES]
    first = [side[0] if isinstance(side, list) and side else side for side in sides]
    return any(isinstance(side, dict) for side in sides) or any(
        isinstance(one, dict) and one.get("role") == "assistant" for one in first
    )


PAIRS = Layout(
    name="LLaMA-Factory openai pairs",
    keys=("messages", "chosen", "rejected"),
    optional=COMMON,
    foreign=("prompt",),
    meaning="A pair: `chosen` was preferred to `rejected` as the next of `messages`; each is one message.",
    convert=pair,
    fits=has_sides,
)

POINTS = Layout(
    name="LLaMA-Factory openai with labels",
    keys=("messages", "kto_tag"),
    optional=COMMON,
    foreign=("chosen", "rejected"),
    meaning="A point: `kto_tag` says how desirable the turns after the last one of the user are.",
    convert=point,
)
