"""Scores become labels only as the user says: thumbs from a threshold on, grades on a scale; so do demonstrations.

Labels are checked together: those of one class are named with their number, and KTO's weights against its advice.
"""

import logging
import math
from typing import Any

import pytest
from support.refusals import refused

from trueup.feedback.labels import HIGH, LOW, GradedLabels, Thumbs, check_class_balance, check_classes
from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response


def scored(*values: float | None, **more: Any) -> Example:
    responses = tuple(Response(f"r{at}", score=value, **more) for at, value in enumerate(values))
    return Example(Prompt("p", origin=Origin("a.jsonl", 3)), responses)


def labels(transform: GradedLabels, training: Example, given: Example | None = None) -> list[float | None]:
    (made,) = transform.fit([training]).rewrite([given or training])
    return [response.label for response in made.responses]


def test_scores_are_left_alone_unless_told_otherwise() -> None:
    assert labels(GradedLabels(), scored(1.0, 2.0)) == [None, None]


def test_min_max_is_measured_on_training_and_clips_what_is_held_out() -> None:
    training = scored(1.0, 3.0, 5.0, None)
    assert labels(GradedLabels("min-max"), training) == [0.0, 0.5, 1.0, None]
    assert labels(GradedLabels("min-max"), training, scored(0.0, 2.0, 9.0)) == [0.0, 0.25, 1.0]
    assert GradedLabels("min-max").fit([training]).found == ("labels: scores of 3 responses, 1 is 0 and 5 is 1",)


def test_a_range_is_taken_at_its_word() -> None:
    """A Likert scale from 0 to 4, on which no row has a 0."""
    assert labels(GradedLabels("range", 0.0, 4.0), scored(1.0, 4.0)) == [0.25, 1.0]
    message = r"a.jsonl:3: the score 5 lies outside the range of scores, 0 to 4. Give another --score-low"
    with refused(message):
        labels(GradedLabels("range", 0.0, 4.0), scored(1.0, 5.0))


def test_sigmoid_of_the_standardised_score() -> None:
    expected = [1 / (1 + math.exp(1 / 2**0.5)), 1 / (1 + math.exp(-1 / 2**0.5))]
    assert labels(GradedLabels("sigmoid"), scored(10.0, 30.0)) == pytest.approx(expected)
    assert labels(GradedLabels("sigmoid"), scored(10.0, 30.0), scored(-1e6, 1e6)) == [0.0, 1.0]


def test_a_label_that_is_there_is_kept() -> None:
    example = Example(Prompt("p"), (Response("a", score=9.0, label=0.3), Response("b", score=1.0)))
    assert labels(GradedLabels("min-max"), example) == [0.3, 0.0]


def test_demonstrations_are_those_marked_and_those_labelled_so_much() -> None:
    example = Example(
        Prompt("p"),
        (
            Response("a", label=1.0), Response("b", label=0.8), Response("c", label=0.2, demonstration=True),
            Response("d", score=5.0), Response("e", score=0.0),
        ),
    )  # fmt: skip

    def marked(transform: GradedLabels) -> list[bool]:
        (made,) = transform.fit([example]).rewrite([example])
        return [response.demonstration for response in made.responses]

    assert marked(GradedLabels()) == [False, False, True, False, False]
    assert marked(GradedLabels(demonstration_from=0.8)) == [True, True, True, False, False]
    assert marked(GradedLabels("min-max", demonstration_from=1.0)) == [True, False, True, True, False]
    fitted = GradedLabels(demonstration_from=0.8).fit([example])
    assert fitted.found == ("demonstrations: 2 responses labelled 0.8 or more, beside 1 marked",)


