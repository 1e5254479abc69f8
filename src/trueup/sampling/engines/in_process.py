"""Responses from a model in this process, reproducible by a seed."""

from collections.abc import Sequence

import torch
from torch import nn

from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.sampling import sampler
from trueup.sampling.beam import beam_search
from trueup.sampling.decoding import BATCH_SIZE, Decoder, Watch, generate
from trueup.sampling.sampler import Completion, EncodedPrompt, Sampled
from trueup.settings.gathering_settings import SamplerSettings

BATCH_TOKENS = 32_768
"""Tokens of prompts and responses that are held in memory together, at most."""


class InProcessSampler:
    """Writes with a model of this process: draws, the most likely token each time, or (diverse) beam search.

    What is written to a prompt is a function of the weights, the seed and the prompt, up to rounding: it does not
    matter which prompts are asked together or in which order.

    Args:
        settings: of which the number of responses is not read: `sample` is told.
        model: the policy; it is sampled from with its library's own attention and without dropout.
        encoder: writes the prompts as the policy is asked them.
        name: of the policy, for `Sampled.source`.
    """

    def __init__(self, settings: SamplerSettings, model: CausalModel, encoder: Encoder, *, name: str) -> None:
        self.model, self.encoder, self.settings, self.name = model, encoder, settings, name
        self.stops = sampler.StopTexts(settings.stop, encoder.text) if settings.stop else None
        self.served = False
        self.watch: Watch | None = None
        """See `trueup.sampling.decoding.generate`."""
        self.weights = sampler.SamplingWeights(model, keeps=settings.resync > 1)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """See `trueup.sampling.sampler.Sampler`."""
        positions, longest = sampler.positions_of(self.model), self.settings.max_new_tokens
        encoded = [
            sampler.encode_prompt(prompt, self.encoder, positions=positions, max_new_tokens=longest)
            for prompt in prompts
        ]
        written = iter(self.written([one for one in encoded if one is not None], responses, seed))
        source, version = self.name, self.weights.version
        found = [() if prompt is None else next(written) for prompt in encoded]
        return [
            tuple(one.sampled(self.encoder, self.stops, source=source, version=version) for one in several)
            for several in found
        ]

    def written(self, given: Sequence[EncodedPrompt], responses: int, seed: int) -> list[list[Completion]]:
        """As `sample`, of and as token ids."""
        if not given:
            return []
        device, dtype = self.model.device, self.model.autocast
        with (
            torch.no_grad(),
            self.weights.in_place(),
            self.model.without_dropout(),
            self.model.plain() as network,
            torch.autocast(device.type, dtype, enabled=dtype is not None),
        ):
            return self._decoded(network, given, responses, seed)

    def _decoded(
        self, network: nn.Module, given: Sequence[EncodedPrompt], responses: int, seed: int
    ) -> list[list[Completion]]:
        settings = self.settings
        ids, rooms = [one.ids for one in given], [one.room for one in given]
        batch_size = min(BATCH_SIZE, max(1, BATCH_TOKENS // max(len(one.ids) + one.room for one in given)))
        decoder = Decoder(network, self.encoder.end_ids, len(self.encoder.tokenizer), batch_size)
        if settings.decode in ("beam", "diverse-beam") and responses > 1:
            groups = responses if settings.decode == "diverse-beam" else 1
            penalty = settings.diversity_penalty
            return beam_search(decoder, ids, beams=responses, groups=groups, penalty=penalty, rooms=rooms)
        copies = responses if settings.decode == "sample" else 1  # what is not drawn is the same each time
        keys = sampler.response_keys(seed, ids, copies)
        written = generate(
            decoder,
            ids,
            copies,
            settings=settings,
            rooms=rooms,
            keys=keys,
            stops=self.stops,
            watch=self.watch,
        )
        return [several * (responses // copies) for several in written]


make = InProcessSampler
"""See `trueup.sampling.engines.make_engine`."""
