"""Responses of several models to many prompts, a few prompts at a time, each piece kept as soon as it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from trueup.errors import AnnotatorError
from trueup.feedback.records import Prompt
from trueup.gathering.work import Work
from trueup.sampling.sampler import Sampled, Sampler
from trueup.words import counted

CHUNK = 32
"""Prompts sampled before their responses are kept: what a process that is killed may have to do again."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A model that is to write responses."""

    name: str
    """As it was given."""
    load: Callable[[], AbstractContextManager[Sampler]]
    """Its sampler; called only where something is left to write, and left before the next model is loaded."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one model wrote."""

    name: str
    responses: tuple[tuple[Sampled, ...], ...]
    """In the order of the prompts; none where a prompt left no room for one."""

    @property
    def line(self) -> str:
        """For people: `world: 32 responses to 8 prompts, 7.2 words on average; 3 ran out of tokens`."""
        flat = [one for several in self.responses for one in several]
        if not flat:
            return f"{self.name}: no responses, as no prompt leaves room for one"
        words = fmean(len(one.text.split()) for one in flat)
        line = (
            f"{self.name}: {counted(len(flat), 'response')} to {counted(len(self.responses), 'prompt')}, "
            f"{words:.1f} words on average"
        )
        cut = sum(not one.ended for one in flat)
        return f"{line}; {cut} ran out of tokens (--max-new-tokens) and have no end" if cut else line


def write_responses(
    prompts: Sequence[Prompt], writers: Sequence[Writer], work: Work, *, responses: int, seed: int
) -> list[Written]:
    """`responses` responses of each writer to each prompt; what is kept already is not written again.

    Each piece of the work has a seed of its own, made of `seed` and its place.

    Raises:
        AnnotatorError: a model writes nothing but empty responses.
        Stopped: the user asked to stop.
        InputError: a prompt cannot be expressed, a model cannot be loaded, or what is done cannot be kept.
    """
    return [_write(place, writer, prompts, work, responses, seed) for place, writer in enumerate(writers)]


def _write(
    place: int, writer: Writer, prompts: Sequence[Prompt], work: Work, responses: int, seed: int
) -> Written:
    loaded: list[Sampler] = []

    @contextmanager
    def load() -> Iterator[None]:
        with writer.load() as sampler:
            loaded.append(sampler)
            yield
            loaded.clear()

    def sample(name: str, chunk: Sequence[Prompt]) -> list[Any]:
        made = loaded[0].sample(chunk, responses, seed=seed_of(seed, name))
        _refuse_silence(writer.name, made)
        return [[_kept(one) for one in several] for several in made]

    kept = work.pieces(f"sample {place}", f"sampling {writer.name}", prompts, CHUNK, sample, load)
    return Written(writer.name, tuple(tuple(map(_sampled, several)) for part in kept for several in part))


def seed_of(seed: int, name: str) -> int:
    """A seed for one piece of work, from the command's own."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")


def _refuse_silence(name: str, made: Sequence[Sequence[Sampled]]) -> None:
    flat = [one for several in made for one in several]
    if flat and not any(one.text.strip() for one in flat):
        raise AnnotatorError(
            f"{name}: all {counted(len(flat), 'response')} to {counted(len(made), 'prompt')} are empty. Look at --stop "
            "and at the chat template, and whether the prompts are of the form the model was trained on"
        )


def _kept(one: Sampled) -> dict[str, Any]:
    """As it is kept; log-probabilities are of no use later."""
    ids = None if one.ids is None else list(one.ids)
    return {"text": one.text, "ids": ids, "ended": one.ended, "source": one.source, "version": one.version}


def _sampled(kept: dict[str, Any]) -> Sampled:
    ids = None if kept["ids"] is None else tuple(kept["ids"])
    return Sampled(kept["text"], ids, None, kept["ended"], kept["source"], kept["version"])
