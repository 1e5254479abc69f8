"""What the layouts of pairs share: the two sides of a row become two responses and one comparison."""

from trueup.feedback.fields import Place, optional_number, optional_text
from trueup.feedback.layouts.layout import RowValue
from trueup.feedback.records import Comparison, Content, Example, Origin, Response

OPTIONAL = ("source", "score_chosen", "score_rejected")
DIFFERENT_PROMPTS = "the two sides have different prompts"


def pair(prompt: Content, chosen: Content, rejected: Content, row: RowValue, origin: Origin) -> Example:
    """A pair with the scores and the source that the row gives, if any."""
    place = Place(origin)
    source = optional_text(row, "source", place)
    responses = (
        Response(chosen, score=optional_number(row, "score_chosen", place), source=source),
        Response(rejected, score=optional_number(row, "score_rejected", place), source=source),
    )
    return Example(prompt, responses, (Comparison(better=0, worse=1),), origin)
