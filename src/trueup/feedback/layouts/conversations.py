"""Rows of messages: what follows the last turn of the user is the response, the rest is the prompt."""

from functools import partial

from trueup.feedback.fields import Place, label, number, optional_text
from trueup.feedback.layouts.layout import JUDGEMENTS, LABELS, SCORES, Layout, RowValue, Unusable
from trueup.feedback.layouts.system import after_system
from trueup.feedback.records import Content, Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import messages, split_at_last_request

FURTHER = ("source", "system", "tools")
OTHERS = ("chosen", "rejected", "rejected_response", "rejected_messages")


def prompt_and_response(row: RowValue, origin: Origin) -> tuple[Content, Content] | Unusable:
    """The conversation, split after the last turn that is neither the assistant's nor a tool's."""
    at = Place(origin, "messages")
    turns = messages(row["messages"], at)
    if not any(turn.role == "assistant" for turn in turns):
        return Unusable("the conversation has no turn of the assistant")
    prompt, response = split_at_last_request(turns)
    if not response or response[-1].role != "assistant":
        return Unusable("the conversation does not end with a turn of the assistant")
    if response[0].role != "assistant":
        first = at.item(len(prompt)).key("role")
        raise first.unexpected(response[0].role, "an assistant turn: a response begins with one")
    return after_system(prompt, row, Place(origin)), response


def convert(
    row: RowValue, origin: Origin, *, label_key: str | None = None, score_key: str | None = None
) -> Example | Unusable:
    """The last response with its label or its score; without one it is to be imitated."""
    place = Place(origin)
    desirability = label(row[label_key], place.key(label_key)) if label_key else None
    score = number(row[score_key], place.key(score_key)) if score_key else None
    split = prompt_and_response(row, origin)
    if isinstance(split, Unusable):
        return split
    prompt, said = split
    response = Response(
        said,
        score=score,
        label=desirability,
        demonstration=not (label_key or score_key),
        source=optional_text(row, "source", place),
    )
    return Example(prompt, (response,), origin=origin, tools=declared(row, prompt, place))


DEMONSTRATIONS = Layout(
    name="messages",
    keys=("messages",),
    optional=FURTHER,
    foreign=JUDGEMENTS,
    meaning="A demonstration: the turns after the last one of the user are a response to imitate.",
    convert=convert,
)


def labelled(key: str) -> Layout:
    """The layout with a label under the given key."""
    return Layout(
        name="messages with a label",
        keys=("messages", key),
        optional=FURTHER,
        foreign=OTHERS,
        meaning=f"A point: `{key}` says how desirable the turns after the last one of the user are.",
        convert=partial(convert, label_key=key),
    )


def scored(key: str) -> Layout:
    """The layout with a score under the given key."""
    return Layout(
        name="messages with a score",
        keys=("messages", key),
        optional=FURTHER,
        foreign=(*LABELS, *OTHERS),
        meaning=f"A response with a score: `{key}` scores the turns after the last one of the user.",
        convert=partial(convert, score_key=key),
    )


LAYOUTS = (
    *(labelled(key) for key in LABELS if key != "kto_tag"),
    *(scored(key) for key in SCORES),
    DEMONSTRATIONS,
)
"""Messages with a `kto_tag` are LLaMA-Factory's."""
