"""Feedback that a run gathers: all of it before training, round by round, or again from the log of a run that did.
Gathered in one go: the pipeline of Hu et al., 2023, https://arxiv.org/abs/2308.12050 (generate, label with a reward
model, filter, weight or condition), and of Yuan et al., 2023, https://arxiv.org/abs/2304.05302 (several sampling
policies, scored, ranked)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trueup import display, errors, files, stop, words
from trueup.annotators.annotator import Annotator
from trueup.annotators.budget import Usage, keep_at_least
from trueup.batch import chat_template, encode, tokenizing
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.endpoints.addresses import refuse_dead
from trueup.feedback.canonical import prompt_parts
from trueup.feedback.read import Prompts, each_once
from trueup.feedback.records import Example, Group, Prompt
from trueup.methods.method import Method
from trueup.models.causal import CausalModel
from trueup.sampling import decoding, engines
from trueup.settings.annotator_settings import annotators_in
from trueup.settings.run_settings import RunSettings
from trueup.sources import by_name, rollouts
from trueup.sources.log import Log, ReplayedLog, RoundLog, read_log
from trueup.sources.online import Collector, GatheredRounds, OnlineSource, RoundPlan
from trueup.sources.source import Source
from trueup.training import data, seal
from trueup.training.folder import RunFolder

CHUNK = 64  # prompts sampled and judged before they are written: what a run that is killed may have to do again


def sampled_first(settings: RunSettings, method: Method) -> data.Data:
    """Prompts whose responses are sampled and judged before training, with the feedback whose responses join them."""
    data.refuse_annotator(settings, method)
    if method.output == "scores":
        raise errors.InputError(
            f"method {method.name} trains a model that scores and writes nothing, so that no model answers the "
            "prompts. Sample with `trueup sample`, judge with `trueup annotate`, and give that file as --data"
        )
    annotator = _judge_first(settings)
    read, fingerprints = _read_prompts(settings)
    prompts, also = read.prompts, tuple[Example, ...]()
    if settings.data:
        given = data.examples_of(settings, settings.data)
        also, fingerprints = given.examples, {**fingerprints, **given.fingerprints}
        display.data_logger.info("their responses join those sampled, and are judged with them")
        prompts = each_once([*prompts, *(one.prompt for one in also)])

    def source(parts: data.Parts) -> Source:
        texts = data.view_all(settings, method, _collect(parts, prompts, also, annotator))
        return data.offline_source(texts, parts)

    return data.Data(fingerprints, source, prompts)


def online(settings: RunSettings, method: Method) -> data.Data:
    """Prompts whose responses are sampled and judged round by round, while training."""
    data.refuse_annotator(settings, method)
    annotator = _judge_first(settings)
    read, fingerprints = _read_prompts(settings)
    preprocessing = _of_rounds(settings, method, read.prompts[:8])
    held_out, more = _held_out(preprocessing, read.prompts)

    def source(parts: data.Parts) -> Source:
        asking = data.asking_encoder(parts.loaded, settings)
        prompts, known = with_room(read.prompts, asking)
        tokenizing.warn_of_raw(sum(map(asking.bypasses_template, prompts)), len(prompts), "sampling", "prompts")
        penalise = None
        if settings.reward_kl:
            penalise = rollouts.KLPenalty(
                settings.reward_kl, parts.policy, parts.reference, asking, parts.settings.micro_batch_tokens
            )
        plan = plan_of(settings, len(prompts))
        log = RoundLog(parts.folder.path)
        collector = _collector(parts, log, asking, annotator, penalise)
        rounds = GatheredRounds(plan, log, prompts, collector, settings.sampler.resync)
        return _source_of_rounds(parts, plan, log, preprocessing, known, held_out, rounds)

    return data.Data({**fingerprints, **more}, source, read.prompts)


def replay(settings: RunSettings, method: Method) -> data.Data:
    """The log of an online run: the same rounds in the same order, nothing sampled and nothing judged."""
    if len(settings.data) > 1:
        raise errors.InputError(
            f"source replay reads one log, but data names {len(settings.data)} files; give one examples.jsonl"
        )
    (path,) = settings.data
    log = read_log(path)
    display.data_logger.info(
        f"{path}: {sum(map(len, log.rounds.values()))} examples in {len(log.rounds)} of {log.count} rounds"
    )
    examples = [example for number in sorted(log.rounds) for example in log.rounds[number]]
    preprocessing = data.Preprocessing.fit(method, settings, examples)
    held_out, more = _held_out(preprocessing, [example.prompt for example in examples])
    seal.warn_of_departures(Path(path), settings, method)
    if log.last < log.count - 1:
        words.logger.warning(
            f"{path} ends with round {log.last} of {log.count}: the run that wrote it was not finished, and the steps "
            "of the rounds that are missing learn nothing"
        )

    def source(parts: data.Parts) -> Source:
        _, known = with_room([one.prompt for one in examples], data.asking_encoder(parts.loaded, settings))
        return _source_of_rounds(parts, _plan_of_log(settings, log), log, preprocessing, known, held_out)

    return data.Data({path: files.file_hash(Path(path)), **more}, source)


def _of_rounds(settings: RunSettings, method: Method, prompts: Sequence[Prompt]) -> data.Preprocessing:
    """Fitted to an example as the run's annotator would judge it, before there are any.
    A method that measures something over all examples takes no rounds, so that there is nothing to find but what kind
    of feedback is given."""
    assert settings.annotator is not None
    problem: errors.InputError | None = None
    for example in data.as_judged(settings.annotator.gives):
        try:
            return replace(data.Preprocessing.fit(method, settings, [example]), prompts=prompts)
        except errors.InputError as error:
            problem = error
    assert problem is not None
    raise problem


def _held_out(
    preprocessing: data.Preprocessing, prompts: Sequence[Prompt]
) -> tuple[Sequence[Group[Any]], Mapping[str, str]]:
    """The groups to evaluate on, and fingerprints of their files; nothing where none are asked for."""
    settings = preprocessing.settings
    if not settings.eval_data:
        return (), {}
    read = data.examples_of(settings, settings.eval_data)
    by_name.check_overlap(prompts, read.examples, allowed=settings.allow_overlap)
    return data.view_held_out(preprocessing, read.examples), read.fingerprints


def _read_prompts(settings: RunSettings) -> tuple[Prompts, Mapping[str, str]]:
    read = by_name.prompts_named(settings.prompts, settings, chat=settings.chat)
    digest = hashlib.sha256()
    for prompt in read.prompts:
        content, _, *more = prompt_parts(prompt)
        digest.update(json.dumps([content, repr(prompt.tools), *more]).encode())
    return read, {", ".join(settings.prompts): digest.hexdigest()}


def plan_of(settings: RunSettings, prompts: int) -> RoundPlan:
    size = settings.batch_size if settings.round_prompts is None else settings.round_prompts or prompts
    if settings.steps is not None:
        # Whole rounds; `steps` then cuts the last one off.
        per_round = settings.round_passes * -(-size // settings.batch_size)
        total = -(-settings.steps // per_round) * size
    else:
        total = max(1, round((settings.epochs or 1.0) * prompts))
    return RoundPlan(prompts, settings.batch_size, size, settings.round_passes, total, settings.seed, settings.steps)


def _plan_of_log(settings: RunSettings, log: ReplayedLog) -> RoundPlan:
    size = log.prompts.get(1) or max(log.prompts.values())
    total = (log.count - 1) * size + log.prompts.get(log.count, size)
    return RoundPlan(total, settings.batch_size, size, settings.round_passes, total, settings.seed, settings.steps)


def with_room(prompts: Sequence[Prompt], encoder: encode.Encoder) -> tuple[list[Prompt], list[TokenGroup[Any]]]:
    """The prompts that leave room for a response, as token groups whose response is its end alone."""
    kept: list[Prompt] = []
    groups: list[TokenGroup[Any]] = []
    end = TokenRow(np.array(encoder.end_ids[:1], np.int32), np.ones(1, np.bool_))
    for prompt in prompts:
        with errors.naming(prompt.origin):
            ids = encoder.cut_prompt_ids(prompt)
        if 0 < len(ids) < encoder.limits.max_length:
            kept.append(prompt)
            groups.append(TokenGroup(np.array(ids, np.int32), (end,), None, prompt.origin))
    lost, limit = len(prompts) - len(kept), encoder.limits.max_length
    if not kept:
        raise errors.InputError(
            f"none of the {lost} prompts leaves room for a response within max_length {limit}. Raise --max-length, or "
            "set --max-prompt-length so that long prompts lose their beginning"
        )
    if lost:
        display.data_logger.info(f"prompts left out: {lost}, as long as max_length {limit}")
    return kept, groups


def _judge_first(settings: RunSettings) -> Annotator | None:
    """What judges a new run, unless it is a model: what cannot be used is found before the policy is loaded."""
    folder, choice = RunFolder(Path(settings.output)), settings.annotator
    if choice is None or folder.settings.exists():
        return None
    if settings.sampler.base_url:
        refuse_dead("sampler.base_url", settings.sampler.base_url)
    if any(one.about.weights is not None for one in annotators_in(choice).values()):
        return None
    return _annotator(settings, folder, new=True)


def _annotator(settings: RunSettings, folder: RunFolder, *, new: bool = False) -> Annotator:
    assert settings.annotator is not None
    return by_name.make_annotator(
        settings.annotator, seed=settings.seed, device=settings.device,
        trust_remote_code=settings.trust_remote_code, usage_file=folder.usage,
        day=lambda: settings.template_date or chat_template.today(), new=new,
    )  # fmt: skip


def _collector(
    parts: data.Parts, log: RoundLog, encoder: encode.Encoder, annotator: Annotator | None,
    penalise: rollouts.KLPenalty | None = None,
) -> Collector:  # fmt: skip
    """Load what samples, and what judges where that is not known already."""
    settings, policy = parts.settings, parts.policy
    assert isinstance(policy, CausalModel)
    assert settings.annotator is not None
    share = parts.method.mixture
    for number, whose in enumerate(annotators_in(settings.annotator), start=1):
        prefix = f"annotator/{whose}/" if whose else "annotator/"
        requests, tokens, estimated, cost = (
            sum(float(one.metrics.get(f"{prefix}{name}", 0)) for one in log.rounds.values())
            for name in ("requests", "tokens", "estimated", "cost")
        )
        if requests:
            known = Usage(int(requests), int(tokens), cost=cost, estimated=int(estimated))
            file = parts.folder.usage
            keep_at_least(file.with_stem(f"{file.stem}-{number}") if whose else file, known)
    annotator = annotator or _annotator(settings, parts.folder)
    sampler = engines.make_sampler(
        settings.sampler, policy, encoder, name=settings.run_name or settings.model,
        trust_remote_code=settings.trust_remote_code,
        mixture=decoding.Mixture(share, parts.reference.placed, parts.reference.models()) if share else None,
    )  # fmt: skip
    gap = rollouts.LogProbGap(policy, encoder, parts.settings.micro_batch_tokens)
    return Collector(
        sampler, annotator, settings.sampler.responses, settings.seed,
        distinct=parts.method.rollout is None, penalise=penalise, gap=gap if settings.source == "online" else None,
        beside=parts.reference.models() if share else (),
    )  # fmt: skip


def _source_of_rounds(
    parts: data.Parts, plan: RoundPlan, log: Log, preprocessing: data.Preprocessing,
    known: Sequence[TokenGroup[Any]], held_out: Sequence[Group[Any]], gathered: GatheredRounds | None = None,
) -> OnlineSource:  # fmt: skip
    settings, method = parts.settings, parts.method
    encoder = preprocessing.encoder(parts.loaded)
    kept = tokenizing.tokens_of(held_out, encoder, what="evaluation") if held_out else []
    advantages = None
    if method.rollout is not None:
        advantages = rollouts.Advantages(
            method.rollout, parts.policy, parts.reference, parts.loaded.end_ids, settings.micro_batch_tokens
        )
    return OnlineSource(
        plan, log, partial(data.encode_round, method, settings, encoder),
        partial(data.written_for, method, settings), data.batching_of(settings, method, encoder), known,
        kept, gathered, advantages,
    )  # fmt: skip


def _collect(
    parts: data.Parts, prompts: Sequence[Prompt], also: Sequence[Example], annotator: Annotator | None
) -> list[Example]:
    """Have prompts answered and judged, as far as the run's log does not hold it already."""
    log = RoundLog(parts.folder.path)
    chunks = [prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    missing = [number for number in range(1, len(chunks) + 1) if log.known(number) is None]
    if missing:
        collector = _collector(parts, log, data.asking_encoder(parts.loaded, parts.settings), annotator)
        collector.sampler.weights.refresh(0)
        for number in display.track(missing, "sampling and judging"):
            stop.check()
            chunk = chunks[number - 1]
            made = collector.collect(number, chunk, also)
            log.add(number, len(chunks), len(chunk), made.examples, made.metrics)
    examples = data.judged(one for number in sorted(log.rounds) for one in log.rounds[number].examples)
    if not examples:
        raise errors.InputError(
            f"nothing came of {len(prompts)} prompts: none left room for a response, or no judgement could be read. "
            "Look at some with `trueup sample` and `trueup annotate`"
        )
    responses = sum(len(one.responses) for one in examples)
    display.data_logger.info(
        f"{responses} responses to {len(examples)} of {len(prompts)} prompts sampled and judged, in {log.examples}"
    )
    return examples
