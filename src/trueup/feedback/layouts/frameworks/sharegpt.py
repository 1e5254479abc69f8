"""The sharegpt format of LLaMA-Factory, torchtune and NeMo-Aligner.

    {"conversations": [{"from": "human", "value": "2 + 2 ="}, {"from": "gpt", "value": "4"}], "system": "Be short."}

Roles are human, gpt, system, observation and function_call, and other names for them.
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
"""

from functools import partial

from trueup.feedback.fields import Place, label
from trueup.feedback.layouts.frameworks.dialects import SHAREGPT, turns
from trueup.feedback.layouts.frameworks.dialogues import (
    COMMON,
    Turns,
    compared,
    last_response,
    side,
)
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin


def conversation(row: RowValue, place: Place) -> Turns:
    """The turns."""
    return turns(row["conversations"], place.key("conversations"), SHAREGPT)


def response(row: RowValue, origin: Origin, *, tag: str | None = None) -> Example | Unusable:
    """The last response, with the label under the key `tag`, or to be imitated."""
    place = Place(origin)
    desirability = label(row[tag], place.key(tag)) if tag else None
    said = conversation(row, place)
    return last_response(said, place.key("conversations"), row, origin, desirability)


def pair(row: RowValue, origin: Origin) -> Example | Unusable:
    """The conversation is the prompt; `chosen` and `rejected` are a turn each."""
    place = Place(origin)
    prompt = conversation(row, place)
    chosen, rejected = (side(row[key], place.key(key), SHAREGPT, prompt) for key in ("chosen", "rejected"))
    if prompt and prompt[-1].role == "assistant":
        return Unusable("the conversation ends with a turn of the assistant, before the two sides")
    return compared(prompt, chosen, rejected, row, origin)


PAIRS = Layout(
    name="sharegpt pairs",
    keys=("conversations", "chosen", "rejected"),
    optional=COMMON,
    foreign=("prompt",),
    meaning="A pair: `chosen` was preferred to `rejected` as the next turn of `conversations`.",
    convert=pair,
)


def points(tag: str) -> Layout:
    """The layout with the label under the given key."""
    return Layout(
        name="sharegpt with labels",
        keys=("conversations", tag),
        optional=COMMON,
        foreign=("chosen", "rejected"),
        meaning=f"A point: `{tag}` says how desirable the turns after the last one of the user are.",
        convert=partial(response, tag=tag),
    )


POINTS = points("kto_tag")
POINTS_LABEL = points("label")

DEMONSTRATIONS = Layout(
    name="sharegpt",
    keys=("conversations",),
    optional=COMMON,
    foreign=JUDGEMENTS,
    meaning="A demonstration: the turns after the last one of the user are a response to imitate.",
    convert=response,
)
