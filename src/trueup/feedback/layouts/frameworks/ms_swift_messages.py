"""ms-swift's standard form, https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html.

    {"messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "assistant", "content": "4"}],
     "rejected_response": "5"}

Roles are system, user, assistant, tool_call and tool_response (or tool). `loss` false in a turn leaves it out of the
loss: such a response is not used.
"""

from trueup.feedback.fields import Place, label, text
from trueup.feedback.layouts.data_sets.exchange import answer
from trueup.feedback.layouts.frameworks.dialects import MS_SWIFT, spoken_by, turns
from trueup.feedback.layouts.frameworks.dialogues import (
    COMMON,
    Turns,
    compared,
    last_exchange,
    last_response,
    single,
)
from trueup.feedback.layouts.layout import JUDGEMENTS, Layout, RowValue, Unusable
from trueup.feedback.layouts.sides import DIFFERENT_PROMPTS
from trueup.feedback.layouts.system import after_system
from trueup.feedback.records import Example, Message, Origin
from trueup.feedback.turns import RESPONSE_ROLES, as_response, shared_turns


def conversation(row: RowValue, place: Place, key: str = "messages") -> Turns:
    """The turns under the key, after the system prompt where the row has one."""
    return after_system(turns(row[key], place.key(key), MS_SWIFT), row, place)


def demonstration(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response is to be imitated."""
    place = Place(origin)
    return last_response(conversation(row, place), place.key("messages"), row, origin)


def point(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response with its label."""
    place = Place(origin)
    desirability = label(row["label"], place.key("label"))
    return last_response(conversation(row, place), place.key("messages"), row, origin, desirability)


def solved(row: RowValue, origin: Origin) -> Example | Unusable:
    """`solution` is the response to the messages, and to be imitated."""
    place = Place(origin)
    prompt = conversation(row, place)
    solution = text(row["solution"], place.key("solution"))
    if prompt and prompt[-1].role == "assistant":
        return Unusable("the conversation ends with a turn of the assistant, before the solution")
    return single(prompt, answer(solution), row, origin)


def pair(row: RowValue, origin: Origin) -> Example | Unusable:
    """The last response, and `rejected_response` in place of its last turn, or of all of it where it is a list."""
    place = Place(origin)
    at = place.key("rejected_response")
    given = row["rejected_response"]
    if not isinstance(given, str | list):
        raise at.unexpected(given, "text or a list of messages")
    split = last_exchange(conversation(row, place), place.key("messages"))
    if isinstance(split, Unusable):
        return split
    prompt, chosen = split
    if isinstance(given, str):
        return compared(prompt, chosen, (*chosen[:-1], Message("assistant", given)), row, origin)
    return compared(prompt, chosen, as_response(turns(given, at, MS_SWIFT), prompt, at), row, origin)


def pair_of_conversations(row: RowValue, origin: Origin) -> Example | Unusable:
    """The turns that both conversations share are the prompt; the rest of each is its response."""
    place = Place(origin)
    chosen, rejected = (conversation(row, place, key) for key in ("messages", "rejected_messages"))
    if not chosen or not rejected:
        return Unusable("a response is empty")
    for side in (chosen, rejected):
        if side[-1].role != "assistant":
            return Unusable("the conversation does not end with a turn of the assistant")
    shared = shared_turns(chosen, rejected)
    if any(turn.role not in RESPONSE_ROLES for side in (chosen, rejected) for turn in side[shared:]):
        return Unusable(DIFFERENT_PROMPTS)
    prompt = chosen[:shared]
    better = as_response(chosen[shared:], prompt, place.key("messages"), shared)
    worse = as_response(rejected[shared:], prompt, place.key("rejected_messages"), shared)
    return compared(prompt, better, worse, row, origin)


def is_swift(row: RowValue) -> bool:
    """Whether a turn has a role or a key that plain messages do not have."""
    return spoken_by(row, "messages", ("tool_call", "tool_response"), ("loss",))


def is_request(row: RowValue) -> bool:
    """Whether the messages end with a turn that asks for a response."""
    given = row["messages"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("role") != "assistant"


PAIRS = Layout(
    name="ms-swift pairs",
    keys=("messages", "rejected_response"),
    optional=COMMON,
    meaning="A pair: the turns after the last one of the user were preferred to `rejected_response`.",
    convert=pair,
)

CONVERSATIONS = Layout(
    name="ms-swift pairs of conversations",
    keys=("messages", "rejected_messages"),
    optional=COMMON,
    meaning="A pair of conversations: the turns they share are the prompt; that of `messages` was preferred.",
    convert=pair_of_conversations,
)

POINTS = Layout(
    name="ms-swift messages with a label",
    keys=("messages", "label"),
    optional=COMMON,
    foreign=("chosen", "rejected"),
    meaning="A point: `label` says how desirable the turns after the last one of the user are.",
    convert=point,
    fits=is_swift,
)

SOLUTIONS = Layout(
    name="ms-swift messages with a solution",
    keys=("messages", "solution"),
    optional=COMMON,
    foreign=JUDGEMENTS,
    meaning="A demonstration: `solution` is a response to `messages` to imitate.",
    convert=solved,
    fits=is_request,
)

DEMONSTRATIONS = Layout(
    name="ms-swift messages",
    keys=("messages",),
    optional=COMMON,
    foreign=JUDGEMENTS,
    meaning="A demonstration: the turns after the last one of the user are a response to imitate.",
    convert=demonstration,
    fits=is_swift,
)
