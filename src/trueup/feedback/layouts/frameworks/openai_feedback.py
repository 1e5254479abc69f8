"""LLaMA-Factory's openai format with feedback: messages and two sides of one turn each, or a `kto_tag`.

    {"messages": [{"role": "user", "content": "2 + 2 ="}], "chosen": {"role": "assistant", "content": "4"}, ...}

https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
"""

from trueup.feedback.fields import Place, label
from trueup.feedback.layouts.frameworks.dialogues import OPTIONAL, compared, last_response, with_system
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response, message, messages


def point(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response with its label."""
    place = Place(origin)
    desirability = label(row["kto_tag"], place.key("kto_tag"))
    at = place.key("messages")
    return last_response(
        with_system(messages(row["messages"], at), row, place), at, row, origin, desirability
    )


def pair(row: RowValue, origin: Origin) -> Example | Unusable:
    """The messages are the prompt; `chosen` and `rejected` are a message each."""
    place = Place(origin)
    prompt = with_system(messages(row["messages"], place.key("messages")), row, place)
    sides = [(message(row[key], place.key(key)),) for key in ("chosen", "rejected")]
    chosen, rejected = (
        as_response(one, prompt, place.key(key))
        for one, key in zip(sides, ("chosen", "rejected"), strict=True)
    )
    if prompt and prompt[-1].role == "assistant":
        return Unusable("the conversation ends with a turn of the assistant, before the two sides")
    return compared(prompt, chosen, rejected, row, origin)


PAIRS = Layout(
    name="LLaMA-Factory openai pairs",
    keys=("messages", "chosen", "rejected"),
    optional=OPTIONAL,
    foreign=("prompt",),
    meaning="A pair: `chosen` was preferred to `rejected` as the next of `messages`; each is one message.",
    convert=pair,
    fits=lambda row: isinstance(row["chosen"], dict) or isinstance(row["rejected"], dict),
)

POINTS = Layout(
    name="LLaMA-Factory openai with labels",
    keys=("messages", "kto_tag"),
    optional=OPTIONAL,
    foreign=("chosen", "rejected"),
    meaning="A point: `kto_tag` says how desirable the turns after the last one of the user are.",
    convert=point,
)
