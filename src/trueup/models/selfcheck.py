"""Does the stream compute this model's function? Asked on the first batch, before anything is trained.

Attention that ignores the layout (state-space layers, positions taken from the index), a window that stands in the
library's own mask alone, or a head that is more than a linear map would make every log-probability wrong without a
word. The check compares with the library's own forward pass of each row by itself, up to the lengths at which the
model changes what it does, and falls back to padded rows, or refuses. What a model does in training alone is found
in the same way.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trueup.batch.rows import Demonstrations
from trueup.batch.stream import Stream, build_stream, collate_batch
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.model_folder import context_length
from trueup.models import head, reward
from trueup.models.attention import Backend, UnsupportedAttention, automatic, backend, padded
from trueup.models.causal import CausalModel, StreamModel, evaluation_mode
from trueup.parallel.processes import every
from trueup.words import one_line

Numbers = Callable[[Stream], torch.Tensor]


@dataclass(frozen=True, slots=True)
class ChosenAttention:
    """The attention backend to use, and why, in one line for the user; empty when there is nothing to say."""

    attention: str
    message: str


LENGTHS = re.compile(
    r"window|chunk|original_max_position|local_attention|index_topk|budget|compress|block_size|extent|floor|max_distance"
)
"""Numbers of a configuration beyond which a row may be computed otherwise than a shorter one."""
BLOCKS = re.compile("compress|block_size")
"""Those of them that may be tokens of one of the blocks of which a sparse attention takes the best."""
COMPILER = "inductor"
SCORED = 64
"""Tokens compared of a response that is made up."""


def check_attention(
    model: StreamModel, groups: Sequence[TokenGroup[Any]], wanted: str | None, longest: int = 0
) -> ChosenAttention:
    """Choose the attention backend, wanted or the fastest that is exact; the model's own is left as it was.
    Tried on `groups` of the first batch, and on rows made up that pass every length at which the model changes."""
    stream = probe(groups, telling_length(model.inner.config, longest)).to(model.device)
    with torch.no_grad(), model.without_dropout():
        read, naive, what = _numbers(model)
        expected = naive(stream)
        refused: list[tuple[Backend, str]] = []
        for one in automatic(model.device) if wanted is None else [backend(wanted)]:
            reason = _difference(model, stream, one, (read, naive), expected, what)
            if reason is None:
                told = [f"{other.title} does not fit this model ({why})" for other, why in refused]
                return ChosenAttention(one.name, "; ".join([*told, one.instead]) if refused else "")
            refused.append((one, reason))
    kind, reasons = type(model.inner).__name__, "; ".join(reason for _, reason in refused)
    raise InputError(
        f"the {what} of this {kind} cannot be reproduced ({reasons}), so nothing trained on "
        "them could be trusted. Choose another model, or another --attention"
    )


def compile_layers(models: Sequence[StreamModel], groups: Sequence[TokenGroup[Any]]) -> None:
    """Compile the decoder layers of a policy and of what its reference holds, for streams of any length: what lies
    before and after attention, which stays as it is. InputError: it cannot be done, or changes what the policy says."""
    policy = models[0]
    (read, _, what), stream = _numbers(policy), probe(groups).to(policy.device)
    if (name := policy.backend.implementation) is not None:
        AttentionInterface.register(name, torch.compiler.disable(ALL_ATTENTION_FUNCTIONS[name]))
    with torch.no_grad(), policy.without_dropout():
        expected = read(stream)
        for layer in (layer for model in models for layer in model.layers):
            layer.compile(dynamic=True, backend=COMPILER)
        try:
            gap = float((read(stream) - expected).abs().max())
        except RuntimeError as error:  # torch's of what it cannot trace, and of a compiler that is missing
            raise InputError(
                f"compile needs a C++ compiler, or Triton on a GPU, and failed: {one_line(error)}. Leave it out"
            ) from error
    if not gap <= (limit := rounding(policy)):
        raise InputError(f"compiled, the {what} are off by {gap:.2g}, more than {limit:.2g}; leave compile out")


def keep_as_at_inference(model: StreamModel, groups: Sequence[TokenGroup[Any]]) -> list[str]:
    """Find what a model, but for LoRA's dropout, computes otherwise in training, and keep it as at inference.
    A policy trained as another function than its reference has would differ from it at equal weights."""
    stream, (read, _, _) = probe(groups).to(model.device), _numbers(model)
    modules: dict[type, list[torch.nn.Module]] = {}
    for name, module in model.network.named_modules():
        if module.training and "lora_dropout" not in name:
            modules.setdefault(type(module), []).append(module)

    def numbers(*kinds: type) -> torch.Tensor:
        """What is read of the model with modules of these kinds as in training."""
        with evaluation_mode(model.network), torch.random.fork_rng():
            for kind in kinds:
                for module in modules[kind]:
                    module.training = True
            return read(stream)

    with torch.no_grad():
        expected = numbers()
        if torch.equal(numbers(*modules), expected):
            return []
        kept = [kind for kind in modules if not torch.equal(numbers(kind), expected)]
        for kind in kept:
            for module in modules.pop(kind):
                module.training = False
        if not torch.equal(numbers(*modules), expected):
            raise InputError(
                f"this {type(model.inner).__name__} computes something else in training than at inference, and which "
                "of its modules does could not be found, so that nothing trained on it could be trusted. Choose "
                "another model"
            )
    return [kind.__name__ for kind in kept]


def _numbers(model: StreamModel) -> tuple[Numbers, Numbers, str]:
    """How the numbers that count are read of a model, how the library alone computes them, and their name."""
    if isinstance(model, reward.RewardModel):
        return lambda given: model.outputs(given).score_N, partial(reward.naive_scores, model), "scores"
    assert isinstance(model, CausalModel)
    return lambda given: model.log_probs(given).token_S, partial(naive_log_probs, model), "log-probabilities"


def telling_length(config: Any, longest: int) -> int:
    """Tokens of a row longer than every window and first context that rows of `longest` tokens pass, or 0."""
    longest = min(longest, context_length(config) or longest)
    found = [*_lengths(config.to_dict())]
    blocks = [number for key, number in found if BLOCKS.search(key)]
    taken = [number * block for key, number in found if "topk" in key for block in blocks]
    passed = [number for number in (*taken, *(number for _, number in found)) if 0 < number < longest]
    return min(longest, max(passed) * 3 // 2 + 8) if passed else 0


def _lengths(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _lengths(value)
        elif LENGTHS.search(str(key)):
            several = value if isinstance(value, list | tuple) else [value]
            yield from ((key, one) for one in several if isinstance(one, int) and not isinstance(one, bool))


def probe(groups: Sequence[TokenGroup[Any]], length: int = 0) -> Stream:
    """Two groups of two responses or more, so that a leak would show, and one of `length` tokens if none is."""
    first, second = min(groups, key=lambda group: group.num_tokens), groups[0]
    other = (*first.responses, *second.responses)
    sides = ((first.prompt, other[:3]), (second.prompt, (*reversed(other[:3]),)))
    probed = [TokenGroup(prompt, responses, None) for prompt, responses in sides]
    if length > max(len(one.prompt) + len(row.ids) for one in probed for row in one.responses):
        text = np.resize(np.concatenate([second.prompt, *(row.ids for row in other)]), length)
        start = length * 2 // 3
        made = [
            TokenRow(ids, np.arange(len(ids)) >= len(ids) - SCORED)
            for ids in (text[start:], text[start : (start + length) // 2 + 1])
        ]
        probed.append(TokenGroup(text[:start], tuple(made), None))
    return build_stream(probed)


def naive_log_probs(model: CausalModel, stream: Stream) -> torch.Tensor:
    """[S] the library's own forward pass of each row by itself and log-softmax, at the model's own precision."""
    found = []
    keeps = "logits_to_keep" in signature(model.inner.forward).parameters
    with model.plain():
        sources = stream.position_T[stream.source_S].split(stream.length_N.tolist())
        for place_L, source in zip(padded.row_places(stream), sources, strict=True):
            row = {"input_ids": stream.token_T[place_L[place_L >= 0]][None], "use_cache": False}
            output: Any = model.by_library(**row, **({"logits_to_keep": source} if keeps else {}))
            found.append(output.logits[0] if keeps else output.logits[0].index_select(0, source))
    log_prob_SV: torch.Tensor = (torch.cat(found).float() / model.temperature).log_softmax(-1)
    return log_prob_SV.gather(-1, stream.target_S[:, None])[:, 0]


def rounding(model: StreamModel) -> float:
    """What two ways to compute a log-probability may differ by at the precision of a model's weights."""
    # The engine that shards a model has it compute in the precision that it was sharded for.
    sharded = model.products if model.autocast is None else None
    dtype = sharded or next(model.network.parameters()).dtype
    return 1e-3 if dtype == torch.float32 else 32 * torch.finfo(dtype).eps


