"""Scores become labels at a threshold, and only where nobody gave one."""

import pytest

from trueup.errors import InputError
from trueup.feedback.records import Comparison, Example, Prompt, Response
from trueup.feedback.transforms.graded_labels import Thumbs

SCORED = Example(Prompt("p"), (Response("a", score=0.2), Response("b", score=0.5), Response("c", score=0.7)))
JUDGED = Example(
    Prompt("q"),
    (
        Response("d", score=0.9, label=0.25, source="s"),
        Response("e", score=-3.0, demonstration=True),
        Response("f"),
    ),
    (Comparison(0, 1),),
)


def labels(example: Example) -> list[float | None]:
    return [one.label for one in example.responses]


@pytest.mark.parametrize(
    ("threshold", "expected", "said"),
    [
        (0.5, [0.0, 1.0, 1.0], "labels: 2 scores of 4 from 0.5 on are desirable"),
        (0.7, [0.0, 0.0, 1.0], "labels: 1 score of 4 from 0.7 on are desirable"),
        (0.75, [0.0, 0.0, 0.0], "labels: 0 scores of 4 from 0.75 on are desirable"),
        (-2.0, [1.0, 1.0, 1.0], "labels: 3 scores of 4 from -2 on are desirable"),
    ],
)
def test_from_the_threshold_on_it_is_a_thumb_up(threshold: float, expected: list[float], said: str) -> None:
    fitted = Thumbs(threshold).fit([SCORED, JUDGED])
    assert labels(fitted.rewrite([SCORED])[0]) == expected
    assert fitted.found == (said,)
    assert fitted.warnings == ()


def test_what_is_said_already_stays() -> None:
    (made,) = Thumbs(0.5).fit([SCORED]).rewrite([JUDGED])
    assert labels(made) == [0.25, 0.0, None]
    assert made.comparisons == JUDGED.comparisons
    assert [(one.content, one.score, one.demonstration, one.source) for one in made.responses] == [
        (one.content, one.score, one.demonstration, one.source) for one in JUDGED.responses
    ]


def test_without_a_threshold_nothing_is_made() -> None:
    fitted = Thumbs(None).fit([SCORED, JUDGED])
    assert list(fitted.rewrite([SCORED, JUDGED])) == [SCORED, JUDGED]
    assert fitted.found == ()


@pytest.mark.parametrize(
    "examples", [[], [Example(Prompt("p"), (Response("a", label=1.0, score=2.0), Response("b")))]]
)
def test_without_scores_to_label_it_is_refused(examples: list[Example]) -> None:
    message = (
        r"^desirable_from 0\.5 makes labels of scores, but the feedback holds no scores without a label\. "
        "Leave --desirable-from out$"
    )
    with pytest.raises(InputError, match=message):
        Thumbs(0.5).fit(examples)
