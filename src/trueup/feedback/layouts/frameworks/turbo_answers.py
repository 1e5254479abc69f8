"""What turbo-alignment samples from a model, https://github.com/turbo-llm/turbo-alignment (dataset/sampling/models.py).

    {"messages": [{"role": "user", "content": "2 + 2 ="}], "answers": [{"id": "0", "content": "4"}],
     "rewards": {"0": 0.7}}

The answers follow the messages; a turn of the bot that ends these is what they were sampled in place of.
"""

from trueup.feedback.fields import Place, fields, items, needed, number, optional_text, text
from trueup.feedback.layouts.data_sets.exchange import answer
from trueup.feedback.layouts.frameworks.dialects import TURBO_ALIGNMENT, turns
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.layouts.system import after_system
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.tools import declared


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Every answer with its reward, where it has one, as its score."""
    place = Place(origin)
    prompt = turns(row["messages"], place.key("messages"), TURBO_ALIGNMENT)
    if prompt and prompt[-1].role == "assistant":
        prompt = prompt[:-1]
    source = optional_text(row, "source", place)
    scores = rewards(row, place)
    at = place.key("answers")
    responses = []
    for index, value in enumerate(items(row["answers"], at, 'objects {"id": ..., "content": ...}')):
        here = at.item(index)
        one = fields(value, here)
        said = answer(text(needed(one, "content", here), here.key("content")))
        name = text(needed(one, "id", here), here.key("id")) if scores else ""
        responses.append(Response(said, score=scores.pop(name, None), source=source))
    for name in scores:
        raise place.key("rewards").key(name).fault("no answer with this id is left; give each its own, once")
    if not responses:
        return Unusable("the list of answers is empty")
    prompt = after_system(prompt, row, place)
    return Example(prompt, tuple(responses), origin=origin, tools=declared(row, prompt, place))


def rewards(row: RowValue, place: Place) -> dict[str, float]:
    """The id of an answer -> its reward; empty where the row has none."""
    given = row.get("rewards")
    at = place.key("rewards")
    named = {} if given is None else fields(given, at)
    return {name: number(value, at.key(name)) for name, value in named.items()}


def has_contents(row: RowValue) -> bool:
    """Whether an answer has a content."""
    answers = row["answers"]
    return isinstance(answers, list) and any(isinstance(one, dict) and "content" in one for one in answers)


LAYOUT = Layout(
    name="turbo-alignment answers",
    keys=("messages", "answers"),
    optional=("rewards", "source", "system", "tools"),
    meaning="Responses of a model: `rewards` scores `answers` by their `id`; without it nothing is said of them.",
    convert=convert,
    further=True,
    fits=has_contents,
)
