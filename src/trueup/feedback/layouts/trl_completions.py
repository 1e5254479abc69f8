"""TRL's rows of prompt and completion: a demonstration."""

from trueup.feedback.fields import Place, optional_text
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Content, Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, content

KEYS = ("prompt", "completion")


def prompt_and_completion(row: RowValue, origin: Origin) -> tuple[Content, Content]:
    """The two, of one kind: text, or messages."""
    place = Place(origin)
    prompt = content(row["prompt"], place.key("prompt"))
    at = place.key("completion")
    return prompt, as_response(content(row["completion"], at), prompt, at)


def convert(row: RowValue, origin: Origin) -> Example:
    """The completion is to be imitated."""
    prompt, completion = prompt_and_completion(row, origin)
    place = Place(origin)
    source = optional_text(row, "source", place)
    responses = (Response(completion, demonstration=True, source=source),)
    return Example(prompt, responses, origin=origin, tools=declared(row, prompt, place))


LAYOUT = Layout(
    name="TRL prompts with completions",
    keys=KEYS,
    optional=("source", "tools"),
    foreign=("label", "chosen", "rejected"),
    meaning="A demonstration: `completion` is a response to imitate.",
    convert=convert,
)
