"""Responses from a model in this process, reproducible by a seed."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import nn

from trueup import stop
from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.sampling import decoding, sampler
from trueup.settings.gathering_settings import SamplerSettings

Written = list[list[sampler.Completion]]
BATCH_TOKENS = 32_768  # tokens of prompts and responses that are held in memory together, at most


class InProcessSampler:
    """Writes with a model of this process: draws, the most likely token each time, or (diverse) beam search.
    What is written to a prompt is a function of the weights, the seed and the prompt, up to rounding: it does not
    matter which prompts are asked together or in which order."""

    def __init__(self, settings: SamplerSettings, model: CausalModel, encoder: Encoder, *, name: str) -> None:
        self.model, self.encoder, self.settings, self.name = model, encoder, settings, name
        self.stops = sampler.StopTexts(settings.stop, encoder.text) if settings.stop else None
        self.served = False
        self.watch: decoding.Watch | None = None  # see `trueup.sampling.decoding.generate`
        self.over: Callable[[Any], AbstractContextManager[Any]] = nullcontext
        """Makes of the network the one to decode with; see `trueup.sampling.decoding.Mixture`."""
        self.weights = sampler.SamplingWeights(model, keeps=settings.resync > 1)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[sampler.Sampled, ...]]:
        positions, longest = sampler.positions_of(self.model), self.settings.max_new_tokens
        limits = {"positions": positions, "max_new_tokens": longest}
        encoded = [sampler.encode_prompt(prompt, self.encoder, **limits) for prompt in prompts]
        written = iter(self.written([one for one in encoded if one is not None], responses, seed))
        source, now = self.name, self.weights.version
        found = [() if prompt is None else next(written) for prompt in encoded]
        read = partial(sampler.Completion.sampled, encoder=self.encoder, stops=self.stops, source=source, version=now)
        return [tuple(map(read, several)) for several in found]

    def written(self, given: Sequence[sampler.EncodedPrompt], responses: int, seed: int) -> Written:
        if not given:
            return []
        device, dtype = self.model.device, self.model.autocast
        with (
            torch.no_grad(),
            self.weights.in_place(),
            self.model.without_dropout(),
            self.model.plain() as plain,
            self.over(plain) as network,
            torch.autocast(device.type, dtype, enabled=dtype is not None),
        ):
            return self._found(network, given, responses, seed)

    def _found(self, network: nn.Module, given: Sequence[sampler.EncodedPrompt], responses: int, seed: int) -> Written:
        settings = self.settings
        ids, rooms = [one.ids for one in given], [one.room for one in given]
        batch_size = min(decoding.BATCH_SIZE, max(1, BATCH_TOKENS // max(len(one.ids) + one.room for one in given)))
        decoder = decoding.Decoder(network, self.encoder.end_ids, len(self.encoder.tokenizer), batch_size)
        if settings.decode in ("beam", "diverse-beam") and responses > 1:
            groups = responses if settings.decode == "diverse-beam" else 1
            penalty = settings.diversity_penalty
            return beam_search(decoder, ids, beams=responses, groups=groups, penalty=penalty, rooms=rooms)
        copies = responses if settings.decode == "sample" else 1  # what is not drawn is the same each time
        keys = sampler.response_keys(seed, ids, copies)
        written = decoding.generate(
            decoder, ids, copies, settings=settings, rooms=rooms, keys=keys, stops=self.stops,
            watch=self.watch,
        )  # fmt: skip
        return [several * (responses // copies) for several in written]


make = InProcessSampler


class Beam(NamedTuple):
    row: int  # its place in the batch before its last token was added
    score: float  # sum of its log-probabilities, less penalties; minus infinity for one that only fills its place
    ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return self.score / len(self.ids)


@dataclass(eq=False)
class BeamGroup:
    """Beams of one prompt that compete with each other."""

    room: int
    beams: list[Beam]
    kept: list[Beam] = field(default_factory=list)
    """The best finished responses so far, best first; at most as many as beams."""
    taken: list[int] = field(default_factory=list)  # the tokens that its beams took at this step
    done: bool = False

    def take(self, found: Sequence[Beam], ends: frozenset[int]) -> None:
        """Go on after a step with candidates of one length, best first."""
        width = len(self.beams)
        over = [len(one.ids) == self.room or one.ids[-1] in ends for one in found]
        running = [one for one, ended in zip(found, over, strict=True) if not ended][:width]
        self.taken = [one.ids[-1] for one in running or found[:width]]
        leading = zip(found[:width], over[:width], strict=True)
        self.kept += [one for one, ended in leading if ended]
        self.kept = sorted(self.kept, key=lambda one: -one.mean)[:width]
        full = len(self.kept) == width
        self.done = not running or (full and running[0].mean <= self.kept[-1].mean)
        if not self.done:
            filling = running[0]._replace(score=-torch.inf)
            self.beams = running + [filling] * (width - len(running))


def beam_search(
    decoder: decoding.Decoder, prompts: Sequence[Sequence[int]], *, beams: int, groups: int, penalty: float,
    rooms: Sequence[int],
) -> Written:  # fmt: skip
    """The `beams` best responses to each prompt, best first; of diverse beam search the best of each group.
    `penalty` nats are taken off a token for every beam of an earlier group that took it."""
    assert beams % groups == 0, f"{beams} beams in {groups} groups"
    width = beams // groups
    found: Written = [[] for _ in prompts]
    for places, batch in decoder.batches(prompts, beams):
        rows = count()
        searched = [
            [
                BeamGroup(rooms[place], [Beam(next(rows), 0.0 if first else -torch.inf) for first in firsts])
                for firsts in [[True] + [False] * (width - 1)] * groups
            ]
            for place in places
        ]
        _search(decoder, batch, searched, penalty)
        for place, several in zip(places, searched, strict=True):
            best = several[0].kept if groups == 1 else [group.kept[0] for group in several]
            found[place] = [sampler.Completion.of(one.ids, one.log_probs, decoder.end_ids) for one in best]
    return found


def _search(
    decoder: decoding.Decoder, batch: decoding.CachedBatch, searched: Sequence[Sequence[BeamGroup]], penalty: float
) -> None:
    ends = frozenset(decoder.end_ids)
    while True:
        stop.check()
        log_prob_NV = batch.logits_NV.log_softmax(-1)[:, : decoder.vocabulary]
        for number in range(len(searched[0])):
            for several in searched:
                several[number].taken = []
            going = [several for several in searched if not several[number].done]
            if going:
                _step(log_prob_NV, going, number, penalty, ends)
        running = [group for several in searched for group in several if not group.done]
        if not running:
            return
        beams = [beam for group in running for beam in group.beams]
        batch.select([beam.row for beam in beams])
        rows = count()
        for group in running:
            group.beams = [beam._replace(row=next(rows)) for beam in group.beams]
        batch.advance(torch.tensor([beam.ids[-1] for beam in beams], device=log_prob_NV.device))


def _step(
    log_prob_NV: torch.Tensor, going: Sequence[Sequence[BeamGroup]], number: int, penalty: float,
    ends: frozenset[int],
) -> None:  # fmt: skip
    """Take group `number` of each prompt one token further."""
    device, vocabulary = log_prob_NV.device, log_prob_NV.shape[-1]
    beams_PB = [several[number].beams for several in going]
    row_PB = torch.tensor([[beam.row for beam in beams] for beams in beams_PB], device=device)
    score_PB = torch.tensor([[beam.score for beam in beams] for beams in beams_PB], device=device)
    own_PBV = less_PBV = log_prob_NV[row_PB]
    if number:
        taken_P1V = torch.zeros_like(own_PBV[:, :1])  # how many beams of earlier groups took each token now
        for place, several in enumerate(going):
            for token in (token for group in several[:number] for token in group.taken):
                taken_P1V[place, 0, token] += 1
        less_PBV = own_PBV - penalty * taken_P1V
    total_PBV = score_PB[:, :, None] + less_PBV
    width = row_PB.shape[1]
    total_PC, at_PC = total_PBV.flatten(1).topk(min((1 + max(1, len(ends))) * width, width * vocabulary))
    own_PC = own_PBV.flatten(1).gather(1, at_PC)
    lists = (total_PC.tolist(), at_PC.tolist(), own_PC.tolist())
    for several, beams, totals, ats, owns in zip(going, beams_PB, *lists, strict=True):
        found = []
        for total, at, own in zip(totals, ats, owns, strict=True):
            beam, token = beams[at // vocabulary], at % vocabulary
            if total > -torch.inf:
                found.append(Beam(beam.row, total, (*beam.ids, token), (*beam.log_probs, own)))
        several[number].take(found, ends)
