"""Stanford Human Preferences. Ethayarajh et al., 2022, https://huggingface.co/datasets/stanfordnlp/SHP."""

from trueup.feedback.fields import Place, optional_number, text
from trueup.feedback.layouts.data_sets.exchange import answer, judged, request, whole
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response

SIDES = {"human_ref_A": "score_A", "human_ref_B": "score_B"}


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """A post and two comments with their votes, one of them preferred."""
    place = Place(origin)
    one, other = (
        Response(answer(text(row[key], place.key(key))), score=optional_number(row, score, place))
        for key, score in SIDES.items()
    )
    better = 1 - whole(row["labels"], place.key("labels"), 0, 1)
    return judged(request(text(row["history"], place.key("history"))), (one, other), better, origin)


LAYOUT = Layout(
    name="SHP",
    keys=("history", *SIDES, "labels"),
    optional=tuple(SIDES.values()),
    meaning="A pair: `labels` 1 prefers A and 0 prefers B; the scores are the votes; `score_ratio` is not kept.",
    convert=convert,
)
