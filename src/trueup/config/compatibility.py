"""Whether a method can learn from what a run reads or gathers; found out before anything is sampled or paid for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from trueup.config.layers import flatten, nest
from trueup.errors import InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Comparison, Example, Prompt, Response
from trueup.feedback.transforms.transform import fit_all
from trueup.methods.method import Method, MethodInfo
from trueup.references.choices import Cached
from trueup.settings.annotator_settings import REWARD_FORMS
from trueup.settings.run_settings import RunSettings
from trueup.settings.sampler_settings import SamplerSettings

INSTEAD = {
    "offline": "give source offline with data",
    "online": "give source online with prompts and an annotator or a reward",
    "replay": "source replay with the examples.jsonl of an online run as data",
}
SCORES = ((1.0, 0.0), (0.5, 0.25), (1e6, -1e6))
"""Two responses may be scored on whatever scale; one that is read at all is enough."""


def gives_nothing(values: Mapping[str, Any]) -> bool:
    """Whether the settings of a run name neither feedback nor a way to gather it."""
    return values.get("source", "offline") == "offline" and not (values.get("data") or values.get("prompts"))


def refuse_source(info: MethodInfo, source: object) -> None:
    """Refuse a source of examples that a method cannot learn from.

    Raises:
        InputError: with the sources it can, and what each needs.
    """
    if not isinstance(source, str) or source not in INSTEAD or source in info.sources:
        return  # a word that is no source at all is refused where settings are typed
    learns = "feedback gathered beforehand" if "offline" in info.sources else "responses it samples itself"
    instead = ", or ".join(INSTEAD[one] for one in info.sources)
    raise InputError(f"source {source} is refused, as method {info.name} learns from {learns}: {instead}")


def refuse_misfit(info: MethodInfo, method_settings: BaseModel, settings: RunSettings) -> None:
    """Refuse a run whose parts do not fit each other, as far as its settings tell.

    Raises:
        InputError: with what to give instead.
    """
    if settings.reward_kl and "kl_coef" in type(method_settings).model_fields:
        raise InputError(
            f"reward_kl {settings.reward_kl:g} is refused, as method {info.name} has such a penalty of its own: give "
            "kl_coef instead"
        )
    if settings.source != "offline":
        _refuse_what_needs_all(info, method_settings, settings.source)
    if settings.source == "online" or (settings.prompts and settings.source == "offline"):
        _refuse_gathering(info, settings)
    elif settings.source == "offline":
        _refuse_unused(info, settings)


def _refuse_what_needs_all(info: MethodInfo, method_settings: BaseModel, source: str) -> None:
    if isinstance(getattr(method_settings, "reference", None), Cached):
        raise InputError(
            f"reference.kind cached is refused when source is {source}: it is computed for all of the data before "
            "training; take reference.kind frozen"
        )
    if measured := info.measures(method_settings):
        what, _, instead = measured.partition("; ")
        raise InputError(
            f"method {info.name} measures {what} before training, and source {source} has no examples then: {instead}"
        )


def _refuse_gathering(info: MethodInfo, settings: RunSettings) -> None:
    assert settings.annotator is not None  # the settings themselves see to that
    kind, compares = settings.annotator.kind, settings.annotator.gives == "comparisons"
    if info.needs_scores and compares:
        raise InputError(
            f"annotator {kind} compares responses, and method {info.name} needs their scores: give as reward "
            f"{REWARD_FORMS}"
        )
    sampler = settings.sampler
    if sampler.models and "offline" not in info.sources:
        raise InputError(
            f"sampler.models is refused, as method {info.name} learns from what its own policy samples; leave it out"
        )
    responses = sampler.responses * (1 + len(sampler.models))
    if responses < info.least_responses:
        raise InputError(
            f"method {info.name} needs at least {info.least_responses} responses to each prompt, and sampler.responses "
            f"is {sampler.responses}; give more"
        )
    if compares and responses < 2:
        raise InputError(
            f"annotator {kind} compares responses, and sampler.responses is {sampler.responses}; give at least 2"
        )


def _refuse_unused(info: MethodInfo, settings: RunSettings) -> None:
    of_method = nest(flatten(info.defaults)).get("sampler", {})
    default = SamplerSettings(**of_method)
    changed = [
        f"sampler.{name}"
        for name in SamplerSettings.model_fields
        if getattr(settings.sampler, name) != getattr(default, name)
    ]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: nothing is sampled, as data is all that is given; give prompts and an annotator, "
            "or leave it out"
        )


def refuse_annotator(settings: RunSettings, method: Method[Any, Any, Any]) -> None:
    """Refuse an annotator of whose judgements the method can use none, tried out on an example.

    Raises:
        InputError: it would leave out every example of the kind.
    """
    if settings.annotator is None:
        return
    reasons = [_reason(example, method) for example in as_judged(settings.annotator.gives)]
    if all(reasons):
        raise InputError(
            f"annotator {settings.annotator.kind} gives {settings.annotator.gives}, and method {method.name} as it is "
            f"set can use none of them: {reasons[0]}"
        )


def as_judged(gives: str) -> Iterator[Example]:
    """Examples as an annotator that gives scores or comparisons would judge them, on several scales."""
    if gives == "comparisons":
        yield Example(Prompt("a"), (Response("b"), Response("c")), (Comparison(0, 1, 0.9),))
        return
    for better, worse in SCORES:
        yield Example(Prompt("a"), (Response("b", score=better), Response("c", score=worse)))


def _reason(example: Example, method: Method[Any, Any, Any]) -> str | None:
    """Why the example is left out; None where it is used, or that depends on what other examples say."""
    try:
        rewritten = fit_all(method.transforms, [example]).rewrite([example])
    except InputError:
        return None
    viewed = [method.view(one) for one in rewritten]
    reasons = [one.reason for one in viewed if isinstance(one, Discarded)]
    return reasons[0] if reasons and len(reasons) == len(viewed) else None
