"""Nectar. Zhu et al., 2023, https://huggingface.co/datasets/berkeley-nest/Nectar.

    {"prompt": "\\n\\nHuman: Hello\\n\\nAssistant: ", "answers": [{"answer": "Hi", "model": "gpt-4", "rank": 1}, ...]}

Rank 1 is the best. The space that ends the prompt is moved to the answers, as HH transcripts have it: together they
read the same.
"""

from trueup.feedback.fields import Place, fields, items, needed, optional_text, text
from trueup.feedback.layouts.data_sets.exchange import whole
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Every answer with the score -rank and its model; answers of the same rank tie."""
    place = Place(origin)
    given = text(row["prompt"], place.key("prompt"))
    prompt = given.rstrip(" ")
    at = place.key("answers")
    responses = []
    for index, value in enumerate(items(row["answers"], at, "objects")):
        here = at.item(index)
        one = fields(value, here)
        content = given[len(prompt) :] + text(needed(one, "answer", here), here.key("answer"))
        rank = whole(needed(one, "rank", here), here.key("rank"), 1)
        responses.append(Response(content, score=-float(rank), source=optional_text(one, "model", here)))
    return (
        Example(prompt, tuple(responses), origin=origin)
        if responses
        else Unusable("the list of answers is empty")
    )


def is_ranked(row: RowValue) -> bool:
    """Whether an answer has a rank."""
    answers = row["answers"]
    return isinstance(answers, list) and any(isinstance(one, dict) and "rank" in one for one in answers)


LAYOUT = Layout(
    name="Nectar",
    keys=("prompt", "answers"),
    meaning="A ranking: the score of an answer is minus its `rank`, so that rank 1 is the best.",
    convert=convert,
    fits=is_ranked,
)
