"""Solutions of several systems to GSM8K's questions. Cobbe et al., 2021, https://arxiv.org/abs/2110.14168.

{"question": "2 + 2?", "ground_truth": "A: 4", "6b_finetuning": {"is_correct": false, "solution": "A: 5"}, ...}
"""

from trueup.feedback.fields import Place, fields, label, needed, text
from trueup.feedback.layouts.data_sets.exchange import answer, demonstrated, request
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Example, Origin, Response


def convert(row: RowValue, origin: Origin) -> Example:
    """The solution of each system with its label, and the ground truth to imitate."""
    place = Place(origin)
    prompt = request(text(row["question"], place.key("question")))
    truth = answer(text(row["ground_truth"], place.key("ground_truth")))
    solutions = [solution(row[system], place.key(system), system) for system in systems(row)]
    return Example(prompt, demonstrated(solutions, truth, label=1.0), origin=origin)


def systems(row: RowValue) -> list[str]:
    """The keys under which a system's solution, or part of one, stands."""
    return [
        key for key, one in row.items() if isinstance(one, dict) and {"is_correct", "solution"} & one.keys()
    ]


def solution(value: object, place: Place, system: str) -> Response:
    """A solution; true is the label 1."""
    one = fields(value, place)
    content = answer(text(needed(one, "solution", place), place.key("solution")))
    correct = label(needed(one, "is_correct", place), place.key("is_correct"))
    return Response(content, label=correct, source=system)


LAYOUT = Layout(
    name="GSM8K solutions",
    keys=("question", "ground_truth"),
    named=systems,
    meaning=(
        "Solutions of systems, labelled by `is_correct`; the ground truth is labelled 1 and is a response to "
        "imitate."
    ),
    convert=convert,
    fits=lambda row: bool(systems(row)),
)
