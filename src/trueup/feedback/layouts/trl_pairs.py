"""TRL's preference rows with an explicit prompt: text, or lists of messages.

Where both sides begin with the prompt (UltraFeedback as it is published), the prompt is taken off them.
"""

from dataclasses import replace

from trueup.feedback.fields import Place
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue
from trueup.feedback.layouts.sides import OPTIONAL, pair
from trueup.feedback.records import Content, Example, Message, Origin
from trueup.feedback.tools import declared
from trueup.feedback.turns import (
    RESPONSE_ROLES,
    as_response,
    content,
    shared_turns,
    split_at_last_request,
)


def convert(row: RowValue, origin: Origin) -> Example:
    """Prompt, chosen and rejected as given."""
    place = Place(origin)
    prompt, chosen, rejected = (content(row[key], place.key(key)) for key in LAYOUT.keys)
    start = repeated_prompt(prompt, chosen, rejected)
    asked = start or request_of(prompt, chosen, rejected)
    better = as_response(chosen[len(start) :], asked, place.key("chosen"), len(start))
    worse = as_response(rejected[len(start) :], asked, place.key("rejected"), len(start))
    made = pair(asked, better, worse, row, origin)
    return replace(made, tools=declared(row, made.prompt, place))


def repeated_prompt(prompt: Content, chosen: Content, rejected: Content) -> Content:
    """That with which both sides repeat the prompt: its text, or its turns; empty where they do not."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return repeated_text(prompt, chosen, rejected)
    if not isinstance(prompt, str):
        turns = len(prompt)
        both = turns < min(len(chosen), len(rejected)) and chosen[:turns] == prompt == rejected[:turns]
        return prompt if both else ()
    start = split_at_last_request(chosen[: shared_turns(chosen, rejected)])[0]
    return start if start[-1:] == (Message("user", prompt),) else ()


def repeated_text(prompt: Content, chosen: Content, rejected: Content) -> str:
    """The prompt, where all three are text and both sides begin with it; empty where not."""
    if not (isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str)):
        return ""
    return prompt if chosen.startswith(prompt) and rejected.startswith(prompt) else ""


def request_of(prompt: Content, chosen: Content, rejected: Content) -> Content:
    """The prompt; text as a turn of the user where both sides are turns of the assistant."""
    sides = [side for side in (chosen, rejected) if not isinstance(side, str)]
    answers = len(sides) == 2 and all(
        side and all(turn.role in RESPONSE_ROLES for turn in side) for side in sides
    )
    return (Message("user", prompt),) if isinstance(prompt, str) and prompt.strip() and answers else prompt


LAYOUT = Layout(
    name="TRL pairs",
    keys=("prompt", "chosen", "rejected"),
    optional=(*OPTIONAL, "tools"),
    request=REQUEST,
    meaning="A pair: `chosen` was preferred to `rejected` as a response to `prompt`.",
    convert=convert,
)
