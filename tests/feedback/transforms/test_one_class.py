"""Labels of one class are found, and named with their number, wherever they come from."""

import pytest

from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.transforms.one_class import OneClass


def labelled(*labels: float | None, demonstration: bool = False) -> Example:
    responses = (Response(str(at), label=one, demonstration=demonstration) for at, one in enumerate(labels))
    return Example("p", tuple(responses))


PAIR = Example("p", (Response("a"), Response("b")), (Comparison(0, 1),))
UNLABELLED = Example("p", (Response("a", score=1.0),))
WARNING = "so that nothing tells desirable responses from undesirable ones. Give feedback of both kinds"


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([labelled(1), labelled(1, 1)], "all 3 labels are 1, "),
        ([labelled(0, 0)], "all 2 labels are 0, "),
        ([labelled(0.5), labelled(0.5)], "all 2 labels are 0.5, "),
        ([labelled(1), labelled(None, demonstration=True)], "all 2 labels are 1, "),
        ([labelled(1), UNLABELLED], "all 1 labels are 1, "),
    ],
)
def test_one_class_is_a_warning(examples: list[Example], said: str) -> None:
    fitted = OneClass().fit(examples)
    assert fitted.warnings == (said + WARNING,)
    assert fitted.rewrite(examples) == examples


@pytest.mark.parametrize(
    "examples",
    [
        [labelled(1, 0)],
        [labelled(1), labelled(0)],
        [labelled(0.25, 0.5)],
        [labelled(0), labelled(None, demonstration=True)],
        [PAIR],
        [UNLABELLED],
        [],
    ],
)
def test_two_classes_or_none_need_no_word(examples: list[Example]) -> None:
    fitted = OneClass().fit(examples)
    assert fitted.warnings == () and fitted.lines == ()
    assert fitted.rewrite(examples) == examples
