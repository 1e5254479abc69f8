"""The models that are to write, loaded one after the other."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from trueup.batch.encode import Encoder, Limits
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.gathering.writing import Writer
from trueup.model_folder import context_length
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.prepare import SMALL, num_parameters, pick_autocast, pick_device
from trueup.models.tokenizer import load_tokenizer
from trueup.sampling.build import make_engine
from trueup.sampling.sampler import Sampler
from trueup.settings.gathering_settings import SampleSettings

UNLIMITED = 10**9
WORLD = "world"


def make_writers(
    settings: SampleSettings,
    prompts: int,
) -> list[Writer]:
    """A writer for each model of the settings, or for their server; nothing is loaded yet.

    Args:
        prompts: how many are asked, which decides on threads.
    """
    if settings.sampler.engine == "server":
        name = settings.sampler.server_model or (settings.model[0] if settings.model else "server")
        return [Writer(name, partial(_server, settings, name))]
    return [Writer(name, partial(_in_process, settings, name, prompts)) for name in settings.model]


def folder_of(name: str) -> str:
    """A model's folder; that of the built-in one is made where it is not there yet."""
    if name != WORLD:
        return name
    from trueup.world.model import world_model_path

    return str(world_model_path())


def share_a_tokenizer(settings: SampleSettings) -> bool:
    """Whether all models split text in the same way, so that the ids one of them wrote are those of the others."""
    if len(settings.model) < 2:
        return True
    return len({_vocabulary(_tokenizer(settings, name).tokenizer) for name in settings.model}) == 1


@contextmanager
def _in_process(settings: SampleSettings, name: str, prompts: int) -> Iterator[Sampler]:
    device = pick_device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda was asked for, but torch finds no GPU here. Leave --device out, or use cpu"
        )
    loaded = load(
        folder_of(name),
        device=device,
        trust_remote_code=settings.trust_remote_code,
        eos_token=settings.eos_token,
        chat_template=settings.chat_template,
    )
    network: Any = loaded.network
    network.eval()
    if device.type == "cpu" and num_parameters(network) * prompts < SMALL:
        torch.set_num_threads(1)
    positions = context_length(network.config)
    encoder = _encoder(settings, loaded.tokenizer, loaded.end_ids, positions, loaded.condition)
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
        encoder = _encoder(settings, found.tokenizer, found.end_ids, found.positions, found.condition)
    yield make_engine(settings.sampler, None, encoder, name=name)


def _tokenizer(settings: SampleSettings, name: str) -> Any:
    return load_tokenizer(
        folder_of(name),
        trust_remote_code=settings.trust_remote_code,
        eos_token=settings.eos_token,
        chat_template=settings.chat_template,
    )


def _encoder(
    settings: SampleSettings,
    tokenizer: Any,
    end_ids: Sequence[int],
    positions: int | None,
    condition: Condition | None,
) -> Encoder:
    limits = Limits(settings.max_length or positions or UNLIMITED, settings.max_prompt_length)
    return Encoder(tokenizer, end_ids=end_ids, limits=limits, condition=condition)


def _vocabulary(tokenizer: Any) -> str:
    """A hash of what tokens there are, and of how text is split into them where the tokenizer says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(said.encode()).hexdigest()