@pytest.mark.parametrize(
    "settings, message",
    [
        (("range", 1.0, None), "scale range with score_low 1.0 and score_high None"),
        (("min-max", 0.0, 1.0), "scale range needs both"),
        (("range", 2.0, 1.0), "score_low 2 must be below score_high 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Any, message: str) -> None:
    with refused(message):
        GradedLabels(*settings)


def test_data_that_cannot_be_scaled_is_refused() -> None:
    with refused("scale min-max: the feedback holds no scores"):
        labels(GradedLabels("min-max"), Example(Prompt("p"), (Response("a", label=1.0),)))


def test_pairs_are_labelled_where_it_decides_who_is_a_demonstration() -> None:
    """As the view of points labels them; a response both chosen and rejected stays without."""
    responses = (Response("a"), Response("b"), Response("c"))
    example = Example(Prompt("p"), responses, (Comparison(0, 1), Comparison(1, 2, 0.8)))

    def judged(transform: GradedLabels) -> list[tuple[float | None, bool]]:
        (made,) = transform.fit([example]).rewrite([example])
        return [(response.label, response.demonstration) for response in made.responses]

    assert judged(GradedLabels(demonstration_from=1.0)) == [
        (1.0, True), (None, False), (pytest.approx(0.2), False),
    ]  # fmt: skip
    assert judged(GradedLabels()) == [(None, False)] * 3
    fitted = GradedLabels(demonstration_from=1.0).fit([example])
    assert fitted.found == ("demonstrations: 1 response labelled 1 or more, beside 0 marked",)


SCORED = Example(Prompt("p"), (Response("a", score=0.2), Response("b", score=0.5), Response("c", score=0.7)))
JUDGED = Example(
    Prompt("q"),
    (Response("d", score=0.9, label=0.25, source="s"), Response("e", score=-3.0, demonstration=True), Response("f")),
    (Comparison(0, 1),),
)


def labels_of(example: Example) -> list[float | None]:
    return [one.label for one in example.responses]


@pytest.mark.parametrize(
    ("threshold", "expected", "said"),
    [
        (0.7, [0.0, 0.0, 1.0], "labels: 1 score of 4 from 0.7 on are desirable"),
        (0.75, [0.0, 0.0, 0.0], "labels: 0 scores of 4 from 0.75 on are desirable"),
    ],
)
def test_from_the_threshold_on_it_is_a_thumb_up(threshold: float, expected: list[float], said: str) -> None:
    fitted = Thumbs(threshold).fit([SCORED, JUDGED])
    assert labels_of(fitted.rewrite([SCORED])[0]) == expected
    assert fitted.found == (said,)
    assert fitted.warnings == ()


def test_what_is_said_already_stays() -> None:
    (made,) = Thumbs(0.5).fit([SCORED]).rewrite([JUDGED])
    assert labels_of(made) == [0.25, 0.0, None]
    assert made.comparisons == JUDGED.comparisons
    assert [(one.content, one.score, one.demonstration, one.source) for one in made.responses] == [
        (one.content, one.score, one.demonstration, one.source) for one in JUDGED.responses
    ]


def test_without_a_threshold_nothing_is_made() -> None:
    fitted = Thumbs(None).fit([SCORED, JUDGED])
    assert list(fitted.rewrite([SCORED, JUDGED])) == [SCORED, JUDGED]
    assert fitted.found == ()


@pytest.mark.parametrize("examples", [[], [Example(Prompt("p"), (Response("a", label=1.0, score=2.0), Response("b")))]])
def test_without_scores_to_label_it_is_refused(examples: list[Example]) -> None:
    message = (
        r"^desirable_from 0\.5: the feedback holds no scores without a label\. "
        "Leave it out$"
    )
    with refused(message):
        Thumbs(0.5).fit(examples)


def labelled(*labels: float | None, demonstration: bool = False) -> Example:
    responses = (Response(str(at), label=one, demonstration=demonstration) for at, one in enumerate(labels))
    return Example(Prompt("p"), tuple(responses))


def thumbs(up: int, down: int) -> list[Example]:
    return [labelled(float(number < up)) for number in range(up + down)]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


PAIR = Example(Prompt("p"), (Response("a"), Response("b")), (Comparison(0, 1),))
UNLABELLED = Example(Prompt("p"), (Response("a", score=1.0),))


class TestClassBalance:
    @pytest.mark.parametrize(
        "up, down, weights, warned",
        [
            (3, 3, (1.0, 1.0), False), (4, 3, (1.0, 1.0), False), (5, 3, (1.0, 1.0), True),
            (3, 4, (1.0, 1.0), True), (499, 500, (1.0, 1.0), False), (7, 8, (1.0, 1.0), True),
            (14, 10, (1.0, 1.0), False), (3, 4, (4 / 3, 1.0), False), (100, 10, (1.0, 8.0), False),
        ],
    )  # fmt: skip
    def test_the_range_is_from_1_to_4_3(
        self, up: int, down: int, weights: tuple[float, float], warned: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        check_class_balance(thumbs(up, down), desirable_weight=weights[0], undesirable_weight=weights[1])
        said, *advice = caplog.messages
        assert said == f"labels: {up} desirable, {down} undesirable"
        assert bool(advice) == warned

    @pytest.mark.parametrize("up, down, start", [(100, 10, (1.0, 1.0)), (10, 100, (1.0, 1.0)), (9, 70, (2.0, 0.5))])
    def test_what_is_advised_lies_within_the_range(
        self, up: int, down: int, start: tuple[float, float], caplog: pytest.LogCaptureFixture
    ) -> None:
        check_class_balance(thumbs(up, down), desirable_weight=start[0], undesirable_weight=start[1])
        name, numbers = caplog.messages[-1].split("Set --")[1].split(" between ")
        low, high = (float(number) for number in numbers.split(" and "))
        for value in (low, high):
            weights = (start[0], value) if name == "undesirable-weight" else (value, start[1])
            ratio = weights[0] * up / (weights[1] * down)
            assert LOW - 0.01 <= ratio <= HIGH + 0.01

    def test_pairs_count_as_one_of_each(self, caplog: pytest.LogCaptureFixture) -> None:
        check_class_balance([PAIR], desirable_weight=1.0, undesirable_weight=1.0)
        assert caplog.messages == ["labels: 1 desirable, 1 undesirable"]


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([labelled(1), labelled(1, 1)], "all 3 labels are 1, which teaches"),
        ([labelled(0, 0)], "all 2 labels are 0, which teaches"),
        ([labelled(1), labelled(None, demonstration=True)], "all 2 labels are 1, which teaches"),
        ([labelled(1), UNLABELLED], "all 1 labels are 1, which teaches"),
        ([labelled(1, 0)], ""),
        ([labelled(0.25, 0.5)], ""),
        ([labelled(0), labelled(None, demonstration=True)], ""),
        ([PAIR], ""),
        ([UNLABELLED], ""),
        ([], ""),
    ],
)
def test_one_class_is_a_warning(examples: list[Example], said: str, caplog: pytest.LogCaptureFixture) -> None:
    check_classes(examples)
    warning = " little. Give both kinds"
    assert caplog.messages == ([said + warning] if said else [])
