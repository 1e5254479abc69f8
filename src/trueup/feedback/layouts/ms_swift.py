"""The layouts of ms-swift, https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html."""

from trueup.feedback.fields import Field
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.dialects import MS_SWIFT, history, rounds, turns_in
from trueup.feedback.layouts.layout import Layout, RowValue, after_system
from trueup.feedback.records import Discarded
from trueup.feedback.turns import as_response

swift_turns = turns_in(MS_SWIFT)


# ms-swift's standard form; roles are system, user, assistant, tool_call and tool_response (or tool). `loss` false in a
# turn leaves it out of the loss: such a response is not used.
#
#     {"messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "assistant", "content": "4"}],
#      "rejected_response": "5"}


def rejected_instead(row: Field) -> shapes.Exchange | Discarded:
    """The last response, and `rejected_response` in place of its last turn, or of all of it where it is a list."""
    given = row["rejected_response"]
    if not isinstance(given.value, str | list):
        raise given.unexpected("text or a list of messages")
    found = shapes.last_exchange(swift_turns(row, "messages"), row["messages"])
    if isinstance(found, Discarded):
        return found
    prompt, chosen = found
    if isinstance(given.value, str):
        return prompt, (chosen, (*chosen[:-1], *shapes.answer(given.value)))
    return prompt, (chosen, as_response(swift_turns(row, "rejected_response"), prompt, given))


def with_system(row: Field, key: str) -> shapes.Turns:
    """A conversation with the system prompt of the row."""
    return after_system(swift_turns(row, key), row)


def is_request(row: RowValue) -> bool:
    """Whether the messages end with a turn that asks for a response."""
    given = row["messages"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("role") != "assistant"


MESSAGES = shapes.singles(
    "ms-swift messages",
    shapes.conversation(
        "messages", swift_turns, shapes.holds("messages", "loss", ("tool_call", "tool_response"))
    ),
    ("label",),
)
SWIFT_MESSAGES = (
    shapes.pairs(
        "ms-swift pairs of conversations",
        shapes.conversations("messages", "rejected_messages", with_system),
    ),
    shapes.pairs(
        "ms-swift pairs",
        shapes.Form(("messages", "rejected_response"), rejected_instead, text=("rejected_response",)),
        "A pair: the turns after the last one of the user were preferred to `rejected_response`.",
    ),
    shapes.demonstrations(
        "ms-swift messages with a solution",
        shapes.written(
            "messages",
            "solution",
            ask=swift_turns,
            answer=shapes.as_turn,
            text=("solution",),
            fits=is_request,
        ),
    ),
    *MESSAGES,
)


# ms-swift's query and response, and its sharegpt format.
#
#     {"query": "2 + 2 =", "response": "4", "history": [["Hello", "Hi"]], "rejected_response": "5"}
#     {"system": "Be short.", "conversation": [{"human": "2 + 2 =", "assistant": "4"}, ...]}


def after_history(row: Field, key: str) -> shapes.Turns:
    """Earlier rounds, and the query."""
    return (*history(row), *shapes.user_turn(row[key]))


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


SWIFT_QUERIES = (
    shapes.pairs(
        "ms-swift queries with two responses",
        query("response", "rejected_response"),
    ),
    *shapes.singles("ms-swift queries", query("response"), ("label",), foreign=("rejected_response",)),
    shapes.demonstrations(
        "ms-swift rounds",
        shapes.conversation(
            "conversation",
            rounds({"human": "user", "user": "user", "tool": "tool"}, "assistant"),
            shapes.holds("conversation", "assistant"),
        ),
    ),
)

LAYOUTS: tuple[Layout, ...] = (*SWIFT_MESSAGES, *SWIFT_QUERIES)
