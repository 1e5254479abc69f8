"""Models that write responses to many prompts, one after the other, each piece kept as soon as it is there."""

import gc
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch

from trueup.batch.encode import Encoder, Limits
from trueup.errors import AnnotatorError
from trueup.feedback.records import Prompt
from trueup.gathering.resumable import Work
from trueup.model_folder import context_length
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.prepare import SMALL, num_parameters, pick_autocast, pick_device
from trueup.models.tokenizer import load_tokenizer
from trueup.sampling.engines import make_engine
from trueup.sampling.sampler import Sampled, Sampler
from trueup.settings.gathering_settings import SampleSettings
from trueup.sources.by_name import model_named
from trueup.words import counted

CHUNK = 32
"""Prompts sampled before their responses are kept: what a process that is killed may have to do again."""
UNLIMITED = 10**9

logger = logging.getLogger(__name__)


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
    """`responses` responses of each writer to each prompt, of which it is told; what is kept is not written again.

    Each piece of the work has a seed of its own, made of `seed` and its place.

    Raises:
        AnnotatorError: a model writes nothing but empty responses.
        Stopped: the user asked to stop.
        InputError: a prompt cannot be expressed, a model cannot be loaded, or what is done cannot be kept.
    """
    found = [_written(place, writer, prompts, work, responses, seed) for place, writer in enumerate(writers)]
    for written in found:
        logger.info(written.line)
    return found


def _written(
    place: int, writer: Writer, prompts: Sequence[Prompt], work: Work, responses: int, seed: int
) -> Written:
    def sample(sampler: Sampler, name: str, chunk: Sequence[Prompt]) -> list[Any]:
        made = sampler.sample(chunk, responses, seed=seed_of(seed, name))
        _refuse_silence(writer.name, made)
        return [[_kept(one) for one in several] for several in made]

    parts = work.in_parts(f"sample {place}", f"sampling {writer.name}", prompts, CHUNK, writer.load, sample)
    return Written(writer.name, tuple(tuple(map(_sampled, several)) for part in parts for several in part))


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
    return {name: value for name, value in asdict(one).items() if name != "log_probs"}


def _sampled(kept: dict[str, Any]) -> Sampled:
    ids = None if kept["ids"] is None else tuple(kept["ids"])
    return Sampled(**{**kept, "ids": ids, "log_probs": None})


def make_writers(settings: SampleSettings, prompts: int) -> list[Writer]:
    """A writer for each model of the settings, or for their server; nothing is loaded yet.

    Args:
        prompts: how many are asked, which decides on threads.
    """
    if settings.sampler.engine == "server":
        name = settings.sampler.server_model or (settings.model[0] if settings.model else "server")
        return [Writer(name, partial(_server, settings, name))]
    return [Writer(name, partial(_in_process, settings, name, prompts)) for name in settings.model]


def share_a_tokenizer(settings: SampleSettings) -> bool:
    """Whether all models split text in the same way, so that the ids one of them wrote are those of the others."""
    if len(settings.model) < 2:
        return True
    return len({_vocabulary(_tokenizer(settings, name).tokenizer) for name in settings.model}) == 1


@contextmanager
def _in_process(settings: SampleSettings, name: str, prompts: int) -> Iterator[Sampler]:
    device = pick_device(settings.device)
    loaded = load(
        model_named(name),
        device=device,
        trust_remote_code=settings.trust_remote_code,
        eos_token=settings.eos_token,
        chat_template=settings.chat_template,
    )
    network: Any = loaded.network
    network.eval()
    if device.type == "cpu" and num_parameters(network) * prompts < SMALL:
        torch.set_num_threads(1)
    encoder = _encoder(settings, loaded, context_length(network.config))
    model = CausalModel(network, autocast=pick_autocast(settings.precision, device))
    try:
        yield make_engine(settings.sampler, model, encoder, name=name)
    finally:
        del loaded, network, model  # before the next one is loaded
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _server(settings: SampleSettings, name: str) -> Iterator[Sampler]:
    encoder = None
    if settings.model:
        found = _tokenizer(settings, settings.model[0])
        encoder = _encoder(settings, found, found.positions)
    yield make_engine(settings.sampler, None, encoder, name=name)


def _tokenizer(settings: SampleSettings, name: str) -> Any:
    return load_tokenizer(
        model_named(name),
        trust_remote_code=settings.trust_remote_code,
        eos_token=settings.eos_token,
        chat_template=settings.chat_template,
    )


def _encoder(settings: SampleSettings, of: Any, positions: int | None) -> Encoder:
    """As a model is asked; `of` is it or its tokenizer, as loaded."""
    limits = Limits(settings.max_length or positions or UNLIMITED, settings.max_prompt_length)
    return Encoder(of.tokenizer, end_ids=of.end_ids, limits=limits, condition=of.condition)


def _vocabulary(tokenizer: Any) -> str:
    """A hash of what tokens there are, and of how text is split into them where the tokenizer says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(said.encode()).hexdigest()