class RowGap(NamedTuple):
    """How far a stream is from its rows by themselves."""

    rows: int
    values: float
    """Largest difference of a log-probability or score."""
    gradients: float
    """Norm of the difference of the gradients, as a part of their norm."""


def compare_rows(model: StreamModel, groups: Sequence[TokenGroup[Any]]) -> RowGap:
    """Compare what is read of a stream, and its gradient, with the library's own forward pass of each row by itself.

    The rows are made of the token groups; nothing that lays out a stream has a part in them. Both are computed at the
    precision of the weights and without dropout, and differentiated along one direction.

    Args:
        model: on its device, its attention chosen; its gradients are taken away.
    """
    trained, before, (read, _, _) = [*model.trainable().values()], model.autocast, _numbers(model)
    if next(model.network.parameters()).dtype == torch.float32:
        model.autocast = None

    def gradients() -> list[torch.Tensor]:
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
        for one in trained:
            one.grad = None
        return found

    gradients()
    try:
        with model.without_dropout():
            got = read(collate_batch(groups, Demonstrations.collate).to(model.device).stream)
            direction = torch.randn(len(got), generator=torch.Generator().manual_seed(0)).to(got)
            (got * direction).sum().backward()
            of_stream, values, rows = gradients(), [torch.zeros(0).to(got)], 0
            with model.plain() as network:
                for prompt, row in ((group.prompt, row) for group in groups for row in group.responses):
                    found, rows = _row(model, network, prompt, row), rows + 1
                    done = sum(map(len, values))
                    (found * direction[done : done + len(found)]).sum().backward()
                    values.append(found.detach())
    finally:
        model.autocast = before
    of_rows, expected = gradients(), torch.cat(values)
    assert len(expected) == len(got)
    apart, norm = (
        float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in several])))
        for several in ([a - b for a, b in zip(of_stream, of_rows, strict=True)], of_rows)
    )
    return RowGap(rows, float((got.detach() - expected).abs().max()), apart / max(norm, 1e-30))


