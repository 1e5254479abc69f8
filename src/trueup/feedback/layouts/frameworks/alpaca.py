"""LLaMA-Factory's alpaca format, https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.

    {"instruction": "Add.", "input": "2 + 2", "output": "4", "system": "Be short.", "history": [["Hello", "Hi"]]}

`instruction` and `input` are one turn of the user, with a line break between them.
"""

from functools import partial

from trueup.feedback.fields import Place, label, optional_text, text
from trueup.feedback.layouts.data_sets.exchange import answer
from trueup.feedback.layouts.frameworks.dialogues import (
    COMMON,
    Turns,
    compared,
    history,
    single,
)
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue, Unusable
from trueup.feedback.records import Example, Message, Origin

FURTHER = ("input", "history", *COMMON)
OTHER_REQUESTS = ("context", "prompt", "query", "question")
NO_REQUEST = Unusable("the instruction is empty")


def prompt(row: RowValue, place: Place) -> Turns | Unusable:
    """Earlier rounds, and the request."""
    parts = (text(row["instruction"], place.key("instruction")), optional_text(row, "input", place))
    request = "\n".join(part for part in parts if part)
    if not request.strip():
        return NO_REQUEST
    return (*history(row, place), Message("user", request))


def response(row: RowValue, origin: Origin, *, tag: str | None = None) -> Example | Unusable:
    """`output`, with the label under the key `tag`, or to be imitated."""
    place = Place(origin)
    desirability = label(row[tag], place.key(tag)) if tag else None
    asked = prompt(row, place)
    output = answer(text(row["output"], place.key("output")))
    return asked if isinstance(asked, Unusable) else single(asked, output, row, origin, label=desirability)


def pair(row: RowValue, origin: Origin) -> Example | Unusable:
    """`chosen` and `rejected`, both text."""
    place = Place(origin)
    asked = prompt(row, place)
    chosen, rejected = (answer(text(row[key], place.key(key))) for key in ("chosen", "rejected"))
    return asked if isinstance(asked, Unusable) else compared(asked, chosen, rejected, row, origin)


PAIRS = Layout(
    name="LLaMA-Factory alpaca pairs",
    keys=("instruction", "chosen", "rejected"),
    optional=FURTHER,
    foreign=("prompt",),
    request=OTHER_REQUESTS,
    meaning="A pair: `chosen` was preferred to `rejected` as an answer to `instruction` and `input`.",
    convert=pair,
)


def points(tag: str) -> Layout:
    """The layout with the label under the given key."""
    return Layout(
        name="LLaMA-Factory alpaca with labels",
        keys=("instruction", "output", tag),
        optional=FURTHER,
        foreign=("chosen", "rejected"),
        request=OTHER_REQUESTS,
        meaning=f"A point: `{tag}` says how desirable `output` is as an answer to `instruction` and `input`.",
        convert=partial(response, tag=tag),
    )


POINTS = points("kto_tag")
POINTS_LABEL = points("label")

DEMONSTRATIONS = Layout(
    name="LLaMA-Factory alpaca",
    keys=("instruction", "output"),
    optional=FURTHER,
    foreign=JUDGEMENTS,
    request=OTHER_REQUESTS,
    meaning="A demonstration: `output` is an answer to `instruction` and `input` to imitate.",
    convert=response,
)
