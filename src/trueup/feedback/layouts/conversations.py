"""Rows of messages: what follows the last turn of the user is the response, the rest is the prompt."""

from trueup.feedback.fields import Place, label, optional_text
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Content, Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import messages, split_at_last_request


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
    return prompt, response


def demonstration(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response is to be imitated."""
    split = prompt_and_response(row, origin)
    if isinstance(split, Unusable):
        return split
    place = Place(origin)
    source = optional_text(row, "source", place)
    responses = (Response(split[1], demonstration=True, source=source),)
    return Example(split[0], responses, origin=origin, tools=declared(row, split[0], place))


def point(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response with its label."""
    place = Place(origin)
    desirability = label(row["label"], place.key("label"))
    split = prompt_and_response(row, origin)
    if isinstance(split, Unusable):
        return split
    source = optional_text(row, "source", place)
    responses = (Response(split[1], label=desirability, source=source),)
    return Example(split[0], responses, origin=origin, tools=declared(row, split[0], place))


DEMONSTRATIONS = Layout(
    name="messages",
    keys=("messages",),
    optional=("source", "tools"),
    foreign=("label", "kto_tag", "chosen", "rejected", "rejected_response", "rejected_messages"),
    meaning="A demonstration: the turns after the last one of the user are a response to imitate.",
    convert=demonstration,
)

POINTS = Layout(
    name="messages with a label",
    keys=("messages", "label"),
    optional=("source", "tools"),
    foreign=("chosen", "rejected", "rejected_response", "rejected_messages"),
    meaning="A point: `label` says how desirable the turns after the last one of the user are.",
    convert=point,
)