def _row(model: StreamModel, network: Any, prompt: np.ndarray, row: TokenRow) -> torch.Tensor:
    """[R] log-probabilities of a row's scored tokens, or [1] its score."""
    ids = torch.from_numpy(np.concatenate([prompt, row.ids]).astype(np.int64)).to(model.device)
    if isinstance(model, reward.RewardModel):
        scores: torch.Tensor = network(input_ids=ids[None], use_cache=False).logits[0].float()
        return scores
    assert isinstance(model, CausalModel)
    place = torch.from_numpy(row.scored.nonzero()[0]).to(model.device) + len(prompt)
    logits: torch.Tensor = network(input_ids=ids[None], use_cache=False).logits[0, place - 1].float()
    return (logits / model.temperature).log_softmax(-1).gather(-1, ids[place][:, None])[:, 0]


def _difference(
    model: StreamModel,
    stream: Stream,
    tried: Backend,
    both: tuple[Numbers, Numbers],
    expected: torch.Tensor,
    what: str,
) -> str | None:
    """Why a backend is not exact, or None. One that computes in half precision may be off by twice what the library
    itself is in that precision, or by the rounding of one log-probability, or a tenth of a gradient."""
    before, autocast, (read, naive) = model.attention, model.autocast, both
    parameter, tolerance = next(model.network.parameters()), rounding(model)
    half = tried.half and tried.supports(model.device) and parameter.dtype == torch.float32
    own = apart = 0.0
    if tried.name == "forked" and model.apart is not None:
        return "its rotary frequencies hang on the length of a whole row"
    try:
        told = tried.foreign
        gradient_H = _gradient(model, naive, stream) if told else torch.ones(1)
        if half and autocast is not None:
            with torch.autocast(model.device.type, dtype=autocast):
                tolerance = 2 * float((naive(stream) - expected).abs().max())
                tolerance = max(tolerance, 32 * torch.finfo(autocast).eps)
                own = 2 * _apart(_gradient(model, naive, stream), gradient_H) if told else 0.0
        model.set_attention(tried.name)
        model.autocast = None if parameter.dtype == torch.float32 and not half else autocast
        got = read(stream)
        apart = _apart(_gradient(model, read, stream), gradient_H) if told else 0.0
    except Exception as error:  # a kernel, or the library's cache, may raise anything; it is named, and not taken
        if not tried.foreign and not isinstance(error, UnsupportedAttention | head.UnsupportedHead):
            raise
        return one_line(error)
    finally:
        model.autocast = autocast
        model.set_attention(before)
    gap = float((got - expected).abs().max())
    if not every(gap <= tolerance):
        return f"{what} are off by up to {gap:.2g}"
    return None if every(apart <= max(own, min(tolerance, 0.1))) else f"gradients are off by {apart:.1g} of their norm"


def _apart(found_H: torch.Tensor, expected_H: torch.Tensor) -> float:
    return float((found_H - expected_H).norm() / expected_H.norm())


def _gradient(model: StreamModel, read: Numbers, stream: Stream) -> torch.Tensor:
    """[H] of what is read, along one direction, in something added to the embedding of every token: all that later
    layers take of earlier tokens has its part in it."""
    embedding = model.inner.get_input_embeddings()
    added_H = torch.zeros(embedding.weight.shape[-1], device=model.device, requires_grad=True)
    hook = embedding.register_forward_hook(lambda _, given, output: output + added_H.to(output.dtype))
    try:
        with torch.enable_grad():
            values = read(stream)
            direction = torch.randn(len(values), generator=torch.Generator().manual_seed(0)).to(values)
            return torch.autograd.grad(values, added_H, direction)[0]
    finally:
        hook.remove()
