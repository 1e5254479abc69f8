"""Labels are checked together: those of one class are named with their number, and KTO's weights against its advice."""

import logging

import pytest

from trueup.errors import InputError
from trueup.feedback.label_checks import HIGH, LOW, check_class_balance, check_classes
from trueup.feedback.records import Comparison, Example, Prompt, Response


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
            (3, 3, (1.0, 1.0), False),
            (4, 3, (1.0, 1.0), False),
            (5, 3, (1.0, 1.0), True),
            (3, 4, (1.0, 1.0), True),
            (3, 4, (4 / 3, 1.0), False),
            (100, 10, (1.0, 8.0), False),
        ],
    )
    def test_the_range_is_from_1_to_4_3(
        self, up: int, down: int, weights: tuple[float, float], warned: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        check_class_balance(thumbs(up, down), desirable_weight=weights[0], undesirable_weight=weights[1])
        said, *advice = caplog.messages
        assert said == f"labels: {up} desirable, {down} undesirable"
        assert bool(advice) == warned

    @pytest.mark.parametrize(
        "up, down, start", [(100, 10, (1.0, 1.0)), (10, 100, (1.0, 1.0)), (9, 70, (2.0, 0.5))]
    )
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
        "up, down, missing", [(3, 0, "no undesirable response"), (0, 3, "no desirable response")]
    )
    def test_one_class_alone_is_refused(self, up: int, down: int, missing: str) -> None:
        with pytest.raises(InputError, match=missing):
            check_class_balance(thumbs(up, down), desirable_weight=1.0, undesirable_weight=1.0)


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([labelled(1), labelled(1, 1)], "all 3 labels are 1, "),
        ([labelled(0, 0)], "all 2 labels are 0, "),
        ([labelled(0.5), labelled(0.5)], "all 2 labels are 0.5, "),
        ([labelled(1), labelled(None, demonstration=True)], "all 2 labels are 1, "),
        ([labelled(1), UNLABELLED], "all 1 labels are 1, "),
        ([labelled(1, 0)], ""),
        ([labelled(1), labelled(0)], ""),
        ([labelled(0.25, 0.5)], ""),
        ([labelled(0), labelled(None, demonstration=True)], ""),
        ([PAIR], ""),
        ([UNLABELLED], ""),
        ([], ""),
    ],
)
def test_one_class_is_a_warning(examples: list[Example], said: str, caplog: pytest.LogCaptureFixture) -> None:
    check_classes(examples)
    warning = "so that nothing tells desirable responses from undesirable ones. Give feedback of both kinds"
    assert caplog.messages == ([said + warning] if said else [])
