"""The layouts of ms-swift, https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html."""

from functools import partial

from trueup.feedback.fields import Place, fields, items
from trueup.feedback.layouts import shapes, trl
from trueup.feedback.layouts.dialects import MS_SWIFT, spoken_by, turns
from trueup.feedback.layouts.layout import Layout, RowValue, after_system
from trueup.feedback.records import Discarded, Message
from trueup.feedback.turns import as_response

swift_turns = partial(turns, dialect=MS_SWIFT)


# ms-swift's standard form; roles are system, user, assistant, tool_call and tool_response (or tool). `loss` false in a
# turn leaves it out of the loss: such a response is not used.
#
#     {"messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "assistant", "content": "4"}],
#      "rejected_response": "5"}


def rejected_instead(row: RowValue, place: Place) -> shapes.Exchange | Discarded:
    """The last response, and `rejected_response` in place of its last turn, or of all of it where it is a list."""
    at = place.key("rejected_response")
    given = row["rejected_response"]
    if not isinstance(given, str | list):
        raise at.unexpected(given, "text or a list of messages")
    found = shapes.last_exchange(swift_turns(row["messages"], place.key("messages")), place.key("messages"))
    if isinstance(found, Discarded):
        return found
    prompt, chosen = found
    if isinstance(given, str):
        return prompt, (chosen, (*chosen[:-1], *shapes.answer(given)))
    return prompt, (chosen, as_response(swift_turns(given, at), prompt, at))


def two_conversations(row: RowValue, place: Place) -> shapes.Exchange | Discarded:
    """The turns that both conversations share, with the system prompt of the row, are the prompt."""
    keys = ("messages", "rejected_messages")
    chosen, rejected = (after_system(swift_turns(row[key], place.key(key)), row, place) for key in keys)
    if not chosen or not rejected:
        return Discarded("a response is empty")
    if any(side[-1].role != "assistant" for side in (chosen, rejected)):
        return Discarded(shapes.UNANSWERED)
    return trl.after_shared_turns(chosen, rejected, place, keys)


def is_request(row: RowValue) -> bool:
    """Whether the messages end with a turn that asks for a response."""
    given = row["messages"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("role") != "assistant"


is_swift = spoken_by("messages", ("tool_call", "tool_response"), "loss")

SWIFT_MESSAGES = (
    shapes.pairs(
        "ms-swift pairs of conversations",
        shapes.Form(("messages", "rejected_messages"), two_conversations),
        "A pair of conversations: the turns they share are the prompt; that of `messages` was preferred.",
    ),
    shapes.pairs(
        "ms-swift pairs",
        shapes.Form(("messages", "rejected_response"), rejected_instead, text=("rejected_response",)),
        "A pair: the turns after the last one of the user were preferred to `rejected_response`.",
    ),
    *shapes.points(
        "ms-swift messages with a label",
        shapes.conversation("messages", swift_turns, is_swift),
        "A point: `label` says how desirable the turns after the last one of the user are.",
        "label",
    ),
    shapes.demonstrations(
        "ms-swift messages with a solution",
        shapes.written(
            "messages",
            "solution",
            ask=shapes.by_value(swift_turns),
            answer=shapes.as_turn,
            before="the solution",
            text=("solution",),
            fits=is_request,
        ),
        "A demonstration: `solution` is a response to `messages` to imitate.",
    ),
    shapes.demonstrations(
        "ms-swift messages",
        shapes.conversation("messages", swift_turns, is_swift),
        "A demonstration: the turns after the last one of the user are a response to imitate.",
    ),
)


# ms-swift's query and response, and its sharegpt format.
#
#     {"query": "2 + 2 =", "response": "4", "history": [["Hello", "Hi"]], "rejected_response": "5"}
#     {"system": "Be short.", "conversation": [{"human": "2 + 2 =", "assistant": "4"}, ...]}


def after_history(row: RowValue, place: Place, key: str) -> shapes.Turns:
    """Earlier rounds, and the query."""
    return (*shapes.history(row, place), *shapes.user_turn(row[key], place.key(key)))


def query(*responses: str) -> shapes.Form:
    """The form with these responses."""
    return shapes.written(
        "query",
        *responses,
        ask=after_history,
        answer=shapes.as_turn,
        optional=("history", *shapes.COMMON),
        request=("context", "prompt", "instruction", "input"),
    )


SPEAKERS = {"human": "user", "user": "user", "tool": "tool"}
"""Keys of a round for what comes before an answer, and whose turn it is."""


def rounds(value: object, at: Place) -> shapes.Turns:
    """Rounds, of a question and an answer each, as turns."""
    made: list[Message] = []
    for index, one in enumerate(items(value, at, 'rounds {"human": ..., "assistant": ...}')):
        here = at.item(index)
        round_ = fields(one, here)
        speaker = next((key for key in SPEAKERS if key in round_), "human")
        made.append(Message(SPEAKERS[speaker], shapes.text_under(round_, speaker, here)))
        made += shapes.answer(shapes.text_under(round_, "assistant", here))
    return tuple(made)


SWIFT_QUERIES = (
    shapes.pairs(
        "ms-swift queries with two responses",
        query("response", "rejected_response"),
        "A pair: `response` was preferred to `rejected_response` as an answer to `query`.",
    ),
    *shapes.points(
        "ms-swift queries with labelled responses",
        query("response"),
        "A point: `label` says how desirable `response` is as an answer to `query`.",
        "label",
        foreign=("rejected_response",),
    ),
    shapes.demonstrations(
        "ms-swift queries",
        query("response"),
        "A demonstration: `response` is an answer to `query` to imitate.",
    ),
    shapes.demonstrations(
        "ms-swift rounds",
        shapes.conversation("conversation", rounds, shapes.holds("conversation", "assistant")),
        "A demonstration: the answer of the last round is a response to imitate.",
    ),
)

LAYOUTS: tuple[Layout, ...] = (*SWIFT_MESSAGES, *SWIFT_QUERIES)
