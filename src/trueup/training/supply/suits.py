"""Whether a method can use what an annotator gives; found out before anything is sampled or paid for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trueup.errors import InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.transforms.transform import fit_all
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings

SCORES = ((1.0, 0.0), (0.5, 0.25), (1e6, -1e6))
"""Two responses may be scored on whatever scale; one that is read at all is enough."""


def check_suits(settings: RunSettings, method: Method[Any, Any, Any]) -> None:
    """Try the method out on an example as the run's annotator would judge it.

    Raises:
        InputError: it would leave out every example of the kind.
    """
    if settings.annotator is None:
        return
    reasons = [_reason(example, method) for example in _tried(settings.annotator.gives)]
    if all(reasons):
        raise InputError(
            f"annotator {settings.annotator.kind} gives {settings.annotator.gives}, and method {method.name} as it is "
            f"set can use none of them: {reasons[0]}"
        )


def _tried(gives: str) -> Iterator[Example]:
    if gives == "comparisons":
        yield Example("a", (Response("b"), Response("c")), (Comparison(0, 1, 0.9),))
        return
    for better, worse in SCORES:
        yield Example("a", (Response("b", score=better), Response("c", score=worse)))


def _reason(example: Example, method: Method[Any, Any, Any]) -> str | None:
    """Why the example is left out; None where it is used, or that depends on what other examples say."""
    try:
        rewritten = fit_all(method.transforms, [example]).rewrite([example])
    except InputError:
        return None
    viewed = [method.view(one) for one in rewritten]
    reasons = [one.reason for one in viewed if isinstance(one, Discarded)]
    return reasons[0] if reasons and len(reasons) == len(viewed) else None
