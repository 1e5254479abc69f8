"""What a run learns from: read before a model is loaded, and made into a source once it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trueup import display
from trueup.batch.encode import Encoder
from trueup.batch.tokens import TokenGroup, mismatched
from trueup.display import data_logger
from trueup.errors import InputError
from trueup.feedback.groups import Group
from trueup.feedback.records import Example
from trueup.feedback.viewed import apply
from trueup.methods.method import Method
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded
from trueup.models.reward import RewardModel
from trueup.references.reference import Reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import examples_named, overlap, split
from trueup.sources.source import Batching, OfflineSource, Source
from trueup.training.folder import RunFolder
from trueup.training.preprocess import Preprocessing, tokens_of
from trueup.training.step import needs_mismatched
from trueup.words import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The rest of a run, as far as its source may need it."""

    settings: RunSettings
    method: Method
    policy: CausalModel | RewardModel
    loaded: Loaded
    reference: Reference
    folder: RunFolder


@dataclass(frozen=True, slots=True)
class Data:
    """Examples of a run, or what they will be made of."""

    fingerprints: Mapping[str, str]
    """Source -> hash of its content."""
    source: Callable[[Parts], Source]
    """Makes the source.

    Raises:
        InputError: what was read does not suit the model; or as sampler and annotator raise it.
    """


def read_data(settings: RunSettings, method: Method) -> Data:
    """Read what a run's examples are, or will be made of, and say what it was taken for.

    Raises:
        InputError: it cannot be read, or the method cannot use it.
    """
    if settings.source == "offline" and not settings.prompts:
        examples = examples_named(settings.data, skip_bad=settings.skip_bad)
        viewed = view_all(settings, method, examples.examples)
        return Data({**examples.fingerprints, **viewed.fingerprints}, partial(offline_source, viewed))
    from trueup.training import rounds

    if settings.source == "online":
        return rounds.online(settings, method)
    if settings.source == "replay":
        return rounds.replay(settings, method)
    return rounds.collected(settings, method)


@dataclass(frozen=True, slots=True)
class Texts:
    """Groups of text to train and to evaluate on."""

    training: Sequence[Group[Any]]
    held_out: Sequence[Group[Any]]
    fingerprints: Mapping[str, str]
    """Of what was read for the evaluation alone."""
    preprocessing: Preprocessing


def view_all(settings: RunSettings, method: Method, examples: Sequence[Example]) -> Texts:
    """View examples as the method does, a part of them or other data held out, and say what became of them.

    Raises:
        InputError: they hold nothing the method can use; or the evaluation data cannot be read or used.
    """
    training, held_out = split(examples, settings.eval_fraction, settings.seed)
    fingerprints: Mapping[str, str] = {}
    if settings.eval_data:
        other = examples_named(settings.eval_data, skip_bad=settings.skip_bad)
        held_out, fingerprints = other.examples, other.fingerprints
        _check_overlap(training, held_out, allowed=settings.allow_overlap)
    preprocessing = Preprocessing.fit(method, settings, training)
    preprocessing.fitted.log()
    rewritten = preprocessing.rewrite(training, tell=True)
    for check in method.checks:
        check(rewritten)
    viewed = apply(method.view, rewritten)
    for line in viewed.lines():
        data_logger.info(line)
    return Texts(viewed.groups, view_held_out(preprocessing, held_out), fingerprints, preprocessing)


def view_held_out(preprocessing: Preprocessing, examples: Sequence[Example]) -> Sequence[Group[Any]]:
    """The groups to evaluate on, of examples that nothing is fitted to; and how many there are, told.

    Raises:
        InputError: none of them can be used.
    """
    if not examples:
        return ()
    rewritten = preprocessing.rewrite(examples)
    if not rewritten:
        raise InputError(
            f"evaluation data: none of the {len(examples)} examples holds the rewards that the training data was "
            "measured by. Give evaluation data of the same kind"
        )
    try:
        viewed = apply(preprocessing.method.view, rewritten)
    except InputError as error:
        raise InputError(f"evaluation data: {error}") from error
    made = f", {viewed.responses} responses" if len(rewritten) != len(examples) else ""
    used = len(viewed.groups) if len(rewritten) == len(examples) else len(examples)
    data_logger.info(f"evaluation on {used} of {len(examples)} held-out examples{made}")
    return viewed.groups


def offline_source(texts: Texts, parts: Parts) -> OfflineSource:
    """Turn groups into tokens and lay out the run's batches.

    Raises:
        InputError: a group cannot be expressed by the tokenizer, or none is left within the limits.
    """
    settings, method, preprocessing = parts.settings, parts.method, texts.preprocessing
    encoder = preprocessing.encoder(parts.loaded)
    if encoder.condition is not None:
        data_logger.info(f"every prompt is asked as the model was trained: {encoder.condition.words()!r}")
    groups = tokens_of(display.track(texts.training, "tokenizing"), encoder, what="training")
    held_out = tokens_of(texts.held_out, encoder, what="evaluation") if texts.held_out else []
    if needs_mismatched(method):
        for part, what in ((groups, "training"), (held_out, "evaluation")):
            _check_prompts_differ(part, what)
    epochs = settings.epochs if settings.epochs is not None else 1.0
    return OfflineSource(
        groups=groups,
        held_out_groups=held_out,
        batching=batching_of(settings, method, encoder),
        batch_size=settings.batch_size,
        seed=settings.seed,
        total=settings.steps * settings.batch_size if settings.steps else max(1, round(epochs * len(groups))),
        stratum=method.stratum,
        condition=preprocessing.fitted.condition or parts.loaded.condition,
    )


def batching_of(settings: RunSettings, method: Method, encoder: Encoder) -> Batching:
    """How steps are cut into micro-batches, with mismatched groups where the method measures something on them."""
    pairing = partial(mismatched, max_length=encoder.limits.max_length) if needs_mismatched(method) else None
    return Batching(method.collate, settings.micro_batch_tokens, pairing)


def _check_prompts_differ(groups: Sequence[TokenGroup[Any]], what: str) -> None:
    """Refuse data in which no prompt can be paired with a response to another one."""
    if groups and len({group.prompt.tobytes() for group in groups}) < 2:
        raise InputError(
            f"the {what} data holds one prompt only, but this method measures how likely responses to other prompts "
            "are. Give feedback on at least two prompts, or choose a method that does without (`trueup methods`)"
        )


def _check_overlap(training: Sequence[Example], held_out: Sequence[Example], *, allowed: bool) -> None:
    """Refuse evaluation prompts that are also trained on, or warn of them if that is allowed."""
    shared = overlap(training, held_out)
    if not shared:
        return
    where = listed([str(example.origin) for example in shared if example.origin])
    found = f"{len(shared)} of {len(held_out)} evaluation examples have a prompt that is also trained on ({where})"
    if not allowed:
        raise InputError(
            f"{found}; what is measured on them says little of new prompts. Leave them out of one side, or allow it "
            "with --allow-overlap"
        )
    logger.warning(f"{found}; what is measured on them says little of new prompts")
