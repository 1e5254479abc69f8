"""TRL's preference rows without a prompt: two conversations, and the turns they share are the prompt.

Only whole turns are shared. TRL does the same with the letters of plain text, so that 'The sky is blue.' and
'The sky is black.' become the prompt 'The sky is bl' with the responses 'ue.' and 'ack.'; that is refused.
"""

from dataclasses import replace

from trueup.feedback.fields import Place
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue, Unusable
from trueup.feedback.layouts.sides import DIFFERENT_PROMPTS, OPTIONAL, pair
from trueup.feedback.records import Example, Origin
from trueup.feedback.tools import declared
from trueup.feedback.turns import RESPONSE_ROLES, as_response, messages, shared_turns

TEXT = (
    "found plain text, and the row has no prompt. The common beginning of two texts is not a prompt: "
    "'The sky is blue.' and 'The sky is black.' would give the prompt 'The sky is bl'; "
    "add the key 'prompt', or write both sides as lists of messages"
)


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """The turns that both sides share are the prompt; the rest of each is its response."""
    place = Place(origin)
    for key in LAYOUT.keys:
        if isinstance(row[key], str):
            raise place.key(key).fault(TEXT)
    chosen, rejected = (messages(row[key], place.key(key)) for key in LAYOUT.keys)
    for key, side in zip(LAYOUT.keys, (chosen, rejected), strict=True):
        if not side:
            return Unusable("a response is empty")
        if side[-1].role != "assistant":
            at = place.key(key).item(len(side) - 1).key("role")
            raise at.unexpected(side[-1].role, "an assistant turn: a side ends with its response")
    shared = shared_turns(chosen, rejected)
    if any(turn.role not in RESPONSE_ROLES for side in (chosen, rejected) for turn in side[shared:]):
        return Unusable(DIFFERENT_PROMPTS)
    prompt = chosen[:shared]
    better = as_response(chosen[shared:], prompt, place.key("chosen"), shared)
    worse = as_response(rejected[shared:], prompt, place.key("rejected"), shared)
    made = pair(prompt, better, worse, row, origin)
    return replace(made, tools=declared(row, made.prompt, place))


LAYOUT = Layout(
    name="TRL pairs with an implied prompt",
    keys=("chosen", "rejected"),
    optional=(*OPTIONAL, "tools"),
    foreign=("prompt",),
    request=REQUEST,
    meaning="A pair of conversations: the turns they share are the prompt, the rest of each is its response.",
    convert=convert,
)
