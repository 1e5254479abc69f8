"""turbo-alignment's feedback, https://github.com/turbo-llm/turbo-alignment (dataset/pair_preferences, dataset/kto).

{"context": [{"role": "user", "content": "2 + 2 ="}], "answer_w": {"role": "bot", "content": "4"}, "answer_l": ...}
{"context": [{"role": "user", "content": "2 + 2 ="}], "answer": {"role": "bot", "content": "4"}, "is_desirable": true}
"""

from trueup.feedback.fields import Place, label
from trueup.feedback.layouts.frameworks.dialects import TURBO_ALIGNMENT, turns
from trueup.feedback.layouts.frameworks.dialogues import COMMON, Turns, compared, side, single
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Example, Origin


def context(row: RowValue, place: Place) -> Turns:
    """The prompt; it may end with a turn of the bot, which the answers then follow."""
    return turns(row["context"], place.key("context"), TURBO_ALIGNMENT)


def pair(row: RowValue, origin: Origin) -> Example:
    """`answer_w` was preferred to `answer_l`."""
    place = Place(origin)
    prompt = context(row, place)
    better, worse = (
        side(row[key], place.key(key), TURBO_ALIGNMENT, prompt) for key in ("answer_w", "answer_l")
    )
    return compared(prompt, better, worse, row, origin)


def point(row: RowValue, origin: Origin) -> Example:
    """`answer` with its label."""
    place = Place(origin)
    prompt = context(row, place)
    response = side(row["answer"], place.key("answer"), TURBO_ALIGNMENT, prompt)
    desirability = label(row["is_desirable"], place.key("is_desirable"))
    return single(prompt, response, row, origin, label=desirability)


PAIRS = Layout(
    name="turbo-alignment pairs",
    keys=("context", "answer_w", "answer_l"),
    optional=COMMON,
    further=True,
    meaning="A pair: `answer_w` was preferred to `answer_l` as the next turn of `context`.",
    convert=pair,
)

POINTS = Layout(
    name="turbo-alignment points",
    keys=("context", "answer", "is_desirable"),
    optional=COMMON,
    further=True,
    meaning="A point: `is_desirable` says how desirable `answer` is as the next turn of `context`.",
    convert=point,
)
