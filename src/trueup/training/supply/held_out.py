"""Held-out feedback of a run that gathers its own to train on."""

from __future__ import annotations

from typing import Any

from trueup.errors import InputError
from trueup.feedback.groups import Group
from trueup.feedback.transforms.transform import fit_all
from trueup.feedback.viewed import apply
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.sources.gather import gather


def held_out_groups(
    settings: RunSettings, method: Method[Any, Any, Any]
) -> tuple[tuple[Group[Any], ...], dict[str, str], list[str]]:
    """The evaluation groups, fingerprints of their files, and lines for people; nothing where none are asked for.

    Raises:
        InputError: the data cannot be read, or the method cannot evaluate on it.
    """
    if not settings.eval_data:
        return (), {}, []
    if method.rollout is not None:
        raise InputError(
            f"eval_data: method {method.name} learns from responses of its own, and has nothing to measure on others. "
            "Leave it out; online/score and objective/kl say how the run goes"
        )
    read = gather(settings.eval_data, skip_bad=settings.skip_bad)
    try:
        viewed = apply(method.view, fit_all(method.transforms, read.examples).rewrite(read.examples))
    except InputError as error:
        raise InputError(f"evaluation data: {error}") from error
    line = f"evaluation on {len(viewed.groups)} of {len(read.examples)} held-out examples"
    return viewed.groups, dict(read.fingerprints), [*read.lines, line]
