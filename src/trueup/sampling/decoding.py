"""Responses of a model in this process as token ids, token by token: drawn, or the most likely token each time.
Prompts are computed once and their cache is copied for each response; responses that are done leave the batch.
Shape suffixes: N sequences, L tokens of the longest (padded on the left), V vocabulary."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from trueup import errors, stop
from trueup.models import captured
from trueup.models.causal import CausalModel, evaluation_mode
from trueup.sampling.sampler import Completion, StopTexts, longest_response, uniforms
from trueup.settings.gathering_settings import SamplerSettings
from trueup.words import logger, one_line

BATCH_SIZE = 256  # responses computed together, at most; of no influence on what is drawn, but for rounding
LEAVING = 8
"""Sequences leave the batch when at least one in so many of it is done: copying the cache costs about as much as one
step, recording steps anew some more."""
Watch = Callable[[Sequence[int]], None]
_SLACK = 1e-6  # rounding of float32 probabilities, by which a sum that reaches top-p exactly may miss it


class CachedBatch:
    """Sequences that grow together, and the cache of what a model computed of them: copied, reordered, thinned out.
    The network has the library's own attention (`CausalModel.plain`). InputError: its cache cannot be copied."""

    def __init__(self, network: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._network = network
        device = next(network.parameters()).device
        width = max(len(prompt) for prompt in prompts)
        token_NL = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        self._mask_NL = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        position_NL = (self._mask_NL.cumsum(1) - 1).clamp(min=0)
        self._position_N, self._token_N = position_NL[:, -1], token_NL[:, -1]
        self._cache: Any = None
        self._steps: captured.Steps | None = None
        self.logits_NV = self._computed(token_NL, position_NL)  # [N, V] float32, for the next token of each sequence
        if not hasattr(self._cache, "reorder_cache"):
            raise errors.InputError(
                f"the model, a {type(network).__name__}, keeps no cache that can be copied, so trueup cannot sample "
                "from it in this process. Serve it, and give --sampler.engine server with --sampler.base_url"
            )

    def __len__(self) -> int:
        return len(self._mask_NL)

    @property
    def leaving(self) -> int:
        return min(2, LEAVING) if self._steps else LEAVING

    def record(self, room: int) -> None:
        """Have each further step replayed, where this device can; there will be `room` of them at most."""
        device = self._mask_NL.device
        pairs = captured.pairs_of(self._network, self._cache, device)
        if pairs is None or room < captured.WORTH:
            return
        given = self._mask_NL, self._token_N, self._position_N, self.logits_NV
        try:
            self._steps = captured.Steps(self._network, pairs, *given, room)
        except RuntimeError as error:
            kind = type(self._network)
            captured.REFUSED.add(kind)
            logger.warning(f"steps of this {kind.__name__} are not replayed ({one_line(error)}): sampling is slower")
        else:
            self._cache = None

    def select(self, places: Sequence[int]) -> None:
        """Go on with these sequences in this order: one may be left out, or be there several times."""
        if list(places) == list(range(len(self))):
            return
        steps, self._steps = self._steps, None
        if steps:
            self._cache = steps.cache()
        index_N = torch.tensor(list(places), device=self._mask_NL.device)
        self._cache.reorder_cache(index_N)
        for name in ("_mask_NL", "_position_N", "_token_N", "logits_NV"):
            setattr(self, name, getattr(self, name).index_select(0, index_N))
        if steps:
            self.record(steps.room)

    def advance(self, token_N: torch.Tensor) -> None:
        self._mask_NL = torch.cat([self._mask_NL, torch.ones_like(self._mask_NL[:, :1])], 1)
        self._position_N, self._token_N = self._position_N + 1, token_N
        if self._steps:
            self.logits_NV = self._steps.advance(token_N)
        else:
            self.logits_NV = self._computed(token_N[:, None], self._position_N[:, None])

    def _computed(self, token_NL: torch.Tensor, position_NL: torch.Tensor) -> torch.Tensor:
        output = self._network(
            input_ids=token_NL, attention_mask=self._mask_NL, position_ids=position_NL,
            past_key_values=self._cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        self._cache = output.past_key_values
        logits_NV: torch.Tensor = output.logits[:, -1].float()
        return logits_NV


@dataclass(frozen=True, slots=True)
class Decoder:
    network: Any  # a transformers model with the library's own attention (`CausalModel.plain`), its dropout off
    end_ids: Sequence[int]
    vocabulary: int | None = None
    """Tokens of the tokenizer, where the model has rows for more: those say nothing and are never written."""
    batch_size: int = BATCH_SIZE

    def batches(self, prompts: Sequence[Sequence[int]], copies: int) -> Iterator[tuple[list[int], CachedBatch]]:
        """Places of prompts, those of about one length together, and the batch of so many copies of each."""
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))  # little padding
        together = max(1, self.batch_size // copies)
        for start in range(0, len(order), together):
            places = order[start : start + together]
            batch = CachedBatch(self.network, [prompts[place] for place in places])
            batch.select([number for number in range(len(places)) for _ in range(copies)])
            yield places, batch


@torch.no_grad()
def draw(
    decoder: Decoder, prompts: Sequence[Sequence[int]], *, settings: SamplerSettings,
    generator: torch.Generator,
) -> list[Completion]:  # fmt: skip
    """One response for each prompt, in order.
    One number of `generator`, on the CPU, and the place of a prompt decide what is drawn."""
    random = settings.decode == "sample"
    seed = int(torch.randint(2**63 - 1, (), generator=generator)) if random else 0
    rooms = [longest_response(settings.max_new_tokens, None)] * len(prompts)
    keys = [[b"%d:%d" % (seed, place)] for place in range(len(prompts))]
    with evaluation_mode(decoder.network):
        written = generate(decoder, prompts, 1, settings=settings, rooms=rooms, keys=keys)
    return [one for (one,) in written]


def generate(
    decoder: Decoder, prompts: Sequence[Sequence[int]], copies: int, *, settings: SamplerSettings,
    rooms: Sequence[int], keys: Sequence[Sequence[bytes]], stops: StopTexts | None = None,
    watch: Watch | None = None,
) -> list[list[Completion]]:  # fmt: skip
    """`copies` responses to each prompt, in order.
    `rooms` are the longest responses, in tokens; `keys`, for each prompt and copy, those of its random numbers;
    `watch` is called with the token ids of the first response of a batch whenever it has one more."""
    found: list[list[Completion]] = [[] for _ in prompts]
    for places, batch in decoder.batches(prompts, copies):
        room_N = [rooms[place] for place in places for _ in range(copies)]
        numbers_NL = None
        if settings.decode == "sample":
            numbers_NL = torch.zeros(len(batch), max(room_N), dtype=torch.float64)
            for row, room in enumerate(room_N):
                own = uniforms(keys[places[row // copies]][row % copies], room)
                numbers_NL[row, :room] = torch.from_numpy(own)
        written = _written(decoder, batch, room_N, settings, numbers_NL, stops, watch)
        for number, place in enumerate(places):
            found[place] = written[number * copies : (number + 1) * copies]
    return found


def _written(
    decoder: Decoder, batch: CachedBatch, room_N: Sequence[int], settings: SamplerSettings,
    numbers_NL: torch.Tensor | None, stops: StopTexts | None, watch: Watch | None,
) -> list[Completion]:  # fmt: skip
    ends = frozenset(decoder.end_ids)
    ids: list[list[int]] = [[] for _ in room_N]
    log_probs: list[list[float]] = [[] for _ in room_N]
    here = list(range(len(room_N)))  # the response at each place of the batch
    done: set[int] = set()
    batch.record(max(room_N))
    for step in range(max(room_N)):
        stop.check()
        uniform_N = None if numbers_NL is None else numbers_NL[here, step]
        token_N, log_prob_N = next_tokens(batch.logits_NV, settings, uniform_N, decoder.vocabulary)
        for row, token, log_prob in zip(here, token_N.tolist(), log_prob_N.tolist(), strict=True):
            if row in done:
                continue
            ids[row].append(token)
            log_probs[row].append(log_prob)
            ended = token in ends or len(ids[row]) == room_N[row]
            if ended or (stops is not None and stops.complete(ids[row])):
                done.add(row)
        if watch is not None and 0 in here:
            watch(ids[0])
        alive = [place for place, row in enumerate(here) if row not in done]
        if not alive:
            break
        if batch.leaving * (len(here) - len(alive)) >= len(here):
            batch.select(alive)
            here = [here[place] for place in alive]
            token_N = token_N[alive]
        batch.advance(token_N)
    return [Completion.of(*written, ends) for written in zip(ids, log_probs, strict=True)]


def next_tokens(
    logits_NV: torch.Tensor, settings: SamplerSettings, uniform_N: torch.Tensor | None, vocabulary: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, by inverting the distribution function: [N] int64, and [N] float32 log-probabilities of the
    model itself in nats.

    A row's token is a function of its own logits (float32) and its own number (float64 in [0, 1); None takes the most
    likely token) alone, so that it does not matter which rows are computed together. Logits are divided by the
    temperature first, then top-k cuts, then top-p; only the first `vocabulary` tokens are taken."""
    offered_NV = logits_NV[:, :vocabulary]
    if uniform_N is None:
        token_N = offered_NV.argmax(-1)
    else:
        token_N = _inverse((offered_NV / settings.temperature).softmax(-1), settings, uniform_N)
    log_prob_N = logits_NV.gather(-1, token_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    return token_N, log_prob_N


def _inverse(probability_NV: torch.Tensor, settings: SamplerSettings, uniform_N: torch.Tensor) -> torch.Tensor:
    """[N] int64 on the device of the probabilities; computed in float64, on the CPU where a device has none."""
    device = probability_NV.device
    weight_NV = probability_NV.to("cpu" if device.type == "mps" else device, torch.float64)
    if not settings.top_k and settings.top_p >= 1:
        return _inverted(weight_NV, uniform_N).to(device)
    # Of equals the first in the vocabulary comes first.
    weight_NV, token_NV = weight_NV.sort(descending=True, stable=True)
    if settings.top_k:
        weight_NV[:, settings.top_k :] = 0.0
    if settings.top_p < 1:
        before_NV = weight_NV.cumsum(-1) - weight_NV
        enough_N1 = settings.top_p * weight_NV.sum(-1, keepdim=True) - _SLACK
        enough_N1 = enough_N1.clamp(min=torch.finfo(torch.float64).tiny)  # the most likely one always stays
        weight_NV = weight_NV.masked_fill(before_NV >= enough_N1, 0.0)
    return token_NV.gather(-1, _inverted(weight_NV, uniform_N)[:, None])[:, 0].to(device)


def _inverted(weight_NV: torch.Tensor, uniform_N: torch.Tensor) -> torch.Tensor:
    """[N] int64 places, each with a probability proportional to its weight; never one without any."""
    sum_NV = weight_NV.cumsum(-1)
    total_N = sum_NV[:, -1]
    below_N = torch.nextafter(total_N, torch.zeros_like(total_N))
    target_N = torch.minimum(uniform_N.to(total_N.device) * total_N, below_N)
    return torch.searchsorted(sum_NV, target_N[:, None], right=True)[:, 0]


@dataclass(frozen=True, slots=True)
class Mixture:
    """The geometric mixture of a policy and its reference, as a network to decode with.
    Every token is drawn from p(v) proportional to pi(v)^(1 - a) pi_ref(v)^a, by which Munos et al. approximate the
    mixture of whole responses (2023, https://arxiv.org/abs/2312.00886)."""

    weight: float  # a; 1 is the reference alone
    placed: Callable[[], AbstractContextManager[CausalModel]]
    """The model with the reference's weights in place; see `trueup.references.reference.Reference`."""
    apart: Sequence[CausalModel]  # those that the reference holds beside the policy

    @contextmanager
    def over(self, network: Any) -> Iterator[Any]:
        """The policy's network as one that computes the mixture."""
        with ExitStack() as stack:
            for model in self.apart:
                stack.enter_context(model.plain())
            yield _Mixed(network, self)


@dataclass(frozen=True, slots=True)
class _Caches:
    of: Sequence[Any]

    def reorder_cache(self, index_N: torch.Tensor) -> None:
        for one in self.of:
            one.reorder_cache(index_N)


@dataclass(frozen=True, slots=True)
class _Mixed:
    network: Any
    mixture: Mixture

    def parameters(self) -> Iterator[torch.Tensor]:
        parameters: Iterator[torch.Tensor] = self.network.parameters()
        return parameters

    def __call__(self, *, past_key_values: _Caches | None, **given: Any) -> Any:
        weight = self.mixture.weight
        parts: list[tuple[float, AbstractContextManager[Any]]] = [(weight, self.mixture.placed())]
        if weight < 1:
            parts.append((1 - weight, nullcontext(SimpleNamespace(network=self.network))))
        logits: Any = 0.0
        caches = []
        for place, (share, placed) in enumerate(parts):
            with placed as model:
                cache = past_key_values.of[place] if past_key_values else None
                made = model.network(past_key_values=cache, **given)
            logits = logits + share * made.logits.float()
            caches.append(made.past_key_values)
        return SimpleNamespace(logits=logits, past_key_values=_Caches(caches))
