"""trueup's own form of an example, see `trueup.feedback.canonical`."""

from dataclasses import replace

from trueup.feedback.canonical import example_from_row
from trueup.feedback.fields import Place
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue
from trueup.feedback.layouts.system import with_system
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response


def convert(row: RowValue, origin: Origin) -> Example:
    """The record as it is, with the system prompt of the row, if it has one, before its messages."""
    example = example_from_row(row, origin)
    at = Place(origin, "responses")
    responses = tuple(
        replace(one, content=as_response(one.content, example.prompt, at.item(index).key("content")))
        for index, one in enumerate(example.responses)
    )
    return replace(example, prompt=with_system(example.prompt, row, Place(origin)), responses=responses)


LAYOUT = Layout(
    name="canonical",
    keys=("prompt", "responses"),
    optional=("comparisons", "system", "tools"),
    foreign=("scores",),
    request=REQUEST,
    further=True,
    meaning="A prompt, its responses with what was said of each, and comparisons between them.",
    convert=convert,
)
