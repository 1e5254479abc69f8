"""What a run trains on: examples gathered, viewed, split and turned into tokens, with an account of each stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.batch.encode import Encoder, Limits
from trueup.config.settings import RunSettings
from trueup.errors import InputError
from trueup.feedback.groups import Group
from trueup.feedback.viewed import apply
from trueup.methods.method import Method
from trueup.models.load import Loaded
from trueup.sources.gather import gather, split
from trueup.sources.offline import OfflineSource
from trueup.training.prepare import Prepared, prepare
from trueup.training.progress import Display


@dataclass(frozen=True, slots=True)
class Examples:
    """Groups of text to train and to evaluate on."""

    training: tuple[Group[Any], ...]
    held_out: tuple[Group[Any], ...]
    fingerprints: dict[str, str]
    """Source -> hash of its content."""
    lines: tuple[str, ...]
    """For people: what each source was taken for, and what the view made of it."""


def gather_examples(settings: RunSettings, method: Method[Any, Any, Any]) -> Examples:
    """Read the run's feedback and view it as the method does.

    Raises:
        InputError: a source cannot be read, or holds nothing the method can use.
    """
    gathered = gather(settings.data, skip_bad=settings.skip_bad)
    fingerprints, lines = dict(gathered.fingerprints), list(gathered.lines)
    train_part, held_out = split(gathered.examples, settings.eval_fraction, settings.seed)
    if settings.eval_data:
        other = gather(settings.eval_data, skip_bad=settings.skip_bad)
        fingerprints |= other.fingerprints
        held_out, lines = other.examples, lines + list(other.lines)
    viewed = apply(method.view, train_part)
    lines += viewed.lines()
    kept = apply(method.view, held_out).groups if held_out else ()
    if held_out:
        lines.append(f"evaluation on {len(kept)} of {len(held_out)} held-out examples")
    return Examples(viewed.groups, kept, fingerprints, tuple(lines))


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
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits)
    prepared = prepare(display.track(examples.training, "tokenizing"), encoder, what="training", poll=poll)
    kept = Prepared((), ())
    if examples.held_out:
        kept = prepare(examples.held_out, encoder, what="evaluation", poll=poll)
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
    )
    return source, (*prepared.lines, *kept.lines, *_overlap(prepared, kept))


def _overlap(training: Prepared, held_out: Prepared) -> list[str]:
    """Says how many evaluation prompts were trained on."""
    known = {group.prompt.tobytes() for group in training.groups}
    shared = sum(group.prompt.tobytes() in known for group in held_out.groups)
    if not shared:
        return []
    return [f"note: {shared} of {len(held_out.groups)} evaluation prompts are also in the training data"]


def max_length(loaded: Loaded, settings: RunSettings) -> int:
    """The limit asked for, or what the model was made for where none was.

    Raises:
        InputError: more was asked for than the model was made for.
    """
    network: Any = loaded.network
    most: int | None = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    if most is None or settings.max_length <= most:
        return settings.max_length
    if "max_length" in settings.model_fields_set:
        raise InputError(
            f"max_length {settings.max_length} is more than the {most} positions {settings.model} was made for. "
            f"Give --max-length {most} or less"
        )
    return most
