"""ms-swift's query and response, https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html.

{"system": "Be short.", "query": "2 + 2 =", "response": "4", "history": [["Hello", "Hi"]], "rejected_response": "5"}
"""

from trueup.feedback.fields import Place, label, text
from trueup.feedback.layouts.data_sets.exchange import answer, request
from trueup.feedback.layouts.frameworks.dialogues import (
    COMMON,
    Turns,
    compared,
    history,
    single,
)
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue
from trueup.feedback.records import Example, Origin


def prompt(row: RowValue, place: Place) -> Turns:
    """Earlier rounds, and the query."""
    asked = request(text(row["query"], place.key("query")))
    return (*history(row, place), *asked)


def said(row: RowValue, place: Place, key: str) -> Turns:
    """The text under the key as a turn of the assistant."""
    return answer(text(row[key], place.key(key)))


def demonstration(row: RowValue, origin: Origin) -> Example:
    """The response is to be imitated."""
    place = Place(origin)
    return single(prompt(row, place), said(row, place, "response"), row, origin)


def point(row: RowValue, origin: Origin) -> Example:
    """The response with its label."""
    place = Place(origin)
    desirability = label(row["label"], place.key("label"))
    return single(prompt(row, place), said(row, place, "response"), row, origin, label=desirability)


def pair(row: RowValue, origin: Origin) -> Example:
    """The response was preferred to the rejected one."""
    place = Place(origin)
    chosen, rejected = (said(row, place, key) for key in ("response", "rejected_response"))
    return compared(prompt(row, place), chosen, rejected, row, origin)


KEYS = ("query", "response")
OTHER_REQUESTS = ("context", "prompt", "instruction", "input")
FURTHER = ("history", *COMMON)

PAIRS = Layout(
    name="ms-swift queries with two responses",
    keys=(*KEYS, "rejected_response"),
    optional=FURTHER,
    request=OTHER_REQUESTS,
    meaning="A pair: `response` was preferred to `rejected_response` as an answer to `query`.",
    convert=pair,
)

POINTS = Layout(
    name="ms-swift queries with labelled responses",
    keys=(*KEYS, "label"),
    optional=FURTHER,
    foreign=("rejected_response",),
    request=OTHER_REQUESTS,
    meaning="A point: `label` says how desirable `response` is as an answer to `query`.",
    convert=point,
)

DEMONSTRATIONS = Layout(
    name="ms-swift queries",
    keys=KEYS,
    optional=FURTHER,
    foreign=JUDGEMENTS,
    request=OTHER_REQUESTS,
    meaning="A demonstration: `response` is an answer to `query` to imitate.",
    convert=demonstration,
)
