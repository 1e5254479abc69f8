"""Does the stream compute this model's function? Asked on the first batch, before anything is trained.

Attention that ignores the layout (state-space layers, positions taken from the index) or a head that is more
than a linear map would make every log-probability wrong without a word. The check compares with the library's
own forward pass and falls back to padded rows, or refuses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trueup.batch.stream import Stream, build_stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.models.attention.interface import UnsupportedAttention
from trueup.models.causal import CausalModel, Layout
from trueup.models.head import UnsupportedHead
from trueup.models.padded import padded_rows
from trueup.models.reward import RewardModel, naive_scores

Numbers = Callable[[Stream], Tensor]
"""What is read of a model, one number for each token or row."""


@dataclass(frozen=True, slots=True)
class Check:
    """The layout to use, and why, in one line for the user; empty when there is nothing to say."""

    layout: Layout
    message: str


def check_layout(
    model: CausalModel | RewardModel, groups: Sequence[TokenGroup[Any]], wanted: Layout | None
) -> Check:
    """Choose the layout for a model: the wanted one, or the fastest that is exact.

    Args:
        model: on its device; its layout is left as it was.
        groups: some of the first batch.
        wanted: a layout the user insists on; None chooses.

    Raises:
        InputError: no layout reproduces the model, or the wanted one does not.
    """
    body = model.body if isinstance(model, RewardModel) else model
    stream = probe(groups).to(model.device)
    with torch.no_grad(), model.without_dropout():
        read, expected, what = _asked(model, stream)
        reasons: list[str] = []
        for layout in (Layout.GROUPED, Layout.PADDED) if wanted is None else (wanted,):
            reason = _difference(body, stream, layout, read, expected, what)
            if reason is None:
                said = f"the shared-prompt layout does not fit this model ({reasons[0]}); " if reasons else ""
                return Check(layout, said and said + "prompts are repeated for every response instead")
            reasons.append(reason)
    kind = type(model.inner).__name__
    raise InputError(
        f"the {what} of this {kind} cannot be reproduced ({'; '.join(reasons)}), so nothing trained on "
        "them could be trusted. Choose another model, or another --attention"
    )


def _asked(model: CausalModel | RewardModel, stream: Stream) -> tuple[Numbers, Tensor, str]:
    """How the numbers that count are read of a model, what they have to be, and what they are called."""
    if isinstance(model, RewardModel):
        return lambda given: model.outputs(given).score_N, naive_scores(model.body, stream), "scores"
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


def naive_log_probs(model: CausalModel, stream: Stream) -> Tensor:
    """[S] the library's own padded forward pass and log-softmax, at the model's own precision."""
    rows = padded_rows(stream)
    with model.plain() as network:
        output: Any = network(input_ids=rows.token_NL, attention_mask=rows.mask_NL, use_cache=False)
        logits = output.logits.flatten(0, 1).index_select(0, rows.source_S)
    log_prob_SV: Tensor = logits.float().log_softmax(-1)
    return log_prob_SV.gather(-1, stream.target_S[:, None])[:, 0]


def _difference(
    model: CausalModel, stream: Stream, layout: Layout, read: Numbers, expected: Tensor, what: str
) -> str | None:
    """Why the layout is not exact, or None."""
    before, autocast = model.layout, model.autocast
    parameter = next(model.network.parameters())
    tolerance = 1e-3 if parameter.dtype == torch.float32 else 32 * torch.finfo(parameter.dtype).eps
    try:
        model.set_layout(layout)
        model.autocast = None if parameter.dtype == torch.float32 else autocast
        got = read(stream)
    except (UnsupportedAttention, UnsupportedHead) as error:
        return str(error)
    finally:
        model.autocast = autocast
        model.set_layout(before)
    gap = float((got - expected).abs().max())
    return None if gap <= tolerance else f"{what} are off by up to {gap:.2g}"
