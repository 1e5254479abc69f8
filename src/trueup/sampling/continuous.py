"""transformers' continuous batching as a sampler: a response that is done makes room for the next at once.

Its settings are chosen so that its cache stays small: left alone, it takes most of the memory there is.
"""

from __future__ import annotations

import logging as levels
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trueup.batch.encode import Encoder
from trueup.errors import InputError
from trueup.feedback.prompts import Prompt
from trueup.models.causal import CausalModel
from trueup.models.tokenizer import quiet
from trueup.sampling.asked import Asked, ask
from trueup.sampling.drawn import Drawn, drawn
from trueup.sampling.sampler import Sampled
from trueup.sampling.stop import Stops
from trueup.sampling.weights import SamplingWeights
from trueup.settings.sampler_settings import SamplerSettings

PAGE = 32
"""Tokens of a page of the cache."""
TOGETHER = 64
"""Responses of full length that the cache has room for."""
BATCH_TOKENS = 256
"""Tokens computed in one step, of prompts and responses together."""


class ContinuousSampler:
    """Writes with the model library's continuous batching: draws, or the most likely token each time.

    Random numbers are drawn for a whole batch at a time. So a seed gives the same responses to the same prompts in the
    same order, but what is drawn for a prompt depends on those beside it.

    Args: as of `trueup.sampling.in_process.InProcessSampler`.
    """

    def __init__(
        self,
        model: CausalModel,
        encoder: Encoder,
        settings: SamplerSettings,
        *,
        name: str,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.encoder, self.settings, self.name = model, encoder, settings, name
        self.poll = poll
        self.stops = Stops(settings.stop, encoder.text) if settings.stop else None
        self.weights = SamplingWeights(model, keeps=settings.resync > 1)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """See `trueup.sampling.sampler.Sampler`.

        Raises:
            InputError: as there, and where continuous batching cannot compute this model.
        """
        asked = ask(prompts, self.encoder, self.model, self.settings.max_new_tokens)
        copies = responses if self.settings.decode == "sample" else 1
        if asked.ids:
            with self.weights.in_place(), self.model.without_dropout(), self.model.plain():
                flat = self._written(asked, copies, seed)
        else:
            flat = []
        grouped = [
            flat[at * copies : (at + 1) * copies] * (responses // copies) for at in range(len(asked.ids))
        ]
        source, version = self.name, self.weights.version
        return asked.sampled(grouped, self.encoder, self.stops, source=source, version=version)

    def refresh(self, version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.weights.refresh(version)

    def state(self) -> Mapping[str, Tensor]:
        """See `trueup.sampling.sampler.Sampler`."""
        return self.weights.state()

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.weights.restore(tensors, version)

    @property
    def _knows_log_probs(self) -> bool:
        """Whether what the library gives are the model's own: it computes them after temperature, top-k and top-p."""
        settings = self.settings
        plain = settings.temperature == 1 and settings.top_p == 1 and settings.top_k == 0
        return plain or settings.decode == "greedy"

    def _written(self, asked: Asked, copies: int, seed: int) -> list[Drawn]:
        """The responses to one prompt after the other."""
        with _seeded(self.model.device), _silent():
            manager = self.model.inner.init_continuous_batching(
                generation_config=self._generation(asked), continuous_batching_config=_config(asked, seed)
            )
            names: list[str] = []
            for ids, room in zip(
                asked.ids, asked.rooms, strict=True
            ):  # all before it starts: a thread is never on time
                for _ in range(copies):
                    names.append(manager.add_request(list(ids), max_new_tokens=room))
            manager.start()
            try:
                results = _results(manager, len(names), self.poll)
            finally:
                manager.stop(block=True, hard_stop=True)  # nothing is left to do, unless something was raised
                manager.destroy()
        ends = frozenset(self.encoder.end_ids)
        known = self._knows_log_probs
        return [
            drawn(results[name].generated_tokens, results[name].logprobs if known else [], ends)
            for name in names
        ]

    def _generation(self, asked: Asked) -> Any:
        from transformers import GenerationConfig

        settings = self.settings
        sampled = settings.decode == "sample"
        drawing = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k}
        return GenerationConfig(
            do_sample=sampled,
            max_new_tokens=max(asked.rooms),
            eos_token_id=list(self.encoder.end_ids),
            pad_token_id=self.encoder.end_ids[0],
            **(drawing if sampled else {}),
        )


def _config(asked: Asked, seed: int) -> Any:
    from transformers import ContinuousBatchingConfig

    longest = max(len(ids) + room for ids, room in zip(asked.ids, asked.rooms, strict=True))
    return ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=min(TOGETHER, len(asked.ids)) * (longest // PAGE + 2),
        max_batch_tokens=BATCH_TOKENS,
        seed=seed % 2**63,
        return_logprobs=True,
        auto_switch_to_flash=False,
        use_async_batching=False,
    )


def _results(manager: Any, count: int, poll: Callable[[], None]) -> dict[str, Any]:
    """Every request's result, by its name.

    Raises:
        InputError: the library's thread has failed.
    """
    found: dict[str, Any] = {}
    while len(found) < count:
        poll()
        result = manager.get_result(timeout=1)
        failed = manager.background_thread_status.fatal_error or (result and result.error)
        if failed or (result is None and not manager.is_running()):
            reason = " ".join(str(failed or "its thread has ended").split())
            raise InputError(
                f"transformers' continuous batching cannot compute this model: {reason[:200]}. Leave sampler.engine "
                "out, so that trueup samples by itself"
            )
        if result is not None and result.is_finished():
            found[result.request_id] = result
    return found


@contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """The library seeds torch's own generators; afterwards they are as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing of the library on the screen: what goes wrong is said in one line."""
    from transformers.utils import logging

    own = levels.getLogger("ContinuousBatchingLogger")
    before, own.disabled = own.disabled, True
    try:
        with quiet():
            logging.set_verbosity(levels.CRITICAL)
            yield
    finally:
        own.disabled = before
