"""Sampler and annotator of a run, and its prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trueup.batch.encode import Encoder
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.feedback.canonical import prompt_parts
from trueup.feedback.prompts import Prompts
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.sampling.build import make_sampler
from trueup.settings.run_settings import RunSettings
from trueup.sources.annotator import make_annotator
from trueup.sources.gatherer import Gatherer, Penalise
from trueup.sources.prompts import gather_prompts
from trueup.training.supply.supply import Context


def read_run_prompts(settings: RunSettings) -> tuple[Prompts, Mapping[str, str]]:
    """The run's prompts, and a hash of them.

    Raises:
        InputError: a file cannot be read.
    """
    read = gather_prompts(settings.prompts)
    digest = hashlib.sha256()
    for prompt in read.prompts:
        content, _, *more = prompt_parts(prompt)
        digest.update(json.dumps([content, repr(prompt.tools), *more]).encode())
    return read, {", ".join(settings.prompts): digest.hexdigest()}


def make_gatherer(context: Context, encoder: Encoder, penalise: Penalise | None = None) -> Gatherer:
    """Load what samples and judges.

    Raises:
        InputError: a model of theirs cannot be loaded, or a file is not what it should be.
        CheckpointError: what earlier sittings of the run spent cannot be read.
    """
    settings, policy = context.settings, context.policy
    assert settings.annotator is not None and isinstance(policy, CausalModel)
    annotator = make_annotator(
        settings.annotator, seed=settings.seed, device=settings.device,
        trust_remote_code=settings.trust_remote_code, spent=context.folder.spent,
    )  # fmt: skip
    sampler = make_sampler(
        settings.sampler, policy, encoder, name=settings.run_name or settings.model,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip
    distinct = context.method.rollout is None
    return Gatherer(sampler, annotator, settings.sampler.responses, settings.seed, distinct, penalise)


def asked(
    prompts: Sequence[Prompt], encoder: Encoder
) -> tuple[list[Prompt], list[TokenGroup[Any]], list[str]]:
    """The prompts that leave room for a response, as token groups whose response is its end alone; and lines.

    Raises:
        InputError: a prompt cannot be expressed, or none leaves room.
    """
    kept: list[Prompt] = []
    groups: list[TokenGroup[Any]] = []
    end = TokenRow(np.array(encoder.end_ids[:1], np.int32), np.ones(1, np.bool_))
    for prompt in prompts:
        try:
            ids = encoder.asked_ids(prompt)
        except InputError as error:
            raise InputError(f"{prompt.origin}: {error}" if prompt.origin else str(error)) from error
        if 0 < len(ids) < encoder.limits.max_length:
            kept.append(prompt)
            groups.append(TokenGroup(np.array(ids, np.int32), (end,), None, prompt.origin))
    lost = len(prompts) - len(kept)
    if not kept:
        raise InputError(
            f"none of the {lost} prompts leaves room for a response within max_length {encoder.limits.max_length}. "
            "Raise --max-length, or set --max-prompt-length so that long prompts lose their beginning"
        )
    lines = [f"prompts left out: {lost}, as long as max_length {encoder.limits.max_length}"] if lost else []
    return kept, groups, lines
