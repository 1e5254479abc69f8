"""HelpSteer and HelpSteer2: ratings, and preferences. Wang et al., 2024, https://arxiv.org/abs/2410.01257.

    {"prompt": "c#", "response": "A language.", "helpfulness": 3, "correctness": 4, ...}
    {"prompt": "c#", "response_1": "A language.", "response_2": "A note.", "preference_strength": -2, ...}

A prompt of several turns is one text, `Hi\\n<extra_id_1>Assistant\\nHello\\n<extra_id_1>User\\nName a fruit.`.
"""

import re

from trueup.feedback.fields import Place, number, text
from trueup.feedback.layouts.data_sets.exchange import answer, judged, whole
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Message, Origin, Response

TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
SIDES = ("response_1", "response_2")


def conversation(row: RowValue, place: Place) -> tuple[Message, ...]:
    """The prompt as turns; the first and the last are the user's."""
    given = text(row["prompt"], place.key("prompt"))
    first, *later = TURN.split(given)
    turns = [Message("user", first)]
    turns += [Message(role.lower(), said) for role, said in zip(later[::2], later[1::2], strict=True)]
    if turns[-1].role != "user":
        raise place.key("prompt").fault("the last turn is the assistant's, expected one of the user")
    return tuple(turns)


def rated(row: RowValue, origin: Origin) -> Example:
    """A response with its helpfulness."""
    place = Place(origin)
    content = answer(text(row["response"], place.key("response")))
    score = number(row["helpfulness"], place.key("helpfulness"))
    return Example(conversation(row, place), (Response(content, score=score),), origin=origin)


def preferred(row: RowValue, origin: Origin) -> Example | Unusable:
    """Two responses, one of them preferred."""
    place = Place(origin)
    one, other = (Response(answer(text(row[key], place.key(key)))) for key in SIDES)
    better = side(row["preference_strength"], place.key("preference_strength"))
    return judged(conversation(row, place), (one, other), better, origin)


def side(value: object, place: Place) -> int | None:
    """The position of the preferred response: below 0 the first, above 0 the second; None at 0."""
    strength = whole(value, place, -3, 3)
    return None if strength == 0 else int(strength > 0)


RATINGS = Layout(
    name="HelpSteer",
    keys=("prompt", "response", "helpfulness"),
    foreign=("chosen", "rejected"),
    meaning="A response with a score: its `helpfulness`; the ratings of other aspects are not kept.",
    convert=rated,
)

PREFERENCES = Layout(
    name="HelpSteer2 preferences",
    keys=("prompt", *SIDES, "preference_strength"),
    foreign=("chosen", "rejected"),
    meaning="A pair: -3 to -1 prefer `response_1`, 1 to 3 `response_2`, 0 is a tie; how strongly is not kept.",
    convert=preferred,
)
