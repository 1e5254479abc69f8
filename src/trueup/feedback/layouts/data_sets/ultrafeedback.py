"""UltraFeedback as published. Cui et al., 2023, https://arxiv.org/abs/2310.01377.

    {"instruction": "Name a fruit.", "completions": [{"model": "gpt-4", "response": "Apple", "overall_score": 8.5,
     "fine-grained_score": 4.5, "annotations": {"honesty": {"Rating": "4", ...}, ...}, ...}, ...]}

`overall_score` runs from 1 to 10, `fine-grained_score` and the ratings from 1 to 5, so that one example never mixes
them. Every completion had a system prompt of its own (`custom_system_prompt`), which is not kept.
"""

import math
from collections.abc import Mapping, Sequence

from trueup.feedback.fields import Place, fields, items, needed, number, optional_number, optional_text, text
from trueup.feedback.layouts.data_sets.exchange import answer, request
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response

Completion = Mapping[str, object]


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Every completion with its score and its model."""
    place = Place(origin)
    prompt = request(text(row["instruction"], place.key("instruction")))
    at = place.key("completions")
    given = [
        fields(one, at.item(index)) for index, one in enumerate(items(row["completions"], at, "objects"))
    ]
    if not given:
        return Unusable("the list of completions is empty")
    contents = [
        answer(text(needed(one, "response", at.item(index)), at.item(index).key("response")))
        for index, one in enumerate(given)
    ]
    scores = scores_of(given, at)
    if not scores:
        return Unusable("no kind of score is given to all completions")
    responses = (
        Response(content, score=score, source=optional_text(one, "model", at.item(index)))
        for index, (one, content, score) in enumerate(zip(given, contents, scores, strict=True))
    )
    return Example(prompt, tuple(responses), origin=origin)


def scores_of(given: Sequence[Completion], at: Place) -> list[float]:
    """The first kind of score that all completions have; nothing where there is none."""
    for key in ("overall_score", "fine-grained_score"):
        found = [optional_number(one, key, at.item(index)) for index, one in enumerate(given)]
        known = [score for score in found if score is not None]
        if len(known) == len(given):
            return known
    rated = [ratings(one, at.item(index)) for index, one in enumerate(given)]
    shared = [aspect for aspect in rated[0] if all(aspect in one for one in rated)]
    return [math.fsum(one[aspect] for aspect in shared) / len(shared) for one in rated] if shared else []


def ratings(completion: Completion, at: Place) -> dict[str, float]:
    """Aspect -> rating, without those that do not apply (`N/A`)."""
    at = at.key("annotations")
    annotations = {} if completion.get("annotations") is None else fields(completion["annotations"], at)
    found: dict[str, float] = {}
    for aspect, value in annotations.items():
        given = fields(value, at.key(aspect)).get("Rating")
        if given is not None and given != "N/A":
            found[aspect] = rating(given, at.key(aspect).key("Rating"))
    return found


def rating(value: object, place: Place) -> float:
    """A rating: a number, or the text of one, as published."""
    if not isinstance(value, str):
        return number(value, place)
    try:
        made = float(value)
    except ValueError:
        made = math.nan
    if not math.isfinite(made):
        raise place.unexpected(value, "a number, or 'N/A'")
    return made


LAYOUT = Layout(
    name="UltraFeedback",
    keys=("instruction", "completions"),
    meaning=(
        "A ranking: the score of a completion is its `overall_score`; where not all have one, its "
        "`fine-grained_score`; else the mean of its ratings."
    ),
    convert=convert,
    fits=lambda row: isinstance(row["completions"], list),
    not_kept="the system prompt and the principle of each completion, its other scores, and what was written of it",
)
