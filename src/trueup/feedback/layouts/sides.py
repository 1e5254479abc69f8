"""What the layouts of pairs share: the two sides of a row become two responses and one comparison."""

from trueup.feedback.fields import Place, optional_number, optional_text
from trueup.feedback.layouts.layout import RowValue
from trueup.feedback.layouts.system import with_system
from trueup.feedback.records import Comparison, Content, Example, Origin, Response

OPTIONAL = ("source", "system", "score_chosen", "score_rejected")
DIFFERENT_PROMPTS = "the two sides have different prompts"


def pair(prompt: Content, chosen: Content, rejected: Content, row: RowValue, origin: Origin) -> Example:
    """A pair with the scores, the source and the system prompt that the row gives, if any."""
    place = Place(origin)
    source = optional_text(row, "source", place)
    responses = (
        Response(chosen, score=optional_number(row, "score_chosen", place), source=source),
        Response(rejected, score=optional_number(row, "score_rejected", place), source=source),
    )
    return Example(with_system(prompt, row, place), responses, (Comparison(better=0, worse=1),), origin)
