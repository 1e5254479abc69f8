"""Preferences of FineGrainedRLHF's qa_feedback. Wu et al., 2023, https://arxiv.org/abs/2306.01693.

    {"question": "Who wrote it?", "passages": [["Title", "A sentence.", ...], ...], "prediction 1": "Ann.", ...,
     "prediction 4": "Bo.", "preference": [1, 0, 2, 1, 1, 2], "feedback": {"corrected-prediction": "Ann Lee.", ...}}

The prompt is one turn, worded as the authors' models were given it.
"""

from itertools import combinations

from trueup.feedback.fields import Place, fields, items, text
from trueup.feedback.layouts.data_sets.exchange import answer, demonstrated, request, whole
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Comparison, Example, Origin, Response

PREDICTIONS = ("prediction 1", "prediction 2", "prediction 3", "prediction 4")
PAIRS = tuple(combinations(range(len(PREDICTIONS)), 2))


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Four predictions, what was preferred in each pair, and the corrected prediction to imitate."""
    place = Place(origin)
    prompt = request(question(row, place))
    responses = tuple(Response(answer(text(row[key], place.key(key)))) for key in PREDICTIONS)
    at = place.key("preference")
    given = items(row["preference"], at, "numbers")
    if len(given) != len(PAIRS):
        raise at.unexpected(given, f"one number for each of the {len(PAIRS)} pairs (12, 13, 14, 23, 24, 34)")
    comparisons = []
    for index, ((first, second), value) in enumerate(zip(PAIRS, given, strict=True)):
        winner = whole(value, at.item(index), 0, 2)
        if winner:
            comparisons.append(Comparison(first, second) if winner == 1 else Comparison(second, first))
    corrected = correction(row, place)
    if corrected:
        responses = demonstrated(responses, answer(corrected))
    if not comparisons and not corrected:
        return Unusable("all responses tie")
    return Example(prompt, responses, tuple(comparisons), origin)


def question(row: RowValue, place: Place) -> str:
    """The question, and the passages with their titles where the row has any."""
    asked = text(row["question"], place.key("question"))
    at = place.key("passages")
    passages = [] if row.get("passages") is None else items(row["passages"], at, "passages")
    found = [passage(value, at.item(index)) for index, value in enumerate(passages)]
    return f"question: {asked} context: {' '.join(found)}" if found else asked


def passage(value: object, place: Place) -> str:
    """A title and the sentences under it."""
    given = items(value, place, "texts")
    if not given:
        raise place.unexpected(given, "a title and sentences")
    title, *sentences = (text(one, place.item(index)) for index, one in enumerate(given))
    return f"wikipage: {title} text: {' '.join(sentences)}"


def correction(row: RowValue, place: Place) -> str:
    """The prediction as the annotator corrected it; empty where nothing was left of it."""
    at = place.key("feedback")
    feedback = {} if row.get("feedback") is None else fields(row["feedback"], at)
    written = feedback.get("corrected-prediction")
    return "" if written is None else text(written, at.key("corrected-prediction")).strip()


LAYOUT = Layout(
    name="FineGrainedRLHF",
    keys=("question", *PREDICTIONS, "preference"),
    optional=("passages", "feedback"),
    meaning=(
        "Six pairs of four predictions: in `preference` 1 prefers the first, 2 the second, 0 is a tie; the "
        "corrected prediction is a response to imitate."
    ),
    convert=convert,
    not_kept="the errors and the missing information that `feedback` names",
)
