"""What a run trains on: examples gathered, viewed, split and turned into tokens, with an account of each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trueup.batch.condition_check import check_condition
from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokens import mismatched
from trueup.display import Display
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.groups import Group
from trueup.feedback.records import Example, Prompt
from trueup.feedback.transforms.transform import fit_all
from trueup.feedback.turns_in_loss import turns_in_loss
from trueup.feedback.viewed import apply
from trueup.methods.method import Method
from trueup.model_folder import context_length
from trueup.models.load import Loaded
from trueup.settings.run_settings import RunSettings
from trueup.sources.gather import gather, overlap, split
from trueup.sources.offline import OfflineSource
from trueup.training.prepare import Prepared, prepare
from trueup.training.whole import needs_mismatched
from trueup.words import listed


@dataclass(frozen=True, slots=True)
class Examples:
    """Groups of text to train and to evaluate on."""

    training: tuple[Group[Any], ...]
    held_out: tuple[Group[Any], ...]
    fingerprints: dict[str, str]
    """Source -> hash of its content."""
    lines: tuple[str, ...]
    """For people: what each source was taken for, what was done to it, and what the view made of it."""
    warnings: tuple[str, ...] = ()
    """For people: what they should look at."""
    condition: Condition | None = None
    """What the method wrote into the prompts."""
    prompts: tuple[Prompt, ...] = ()
    """A few training prompts as they were given."""


def gather_examples(settings: RunSettings, method: Method[Any, Any, Any]) -> Examples:
    """Read the run's feedback and view it as the method does.

    Raises:
        InputError: a source cannot be read, or holds nothing the method can use.
    """
    gathered = gather(settings.data, skip_bad=settings.skip_bad)
    made = examples_of(settings, method, gathered.examples, gathered.fingerprints)
    return replace(made, lines=(*gathered.lines, *made.lines))


def examples_of(
    settings: RunSettings,
    method: Method[Any, Any, Any],
    examples: Sequence[Example],
    known: Mapping[str, str],
) -> Examples:
    """View examples as the method does, a part of them or other data held out.

    Args:
        known: fingerprints of what the examples were read from.

    Raises:
        InputError: they hold nothing the method can use; or as `gather_examples` for the evaluation data.
    """
    fingerprints, lines = dict(known), list[str]()
    warnings: list[str] = []
    train_part, held_out = split(examples, settings.eval_fraction, settings.seed)
    if settings.eval_data:
        other = gather(settings.eval_data, skip_bad=settings.skip_bad)
        fingerprints |= other.fingerprints
        held_out, lines = other.examples, list(other.lines)
        warnings += _overlap(train_part, held_out, allowed=settings.allow_overlap)
    fitted = fit_all(method.transforms, train_part)
    lines += fitted.lines
    # After the transforms: two conversations that only begin alike are not one prompt.
    rewritten = fitted.rewrite(train_part)
    for check in method.checks:
        check(rewritten)
    spoken = turns_in_loss(rewritten, settings.turns)
    lines += spoken.lines
    viewed = apply(method.view, spoken.examples)
    lines += viewed.lines()
    kept: tuple[Group[Any], ...] = ()
    if held_out:
        kept, line = _evaluated(
            method, held_out, turns_in_loss(fitted.rewrite(held_out), settings.turns).examples
        )
        lines.append(line)
    return Examples(
        viewed.groups,
        kept,
        fingerprints,
        tuple(lines),
        warnings=(*warnings, *fitted.warnings),
        condition=fitted.condition,
        prompts=tuple(example.prompt for example in train_part[:8]),
    )


def _evaluated(
    method: Method[Any, Any, Any], held_out: Sequence[Example], rewritten: Sequence[Example]
) -> tuple[tuple[Group[Any], ...], str]:
    """The groups to evaluate on, and how many there are, for people.

    Args:
        held_out: as they were given.
        rewritten: as the method's transforms left them.
    """
    if not rewritten:
        raise InputError(
            f"evaluation data: none of the {len(held_out)} examples holds the rewards that the training data was "
            "measured by. Give evaluation data of the same kind"
        )
    try:
        viewed = apply(method.view, rewritten)
    except InputError as error:
        raise InputError(f"evaluation data: {error}") from error
    made = f", {viewed.responses} responses" if len(rewritten) != len(held_out) else ""
    used = len(viewed.groups) if len(rewritten) == len(held_out) else len(held_out)
    return viewed.groups, f"evaluation on {used} of {len(held_out)} held-out examples{made}"


def make_source(
    examples: Examples,
    loaded: Loaded,
    settings: RunSettings,
    method: Method[Any, Any, Any],
    *,
    display: Display,
    poll: Callable[[], None],
) -> tuple[OfflineSource, Sequence[str]]:
    """Turn the examples into tokens and lay out the run's batches.

    Args:
        poll: called between pieces of work; may raise to stop.

    Returns:
        The source, and what happened to the examples on the way, for people.

    Raises:
        InputError: an example cannot be expressed by the tokenizer, or none is left within the limits.
    """
    limits = Limits(max_length(loaded, settings), settings.max_prompt_length)
    # Prompts that the method itself wrote a condition into do not get the model's own as well.
    condition = None if examples.condition else loaded.condition
    _check_condition(examples.condition or condition, settings)
    if examples.condition is not None:
        check_condition(examples.condition, loaded.tokenizer, examples.prompts)
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits, condition=condition)
    prepared = prepare(display.track(examples.training, "tokenizing"), encoder, what="training", poll=poll)
    kept = Prepared((), ())
    if examples.held_out:
        kept = prepare(examples.held_out, encoder, what="evaluation", poll=poll)
    pairing = None
    if needs_mismatched(method):
        pairing = partial(mismatched, max_length=limits.max_length)
        for part, what in ((prepared, "training"), (kept, "evaluation")):
            _check_prompts_differ(part, what)
    epochs = settings.epochs if settings.epochs is not None else 1.0
    size = len(prepared.groups)
    source = OfflineSource(
        groups=prepared.groups,
        held_out_groups=kept.groups,
        collate=method.collate,
        batch_size=settings.batch_size,
        budget=settings.micro_batch_tokens,
        seed=settings.seed,
        total=settings.steps * settings.batch_size if settings.steps else max(1, round(epochs * size)),
        poll=poll,
        stratum=method.stratum,
        pairing=pairing,
    )
    asked = [f"every prompt is asked as the model was trained: {condition.words()!r}"] if condition else []
    return source, (*asked, *prepared.lines, *kept.lines)


def _check_condition(condition: Condition | None, settings: RunSettings) -> None:
    """Refuse a condition that training would not show where it stands when the model is asked."""
    if condition and condition.position == "end" and settings.turns == "all":
        raise InputError(
            f"turns is all, but the model is asked with the condition {condition.words()!r} after the last message, "
            "and the earlier turns would be learned without it. Leave turns at last"
        )
    if condition and condition.position == "start" and settings.max_prompt_length is not None:
        raise InputError(
            f"max_prompt_length {settings.max_prompt_length} cuts the beginning of long prompts, where the condition "
            f"{condition.words()!r} stands. Put the condition at the end, or leave max_prompt_length out"
        )


def _check_prompts_differ(part: Prepared, what: str) -> None:
    """Refuse data in which no prompt can be paired with a response to another one."""
    if part.groups and len({group.prompt.tobytes() for group in part.groups}) < 2:
        raise InputError(
            f"the {what} data holds one prompt only, but this method measures how likely responses to other prompts "
            "are. Give feedback on at least two prompts, or choose a method that does without (`trueup methods`)"
        )


def _overlap(training: Sequence[Example], held_out: Sequence[Example], *, allowed: bool) -> list[str]:
    """A warning where evaluation prompts are also trained on, if that is allowed."""
    shared = overlap(training, held_out)
    if not shared:
        return []
    where = listed([str(example.origin) for example in shared if example.origin])
    found = f"{len(shared)} of {len(held_out)} evaluation examples have a prompt that is also trained on ({where})"
    if not allowed:
        raise InputError(
            f"{found}; what is measured on them says little of new prompts. Leave them out of one side, or allow it "
            "with --allow-overlap"
        )
    return [f"{found}; what is measured on them says little of new prompts"]


def max_length(loaded: Loaded, settings: RunSettings) -> int:
    """The limit asked for, or what the model was made for where none was.

    Raises:
        InputError: more was asked for than the model was made for.
    """
    most = context_length(loaded.network.config)
    if most is None or settings.max_length <= most:
        return settings.max_length
    if "max_length" in settings.model_fields_set:
        raise InputError(
            f"max_length {settings.max_length} is more than the {most} positions {settings.model} was made for. "
            f"Give --max-length {most} or less"
        )
    return most
