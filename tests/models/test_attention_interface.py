"""What the attention of a stream will not compute, it refuses, so that another layout is taken."""

from typing import Any

import pytest
import torch
from support.tiny_models import token_group
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trueup.batch.stream import build_stream
from trueup.models.attention.interface import (
    DENSE,
    GROUPED,
    UnsupportedAttention,
    dense_attention,
    dense_layout,
    grouped_attention,
)
from trueup.models.attention.plan import plan_attention

STREAM = build_stream([token_group(4, [3, 2], 1)])
WAYS = {
    "grouped": (grouped_attention, plan_attention(STREAM)),
    "dense": (dense_attention, dense_layout(STREAM)),
}
both = pytest.mark.parametrize("way", WAYS)


def called(way: str, mask: torch.Tensor | None = None, **keywords: Any) -> tuple[torch.Tensor, None]:
    function, layout = WAYS[way]
    query, key, value = (torch.randn(1, heads, STREAM.num_tokens, 8) for heads in (4, 2, 2))
    module = torch.nn.Module()
    result: tuple[torch.Tensor, None] = function(
        module, query, key, value, mask, **{"trueup_layout": layout, **keywords}
    )
    return result


@both
def test_the_result_is_laid_out_as_the_library_wants_it(way: str) -> None:
    result, weights = called(way)
    assert result.shape == (1, STREAM.num_tokens, 4, 8)
    assert weights is None


@both
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"trueup_layout": None}, "does not hand its keyword arguments to its attention"),
        ({"trueup_layout": STREAM}, "does not hand its keyword arguments to its attention"),
        ({"mask": torch.zeros(1, 1, 9, 9)}, "brings an attention mask of its own"),
        ({"dropout": 0.1}, "attention dropout of 0.1 is on"),
        ({"s_aux": torch.zeros(4)}, "attention takes s_aux"),
        ({"position_bias": torch.zeros(4)}, "attention takes position_bias"),
        ({"head_mask": torch.zeros(4)}, "attention takes head_mask"),
        ({"is_causal": False}, "attention is not causal"),
    ],
)
def test_what_would_be_ignored_is_refused(way: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedAttention, match=message):
        called(way, **keywords)


@both
def test_keywords_that_say_nothing_are_let_pass(way: str) -> None:
    called(
        way, is_causal=True, s_aux=None, dropout=0.0, position_ids=STREAM.position_T[None], use_cache=False
    )


def test_the_library_knows_our_attention_and_builds_no_mask_for_it() -> None:
    for name, function in ((GROUPED, grouped_attention), (DENSE, dense_attention)):
        assert ALL_ATTENTION_FUNCTIONS[name] is function
        assert name not in ALL_MASK_ATTENTION_FUNCTIONS
