"""The sampler that settings ask for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trueup.batch.encode import Encoder
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.sampling.in_process import InProcessSampler
from trueup.sampling.sampler import Sampler
from trueup.sampling.several import SeveralSamplers
from trueup.settings.sampler_settings import Engine, SamplerSettings

Poll = Callable[[], None]
Warn = Callable[[str], None]
Make = Callable[[SamplerSettings, CausalModel, Encoder, str, Warn, Poll], Sampler]


def make_sampler(
    settings: SamplerSettings,
    model: CausalModel,
    encoder: Encoder,
    *,
    name: str,
    trust_remote_code: bool = False,
    warn: Warn = lambda text: None,
    poll: Poll = lambda: None,
) -> Sampler:
    """A sampler that writes with the policy, and with `settings.models` beside it.

    Args:
        model: the policy; further models go to its device and compute in its precision.
        encoder: the policy's.
        name: of the policy, for `Sampled.source`; further models go by their paths.
        trust_remote_code: whether further models may bring code of their own.
        warn: told what goes wrong with a server and is tried again.
        poll: called while something is written; may raise to stop.

    Raises:
        InputError: a further model cannot be loaded, or the server cannot do what is asked of it.
    """
    policy = _ENGINES[settings.engine](settings, model, encoder, name, warn, poll)
    if not settings.models:
        return policy
    others = []
    for path in settings.models:
        loaded = load(path, device=model.device, dtype=_dtype(model), trust_remote_code=trust_remote_code)
        other = CausalModel(loaded.network.requires_grad_(False).eval())
        its_encoder = Encoder(
            loaded.tokenizer, end_ids=loaded.end_ids, limits=encoder.limits, condition=loaded.condition
        )
        engine: Engine = "in-process" if settings.engine == "server" else settings.engine
        alone = settings.model_copy(update={"engine": engine, "models": (), "resync": 1})
        others.append((_ENGINES[engine](alone, other, its_encoder, path, warn, poll), its_encoder))
    return SeveralSamplers(policy, encoder, others)


def _dtype(model: CausalModel) -> torch.dtype:
    """What frozen weights are held in: that which the policy computes in."""
    return model.autocast or next(model.network.parameters()).dtype


def _in_process(
    settings: SamplerSettings, model: CausalModel, encoder: Encoder, name: str, warn: Warn, poll: Poll
) -> Sampler:
    return InProcessSampler(model, encoder, settings, name=name, poll=poll)


def _server(
    settings: SamplerSettings, model: CausalModel, encoder: Encoder, name: str, warn: Warn, poll: Poll
) -> Sampler:
    from trueup.sampling.server import ServerSampler

    return ServerSampler(settings, encoder, name=name, model=model, warn=warn, poll=poll)


_ENGINES: dict[str, Make] = {"in-process": _in_process, "server": _server}
