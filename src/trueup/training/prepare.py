"""From examples to token groups, with an account of everything that did not survive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trueup.batch.encode import Encoder
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.feedback.groups import Discarded, Group
from trueup.feedback.records import Origin
from trueup.words import listed

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Token groups of one data set, and what happened on the way."""

    groups: tuple[TokenGroup[Any], ...]
    lines: tuple[str, ...]
    """For people: counts of what was cut and what was left out."""


def prepare(
    groups: Iterable[Group[R]], encoder: Encoder, *, what: str, poll: Callable[[], None] = lambda: None
) -> Prepared:
    """Encode groups, counting what is cut or left out.

    Args:
        what: names the data in messages: `training` or `evaluation`.
        poll: called between groups; may raise to stop.

    Raises:
        InputError: a group cannot be expressed, or none is left.
    """
    kept: list[TokenGroup[R]] = []
    dropped: dict[str, list[Origin | None]] = {}
    cut_prompts = cut_responses = responses = 0
    notes: dict[str, None] = {}
    for group in groups:
        poll()
        try:
            encoded = encoder.encode(group)
        except InputError as error:
            raise InputError(f"{group.origin}: {error}" if group.origin else str(error)) from error
        if isinstance(encoded, Discarded):
            dropped.setdefault(encoded.reason, []).append(encoded.origin)
            continue
        kept.append(encoded.tokens)
        responses += len(group.responses)
        cut_prompts += encoded.prompt_cut
        cut_responses += encoded.responses_cut
        notes.update(dict.fromkeys(sorted(encoded.notes)))
    lines = [f"{what} data left out: {reason}, {_rows(origins)}" for reason, origins in dropped.items()]
    if not kept:
        raise InputError(
            f"nothing of the {what} data is left to train on: {'; '.join(lines)}. Raise --max-length, or set "
            "--max-prompt-length so that long prompts lose their beginning"
        )
    limits = encoder.limits
    if dropped and limits.max_prompt_length is None:
        lines.append("long prompts can be kept, without their beginning, by --max-prompt-length")
    if cut_responses:
        lines.append(
            f"{what} data: {cut_responses} of {responses} responses lost their end to max_length {limits.max_length} "
            "(no end of sequence is put there)"
        )
    if cut_prompts:
        lines.append(
            f"{what} data: {cut_prompts} of {len(kept)} prompts lost their beginning to max_prompt_length "
            f"{limits.max_prompt_length}"
        )
    lines += [f"note: {note}" for note in notes]
    return Prepared(tuple(kept), tuple(lines))


def _rows(origins: Sequence[Origin | None]) -> str:
    """`3 examples (a.jsonl rows 1, 5; b.jsonl row 2)`."""
    files: dict[str, list[str]] = {}
    for origin in origins:
        if origin is not None:
            files.setdefault(origin.file, []).append(str(origin.row))
    places = [f"{file} row{'s' * (len(rows) > 1)} {listed(rows)}" for file, rows in files.items()]
    count = f"{len(origins)} example{'s' * (len(origins) != 1)}"
    return f"{count} ({'; '.join(places)})" if places else count
