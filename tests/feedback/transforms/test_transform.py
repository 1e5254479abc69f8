"""What a transform says of itself holds: one that does not rewrite leaves every example as it is."""

import importlib
import inspect
import pkgutil

import pytest

import trueup.feedback.transforms
from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.transforms.class_balance import ClassBalance
from trueup.feedback.transforms.one_class import OneClass
from trueup.feedback.transforms.transform import Transform

ONLY_LOOK: list[Transform] = [ClassBalance(1.0, 1.5), OneClass()]
TOLD = Example("p", (Response("a", score=0.2, label=1.0), Response("b", score=0.5, label=0.0)))
UNTOLD = Example("q", (Response("c", demonstration=True), Response("d", score=1.0)), (Comparison(0, 1),))


def transforms() -> dict[str, type]:
    """Every class under `trueup.feedback.transforms` that can be fitted."""
    found = {}
    for file in pkgutil.iter_modules(trueup.feedback.transforms.__path__):
        module = importlib.import_module(f"trueup.feedback.transforms.{file.name}")
        for name, one in inspect.getmembers(module, inspect.isclass):
            if one.__module__ == module.__name__ and hasattr(one, "fit") and one is not Transform:
                found[name] = one
    return found


def test_none_that_only_looks_is_missing() -> None:
    made = transforms()
    assert len(made) >= 8
    assert all(isinstance(one.rewrites, bool) for one in made.values())
    assert {one for one in made.values() if not one.rewrites} == {type(one) for one in ONLY_LOOK}


@pytest.mark.parametrize("transform", ONLY_LOOK, ids=lambda one: type(one).__name__)
def test_one_that_only_looks_leaves_examples_as_they_are(transform: Transform) -> None:
    fitted = transform.fit([TOLD, UNTOLD])
    for given in ([TOLD, UNTOLD], [UNTOLD], [TOLD], []):
        assert list(fitted.rewrite(given)) == given
    assert fitted.condition is None
