"""Responses from a model in this process, reproducible by a seed."""

from collections.abc import Sequence

import torch
from torch import nn

from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.sampling import sampler
from trueup.sampling.beam import beam_search
from trueup.sampling.decoding import BATCH_SIZE, generate
from trueup.sampling.sampler import Completion, EncodedPrompt, Sampled, Sampler
from trueup.settings.gathering_settings import SamplerSettings

BATCH_TOKENS = 32_768
"""Tokens of prompts and responses that are held in memory together, at most."""


def make(
    settings: SamplerSettings, model: CausalModel | None, encoder: Encoder | None, *, name: str
) -> Sampler:
    """See `trueup.sampling.engines.make_engine`."""
    assert model is not None and encoder is not None
    return InProcessSampler(model, encoder, settings, name=name)


class InProcessSampler:
    """Writes with a model of this process: draws, the most likely token each time, or (diverse) beam search.

    What is written to a prompt is a function of the weights, the seed and the prompt, up to rounding: it does not
    matter which prompts are asked together or in which order.

    Args:
        model: the policy; it is sampled from with its library's own attention and without dropout.
        encoder: writes the prompts as the policy is asked them.
        settings: of which the number of responses is not read: `sample` is told.
        name: of the policy, for `Sampled.source`.
    """

    def __init__(self, model: CausalModel, encoder: Encoder, settings: SamplerSettings, *, name: str) -> None:
        self.model, self.encoder, self.settings, self.name = model, encoder, settings, name
        self.stops = sampler.StopTexts(settings.stop, encoder.text) if settings.stop else None
        self.weights = sampler.SamplingWeights(model, keeps=settings.resync > 1)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """See `trueup.sampling.sampler.Sampler`."""
        positions, longest = sampler.positions_of(self.model), self.settings.max_new_tokens
        encoded = [
            sampler.encode_prompt(prompt, self.encoder, positions=positions, max_new_tokens=longest)
            for prompt in prompts
        ]
        asked = [one for one in encoded if one is not None]
        written = iter(self._written(asked, responses, seed) if asked else [])
        source, version = self.name, self.weights.version
        return [
            tuple(
                one.sampled(self.encoder, self.stops, source=source, version=version) for one in next(written)
            )
            if prompt is not None
            else ()
            for prompt in encoded
        ]

    def _written(self, asked: Sequence[EncodedPrompt], responses: int, seed: int) -> list[list[Completion]]:
        device, dtype = self.model.device, self.model.autocast
        with (
            torch.no_grad(),
            self.weights.in_place(),
            self.model.without_dropout(),
            self.model.plain() as network,
            torch.autocast(device.type, dtype, enabled=dtype is not None),
        ):
            return self._decoded(network, asked, responses, seed)

    def _decoded(
        self, network: nn.Module, asked: Sequence[EncodedPrompt], responses: int, seed: int
    ) -> list[list[Completion]]:
        settings = self.settings
        ids, rooms = [one.ids for one in asked], [one.room for one in asked]
        longest = max(len(one.ids) + one.room for one in asked)
        batch_size = min(BATCH_SIZE, max(1, BATCH_TOKENS // longest))
        if settings.decode in ("beam", "diverse-beam") and responses > 1:
            return beam_search(
                network,
                ids,
                beams=responses,
                groups=responses if settings.decode == "diverse-beam" else 1,
                penalty=settings.diversity_penalty,
                end_ids=self.encoder.end_ids,
                rooms=rooms,
                batch_size=batch_size,
            )
        copies = responses if settings.decode == "sample" else 1  # what is not drawn is the same each time
        keys = sampler.response_keys(seed, ids, copies)
        written = generate(
            network,
            ids,
            copies,
            end_ids=self.encoder.end_ids,
            settings=settings,
            rooms=rooms,
            streams=lambda place, copy: sampler.uniforms(keys[place][copy], rooms[place]),
            watch=self.stops.watch if self.stops else None,
            batch_size=batch_size,
        )
        return [several * (responses // copies) for several in written]
