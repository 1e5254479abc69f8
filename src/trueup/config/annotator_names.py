"""Annotators by one name, as on the command line: `openai`, `reward:runs/rm/model`, `world:gold`, `rewards.py:brevity`.

A name stands for `annotator.kind` and the kind's main setting; what else the kind has is given beside it.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from trueup.config.layers import same
from trueup.errors import AnnotatorError, InputError
from trueup.model_folder import at_chance
from trueup.settings import annotator_settings
from trueup.settings.annotator_settings import JUDGES, KINDS, REWARD_FORMS, annotator_layer, annotators_in
from trueup.settings.run_settings import RunSettings
from trueup.settings.schema import Setting, settings_in
from trueup.words import as_given


def reward_layer(name: str) -> dict[str, Any]:
    """Return what `reward: NAME` stands for: an annotator that scores. A plain folder is a reward model's."""
    kind, colon, _ = name.partition(":")
    if kind in KINDS and KINDS[kind].gives == "comparisons":
        raise InputError(
            f"reward {as_given(name)} is refused, as it compares responses and gives no score; give {REWARD_FORMS}, or "
            "give it as annotator"
        )
    if (kind in KINDS and (colon or kind in KINDS[kind].about.forms)) or annotator_settings.is_function(name):
        return annotator_layer(name)
    if kind in KINDS or not name.strip() or name.endswith(".py") or ".py:" in name:
        raise InputError(f"reward {as_given(name)} is not known; give {REWARD_FORMS}")
    return {"kind": "reward", "model": name}


def judge_layer(name: str) -> dict[str, Any]:
    """Return what `judge: NAME` stands for: an annotator that compares."""
    made = annotator_layer(name)
    if KINDS[made["kind"]].gives == "scores":
        raise InputError(
            f"annotator {as_given(name)} is refused, as it scores responses and compares none; give {JUDGES}, or give "
            "it as reward"
        )
    return made


@contextmanager
def called(setting: str) -> Iterator[None]:
    """Have what is said of `annotator` within said of the setting that holds the annotator there."""
    try:
        yield
    except (InputError, AnnotatorError) as error:
        raise type(error)(re.sub(r"\bannotator(?=[. ])", setting, str(error))) from error


def expanded_apart(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer with what its `judge: NAME` and its `reward: NAME` stand for, which are two annotators."""
    rest = dict(layer)
    for setting, spelled in (("judge", judge_layer), ("reward", reward_layer)):
        name = rest.get(setting)
        if isinstance(name, str):
            del rest[setting]
            with called(setting):
                _put(rest, setting, f"{setting} {as_given(name)}", spelled(name))
    return rest


def expanded(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer of settings with what its `annotator: NAME`, `reward: NAME` and `eval_by: NAME` stand for."""
    rest = dict(layer)
    reward = rest.pop("reward", None)
    if reward is not None:
        beside = [name for name in rest if name.partition(".")[0] == "annotator"]
        if beside and (reward not in KINDS or "annotator" in rest):
            raise InputError(
                f"reward and {beside[0]} are both given, and a reward is short for an annotator that scores; give one"
            )
        if not isinstance(reward, str):
            raise InputError(f"reward must be {REWARD_FORMS}; got {as_given(reward)}")
        _put(rest, "annotator", f"reward {as_given(reward)}", reward_layer(reward))
    for setting in ("annotator", "eval_by"):
        if isinstance(name := rest.get(setting), str):
            del rest[setting]
            with called(setting):
                _put(rest, setting, f"{setting} {as_given(name)}", annotator_layer(name))
    return rest


def _put(layer: dict[str, Any], setting: str, name: str, made: Mapping[str, Any]) -> None:
    for key, value in made.items():
        path = f"{setting}.{key}"
        if path in layer and not same(layer[path], value):
            raise InputError(f"{name} and {path} {as_given(layer[path])} are both given and differ; give one")
        layer[path] = value


def run_settings() -> list[Setting]:
    """List every setting of a run that can be given, the short ones too."""
    found = settings_in(RunSettings)
    place = next(number for number, setting in enumerate(found) if setting.path == "annotator")
    about = f"An annotator that scores, by one name: {REWARD_FORMS}."
    reward = replace(found[place], path="reward", description=about)
    return [*found[: place + 1], reward, *found[place + 1 :]]


def weak_reward(settings: RunSettings) -> str:
    """See `at_chance`, of the reward model that a run asks; empty where it asks none."""
    if settings.annotator is None or settings.source == "replay":
        return ""
    every = annotators_in(settings.annotator).values()
    folders = [vars(one)[one.about.main] for one in every if one.about.weights == "reward model"]
    return next(filter(None, (at_chance(one, settings.watch.accuracy) for one in folders)), "")
