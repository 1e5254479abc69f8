"""TRL's rows for KTO: prompt, completion and a label, true or false; a number from 0 to 1 is a label too."""

from trueup.feedback.fields import Place, label, optional_text
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.layouts.trl_completions import KEYS, prompt_and_completion
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.tools import declared


def convert(row: RowValue, origin: Origin) -> Example:
    """The completion with its label."""
    prompt, completion = prompt_and_completion(row, origin)
    place = Place(origin)
    desirability = label(row["label"], place.key("label"))
    source = optional_text(row, "source", place)
    responses = (Response(completion, label=desirability, source=source),)
    return Example(prompt, responses, origin=origin, tools=declared(row, prompt, place))


LAYOUT = Layout(
    name="TRL prompts with labelled completions",
    keys=(*KEYS, "label"),
    optional=("source", "tools"),
    foreign=("chosen", "rejected"),
    meaning="A point: `label` says how desirable `completion` is, from false or 0 to true or 1.",
    convert=convert,
)
