"""Feedback gathered while training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from trueup.batch.tokens import TokenGroup, mismatched
from trueup.errors import InputError
from trueup.feedback.groups import Group
from trueup.feedback.records import Prompt
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.sources.gatherer import Gatherer
from trueup.sources.log import Log, RoundLog
from trueup.sources.offline import OfflineSource
from trueup.sources.online import OnlineSource
from trueup.sources.rounds import Rounds
from trueup.training.prepare import Prepared, prepare
from trueup.training.supply.encoding import RoundEncoder
from trueup.training.supply.gathering import asked, make_gatherer, read_run_prompts
from trueup.training.supply.held_out import held_out_groups
from trueup.training.supply.penalty import KLPenalty
from trueup.training.supply.supply import Context, Supplied
from trueup.training.whole import needs_mismatched


class Online:
    """Reads the run's prompts.

    Raises:
        InputError: a file cannot be read, or earlier turns were asked to be learned.
    """

    def __init__(self, settings: RunSettings, method: Method[Any, Any, Any]) -> None:
        check_turns(settings)
        read, fingerprints = read_run_prompts(settings)
        self.prompts = read.prompts
        self.held_out, more, lines = held_out_groups(settings, method)
        self.lines: Sequence[str] = (*read.lines, *lines)
        self.warnings: Sequence[str] = ()
        self.fingerprints: Mapping[str, str] = {**fingerprints, **more}

    def supply(self, context: Context) -> Supplied:
        settings, encoder = context.settings, context.encoder()
        prompts, known, lines = asked(self.prompts, encoder)
        penalise = None
        if settings.reward_kl:
            penalise = KLPenalty(
                settings.reward_kl, context.policy, context.reference, encoder, settings.micro_batch_tokens,
                context.poll,
            )  # fmt: skip
        source = rounds_source(
            context,
            rounds_of(settings, len(prompts)),
            RoundLog(context.folder.path),
            prompts,
            make_gatherer(context, encoder, penalise),
            known,
            self.held_out,
        )
        return Supplied(source, lines, context.loaded.condition)


def check_turns(settings: RunSettings) -> None:
    """Refuse to learn earlier turns, which nobody sampled."""
    if settings.turns == "all":
        raise InputError(
            f"turns is all, but source {settings.source} learns from the responses sampled alone. Leave turns at last"
        )


def rounds_of(settings: RunSettings, prompts: int) -> Rounds:
    """The rounds of a run with this many prompts."""
    size = settings.batch_size if settings.round_prompts is None else settings.round_prompts or prompts
    if settings.steps is not None:
        # Whole rounds; `steps` then cuts the last one off.
        per_round = settings.round_passes * -(-size // settings.batch_size)
        total = -(-settings.steps // per_round) * size
    else:
        total = max(1, round((settings.epochs or 1.0) * prompts))
    return Rounds(
        prompts, settings.batch_size, size, settings.round_passes, total, settings.seed, settings.steps
    )


def rounds_source(
    context: Context,
    rounds: Rounds,
    log: Log,
    prompts: Sequence[Prompt],
    gatherer: Gatherer | None,
    known: Sequence[TokenGroup[Any]],
    held_out: Sequence[Group[Any]],
) -> OnlineSource:
    """The source of rounds, whoever gathers them."""
    settings, method, encoder = context.settings, context.method, context.encoder()
    limits = encoder.limits
    kept = Prepared((), ())
    if held_out:
        kept = prepare(held_out, encoder, what="evaluation", poll=context.poll)
    learn = None
    if method.rollout:
        from trueup.training.supply.learning import RolloutLearning

        learn = RolloutLearning(method.rollout, context)
    pairing = partial(mismatched, max_length=limits.max_length) if needs_mismatched(method) else None
    evaluation = OfflineSource(
        (), kept.groups, method.collate, settings.batch_size, settings.micro_batch_tokens, settings.seed, 0,
        poll=context.poll, pairing=pairing,
    )  # fmt: skip
    return OnlineSource(
        rounds=rounds,
        log=log,
        prompts=prompts,
        gatherer=gatherer,
        encode=RoundEncoder(method, encoder),
        collate=method.collate,
        budget=settings.micro_batch_tokens,
        known=known,
        evaluation=evaluation,
        pairing=pairing,
        learn=learn,
        resync=settings.sampler.resync,
        poll=context.poll,
    )
