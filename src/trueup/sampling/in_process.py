"""Responses from a model in this process, reproducible by a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.sampling.asked import Asked, ask
from trueup.sampling.beam import beam_search
from trueup.sampling.drawn import Drawn as Drawn
from trueup.sampling.drawn import Sampling as Sampling
from trueup.sampling.sampler import Sampled
from trueup.sampling.stop import Stops
from trueup.sampling.streams import keys, uniforms
from trueup.sampling.weights import SamplingWeights
from trueup.sampling.write import write
from trueup.settings.sampler_settings import SamplerSettings

BATCH_SIZE = 256
"""Responses computed together, at most; of no influence on what is drawn, but for rounding."""
BATCH_TOKENS = 32_768
"""Tokens of prompts and responses that are held in memory together, at most."""


@torch.no_grad()
def draw(
    network: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    sampling: Sampling,
    generator: torch.Generator,
    batch_size: int = BATCH_SIZE,
) -> list[Drawn]:
    """One response for each prompt, in order.

    Args:
        network: a transformers model with the library's own attention (`CausalModel.plain`); its dropout is off
            while sampling.
        prompts: token ids, none of them empty.
        end_ids: tokens that end a response.
        generator: the only source of randomness, on the CPU. One number is taken from it, unless the temperature is 0;
            it and the place of a prompt among `prompts` decide what is drawn.
        batch_size: prompts computed together; of no influence on what is drawn, but for rounding.

    Raises:
        InputError: the model cannot be sampled from in this process.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator)) if sampling.temperature else 0
    training = network.training
    network.eval()
    try:
        written = write(
            network, prompts, 1, end_ids=end_ids, sampling=sampling,
            rooms=[sampling.max_new_tokens] * len(prompts),
            streams=lambda place, copy: uniforms(b"%d:%d" % (seed, place), sampling.max_new_tokens),
            batch_size=batch_size,
        )  # fmt: skip
    finally:
        network.train(training)
    return [one for (one,) in written]


class InProcessSampler:
    """Writes with a model of this process: draws, the most likely token each time, or (diverse) beam search.

    What is written to a prompt is a function of the weights, the seed and the prompt, up to rounding: it does not
    matter which prompts are asked together or in which order.

    Args:
        model: the policy; it is sampled from with its library's own attention and without dropout.
        encoder: writes the prompts as the policy is asked them.
        settings: of which the number of responses is not read: `sample` is told.
        name: of the policy, for `Sampled.source`.
        poll: called before each token; may raise to stop.
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
        """See `trueup.sampling.sampler.Sampler`."""
        asked = ask(prompts, self.encoder, self.model, self.settings.max_new_tokens)
        if asked.ids:
            with torch.no_grad(), self.weights.in_place(), self.model.without_dropout():
                device, dtype = self.model.device, self.model.autocast
                with (
                    self.model.plain() as network,
                    torch.autocast(device.type, dtype, enabled=dtype is not None),
                ):
                    written = self._written(network, asked, responses, seed)
        else:
            written = []
        source, version = self.name, self.weights.version
        return asked.sampled(written, self.encoder, self.stops, source=source, version=version)

    def refresh(self, version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.weights.refresh(version)

    def state(self) -> Mapping[str, Tensor]:
        """See `trueup.sampling.sampler.Sampler`."""
        return self.weights.state()

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.weights.restore(tensors, version)

    def _written(self, network: nn.Module, asked: Asked, responses: int, seed: int) -> list[list[Drawn]]:
        settings = self.settings
        longest = max(len(ids) + room for ids, room in zip(asked.ids, asked.rooms, strict=True))
        batch_size = min(BATCH_SIZE, max(1, BATCH_TOKENS // longest))
        if settings.decode in ("beam", "diverse-beam") and responses > 1:
            return beam_search(
                network, asked.ids, beams=responses, groups=responses if settings.decode == "diverse-beam" else 1,
                penalty=settings.diversity_penalty, end_ids=self.encoder.end_ids, rooms=asked.rooms,
                batch_size=batch_size, poll=self.poll,
            )  # fmt: skip
        drawing = settings.decode == "sample"
        sampling = Sampling(
            max(asked.rooms), settings.temperature if drawing else 0.0, settings.top_p, settings.top_k
        )
        copies = responses if drawing else 1  # what is not drawn is the same each time
        key = keys(seed, asked.ids, copies)
        written = write(
            network, asked.ids, copies, end_ids=self.encoder.end_ids, sampling=sampling, rooms=asked.rooms,
            streams=lambda place, copy: uniforms(key[place][copy], asked.rooms[place]),
            watch=self.stops.watch if self.stops else None, batch_size=batch_size, poll=self.poll,
        )  # fmt: skip
        return [several * (responses // copies) for several in written]
