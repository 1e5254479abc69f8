"""The weights of KTO's classes are checked against the range its authors advise."""

import pytest

from trueup.errors import InputError
from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.transforms.class_balance import HIGH, LOW, ClassBalance


def thumbs(up: int, down: int) -> list[Example]:
    return [Example("p", (Response("r", label=float(number < up)),)) for number in range(up + down)]


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
def test_the_range_is_from_1_to_4_3(up: int, down: int, weights: tuple[float, float], warned: bool) -> None:
    fitted = ClassBalance(*weights).fit(thumbs(up, down))
    assert bool(fitted.warnings) == warned
    assert fitted.lines == (f"labels: {up} desirable, {down} undesirable",)
    assert list(fitted.rewrite(thumbs(2, 1))) == thumbs(2, 1)


@pytest.mark.parametrize(
    "up, down, start", [(100, 10, (1.0, 1.0)), (10, 100, (1.0, 1.0)), (9, 70, (2.0, 0.5))]
)
def test_what_is_advised_lies_within_the_range(up: int, down: int, start: tuple[float, float]) -> None:
    (advice,) = ClassBalance(*start).fit(thumbs(up, down)).warnings
    name, numbers = advice.split("Set --")[1].split(" between ")
    low, high = (float(number) for number in numbers.split(" and "))
    for value in (low, high):
        weights = (start[0], value) if name == "undesirable-weight" else (value, start[1])
        ratio = weights[0] * up / (weights[1] * down)
        assert LOW - 0.01 <= ratio <= HIGH + 0.01


def test_pairs_count_as_one_of_each() -> None:
    pair = Example("p", (Response("a"), Response("b")), (Comparison(0, 1),))
    assert ClassBalance(1.0, 1.0).fit([pair]).lines == ("labels: 1 desirable, 1 undesirable",)


@pytest.mark.parametrize(
    "up, down, missing", [(3, 0, "no undesirable response"), (0, 3, "no desirable response")]
)
def test_one_class_alone_is_refused(up: int, down: int, missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        ClassBalance(1.0, 1.0).fit(thumbs(up, down))
