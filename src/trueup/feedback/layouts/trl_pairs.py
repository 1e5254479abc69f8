"""TRL's preference rows with an explicit prompt: text, or lists of messages.

Where both sides are whole conversations that begin with the prompt (UltraFeedback as it is published), the
prompt is taken off them.
"""

from dataclasses import replace

from trueup.feedback.fields import Place
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.layouts.sides import OPTIONAL, pair
from trueup.feedback.records import Content, Example, Message, Origin
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, content, shared_turns, split_at_last_request


def convert(row: RowValue, origin: Origin) -> Example:
    """Prompt, chosen and rejected as given."""
    place = Place(origin)
    prompt, chosen, rejected = (content(row[key], place.key(key)) for key in LAYOUT.keys)
    start = repeated_prompt(prompt, chosen, rejected)
    better = as_response(chosen[len(start) :], start or prompt, place.key("chosen"), len(start))
    worse = as_response(rejected[len(start) :], start or prompt, place.key("rejected"), len(start))
    made = pair(start or prompt, better, worse, row, origin)
    return replace(made, tools=declared(row, made.prompt, place))


def repeated_prompt(prompt: Content, chosen: Content, rejected: Content) -> tuple[Message, ...]:
    """The turns with which both sides, being conversations, repeat the prompt; none where they do not."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return ()
    shared = chosen[: shared_turns(chosen, rejected)]
    if not isinstance(prompt, str):
        return prompt if shared[: len(prompt)] == prompt else ()
    start = split_at_last_request(shared)[0]
    return start if start[-1:] == (Message("user", prompt),) else ()


LAYOUT = Layout(
    name="TRL pairs",
    keys=("prompt", "chosen", "rejected"),
    optional=(*OPTIONAL, "tools"),
    meaning="A pair: `chosen` was preferred to `rejected` as a response to `prompt`.",
    convert=convert,
)
