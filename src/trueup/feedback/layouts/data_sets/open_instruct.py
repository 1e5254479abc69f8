"""The human evaluation of open-instruct. Wang et al., 2023, https://arxiv.org/abs/2306.04751."""

from trueup.feedback.fields import Place, optional_text, text
from trueup.feedback.layouts.data_sets.exchange import answer, judged, request
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response

PREFERENCES = {
    "a-is-better": 0,
    "a-is-clearly-better": 0,
    "a-is-slightly-better": 0,
    "tie": None,
    "b-is-slightly-better": 1,
    "b-is-clearly-better": 1,
    "b-is-better": 1,
}
ACCEPTABLE = {"yes": 1.0, "no": 0.0}


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Two completions, whether each is acceptable, and which was preferred."""
    place = Place(origin)
    prompt = request(text(row["prompt"], place.key("prompt")))
    at = place.key("preference")
    preference = text(row["preference"], at)
    if preference not in PREFERENCES:
        raise at.unexpected(preference, "one of " + ", ".join(PREFERENCES))
    pair = (completion(row, "a", place), completion(row, "b", place))
    return judged(prompt, pair, PREFERENCES[preference], origin)


def completion(row: RowValue, side: str, place: Place) -> Response:
    """The completion of a side, `a` or `b`, with its label and its model."""
    key = f"completion_{side}"
    content = answer(text(row[key], place.key(key)))
    at = place.key(f"{key}_is_acceptable")
    acceptable = optional_text(row, at.path, place)
    if acceptable is not None and acceptable not in ACCEPTABLE:
        raise at.unexpected(acceptable, "'yes' or 'no'")
    label = None if acceptable is None else ACCEPTABLE[acceptable]
    return Response(content, label=label, source=optional_text(row, f"model_{side}", place))


LAYOUT = Layout(
    name="open-instruct human evaluation",
    keys=("prompt", "completion_a", "completion_b", "preference"),
    optional=("completion_a_is_acceptable", "completion_b_is_acceptable", "model_a", "model_b"),
    meaning=(
        "A pair, or a tie, of which each side is labelled 1 where it is acceptable and 0 where it is not; "
        "'slightly' is not kept."
    ),
    convert=convert,
)
