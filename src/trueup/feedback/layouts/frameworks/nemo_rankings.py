"""NeMo-RL's preferences, https://github.com/NVIDIA-NeMo/RL/blob/main/docs/guides/dpo.md.

    {"context": [{"role": "user", "content": "2 + 2 ="}],
     "completions": [{"rank": 0, "completion": [{"role": "assistant", "content": "4"}]}, ...]}

The lowest rank is the best; equal ranks tie.
"""

from trueup.feedback.fields import Place, fields, items, needed, optional_text
from trueup.feedback.layouts.data_sets.exchange import whole
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.layouts.system import after_system
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, content, messages


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Every completion with the score -rank."""
    place = Place(origin)
    prompt = messages(row["context"], place.key("context"))
    source = optional_text(row, "source", place)
    at = place.key("completions")
    responses = []
    for index, value in enumerate(items(row["completions"], at, 'objects {"rank": ..., "completion": ...}')):
        here = at.item(index)
        one = fields(value, here)
        rank = whole(needed(one, "rank", here), here.key("rank"), 0)
        said = here.key("completion")
        response = as_response(content(needed(one, "completion", here), said), prompt, said)
        responses.append(Response(response, score=0.0 - rank, source=source))
    prompt = after_system(prompt, row, place)
    return (
        Example(prompt, tuple(responses), origin=origin, tools=declared(row, prompt, place))
        if responses
        else Unusable("the list of completions is empty")
    )


LAYOUT = Layout(
    name="NeMo-RL preferences",
    keys=("context", "completions"),
    optional=("source", "system", "tools"),
    meaning="A ranking: the score of a completion is minus its `rank`, so that rank 0 is the best.",
    convert=convert,
)
