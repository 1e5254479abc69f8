"""HelpSteer3 preferences. Wang et al., 2025, https://arxiv.org/abs/2505.11475."""

from trueup.feedback.fields import Place, text
from trueup.feedback.layouts.data_sets.exchange import answer, judged
from trueup.feedback.layouts.data_sets.helpsteer import side
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.turns import RESPONSE_ROLES, messages

SIDES = ("response1", "response2")


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """A conversation and two responses, one of them preferred."""
    place = Place(origin)
    at = place.key("context")
    prompt = messages(row["context"], at)
    if prompt and prompt[-1].role in RESPONSE_ROLES:
        last = at.item(len(prompt) - 1).key("role")
        raise last.unexpected(prompt[-1].role, "a turn of the user: the responses follow it")
    one, other = (Response(answer(text(row[key], place.key(key)))) for key in SIDES)
    better = side(row["overall_preference"], place.key("overall_preference"))
    return judged(prompt, (one, other), better, origin)


LAYOUT = Layout(
    name="HelpSteer3 preferences",
    keys=("context", *SIDES, "overall_preference"),
    meaning="A pair: -3 to -1 prefer `response1`, 1 to 3 `response2`, 0 is a tie; how strongly is not kept.",
    convert=convert,
)
