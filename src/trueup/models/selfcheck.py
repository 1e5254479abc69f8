"""Does the stream compute this model's function? Asked on the first batch, before anything is trained.

Attention that ignores the layout (state-space layers, positions taken from the index) or a head that is more
than a linear map would make every log-probability wrong without a word. The check compares with the library's
own forward pass and falls back to padded rows, or refuses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trueup.batch.stream import Stream, build_stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.models.attention import Backend, UnsupportedAttention, automatic, backend
from trueup.models.attention.padded import padded_rows
from trueup.models.causal import CausalModel, StreamModel
from trueup.models.head import UnsupportedHead
from trueup.models.reward import RewardModel, naive_scores

Numbers = Callable[[Stream], torch.Tensor]
"""What is read of a model, one number for each token or row."""


@dataclass(frozen=True, slots=True)
class ChosenAttention:
    """The attention backend to use, and why, in one line for the user; empty when there is nothing to say."""

    attention: str
    message: str


def check_attention(
    model: StreamModel, groups: Sequence[TokenGroup[Any]], wanted: str | None
) -> ChosenAttention:
    """Choose the attention backend for a model: the wanted one, or the fastest that is exact.

    Args:
        model: on its device; its backend is left as it was.
        groups: some of the first batch.
        wanted: a backend the user insists on; None chooses.

    Raises:
        InputError: no backend reproduces the model, or the wanted one does not.
    """
    stream = probe(groups).to(model.device)
    with torch.no_grad(), model.without_dropout():
        read, expected, what = _numbers(model, stream)
        refused: list[tuple[Backend, str]] = []
        for one in automatic(model.device) if wanted is None else [backend(wanted)]:
            reason = _difference(model, stream, one, read, expected, what)
            if reason is None:
                told = [
                    f"{other.title} does not fit this model ({why}); {one.instead}"
                    for other, why in refused[:1]
                ]
                return ChosenAttention(one.name, "".join(told))
            refused.append((one, reason))
    kind, reasons = type(model.inner).__name__, "; ".join(reason for _, reason in refused)
    raise InputError(
        f"the {what} of this {kind} cannot be reproduced ({reasons}), so nothing trained on "
        "them could be trusted. Choose another model, or another --attention"
    )


def _numbers(model: StreamModel, stream: Stream) -> tuple[Numbers, torch.Tensor, str]:
    """How the numbers that count are read of a model, what they have to be, and what they are called."""
    if isinstance(model, RewardModel):
        return lambda given: model.outputs(given).score_N, naive_scores(model, stream), "scores"
    assert isinstance(model, CausalModel)
    return lambda given: model.log_probs(given).token_S, naive_log_probs(model, stream), "log-probabilities"


def probe(groups: Sequence[TokenGroup[Any]]) -> Stream:
    """Two groups of at least two responses each, so that a leak between responses or groups would show."""
    first, second = min(groups, key=lambda group: group.num_tokens), groups[0]
    other = (*first.responses, *second.responses)
    return build_stream(
        [
            TokenGroup(first.prompt, other[:3], None),
            TokenGroup(second.prompt, (*reversed(other[:3]),), None),
        ]
    )


def naive_log_probs(model: CausalModel, stream: Stream) -> torch.Tensor:
    """[S] the library's own padded forward pass and log-softmax, at the model's own precision."""
    rows = padded_rows(stream)
    with model.plain() as network:
        output: Any = network(input_ids=rows.token_NL, attention_mask=rows.mask_NL, use_cache=False)
        logits = output.logits.flatten(0, 1).index_select(0, rows.source_S)
    log_prob_SV: torch.Tensor = logits.float().log_softmax(-1)
    return log_prob_SV.gather(-1, stream.target_S[:, None])[:, 0]


def _difference(
    model: StreamModel, stream: Stream, tried: Backend, read: Numbers, expected: torch.Tensor, what: str
) -> str | None:
    """Why a backend is not exact, or None."""
    before, autocast = model.attention, model.autocast
    parameter = next(model.network.parameters())
    tolerance = 1e-3 if parameter.dtype == torch.float32 else 32 * torch.finfo(parameter.dtype).eps
    try:
        model.set_attention(tried.name)
        model.autocast = None if parameter.dtype == torch.float32 else autocast
        got = read(stream)
    except (UnsupportedAttention, UnsupportedHead) as error:
        return str(error)
    finally:
        model.autocast = autocast
        model.set_attention(before)
    gap = float((got - expected).abs().max())
    return None if gap <= tolerance else f"{what} are off by up to {gap:.2g}"
