"""TruthfulQA's table. Lin et al., 2021, https://arxiv.org/abs/2109.07958.

{"Question": "What is 2 + 2?", "Best Answer": "4", "Correct Answers": "4; Four", "Incorrect Answers": "5; Five"}
"""

from trueup.feedback.fields import Place, text
from trueup.feedback.layouts.data_sets.exchange import answer, demonstrated, request
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response

LABELS = {"Correct Answers": 1.0, "Incorrect Answers": 0.0}


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Right and wrong answers; an answer that the table calls both stands twice."""
    place = Place(origin)
    prompt = request(text(row["Question"], place.key("Question")))
    right, wrong = (
        tuple(Response(answer(one), label=label) for one in parts(row[key], place.key(key)))
        for key, label in LABELS.items()
    )
    best = text(row["Best Answer"], place.key("Best Answer")).strip()
    if best:
        right = demonstrated(right, answer(best), label=1.0)
    responses = right + wrong
    return Example(prompt, responses, origin=origin) if responses else Unusable("there is no answer")


def parts(value: object, place: Place) -> list[str]:
    """Answers between semicolons, each once."""
    return list(dict.fromkeys(part.strip() for part in text(value, place).split(";") if part.strip()))


LAYOUT = Layout(
    name="TruthfulQA",
    keys=("Question", "Best Answer", *LABELS),
    meaning="Right answers are labelled 1, wrong ones 0; the best answer is a response to imitate.",
    convert=convert,
)
