"""The work of a step is that of the shared prompt, and no more: counted, so that no noisy clock is needed.

    F(P, R_1..R_K) = 2 N (P + S) + 2 V d S + 4 A L (P^2 / 2 + P S + sum R_k^2 / 2),   S = sum R_k

with N parameters of the body's matrices, V d of the head, L layers and attention A wide. A step is 3 F for
the policy, 1 F for the reference, and 2 V d S for the head's logits where they are too many to be kept.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support.tiny_models import token_group, toy_network
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from trueup.batch.stream import Stream, build_stream
from trueup.models import head, lora
from trueup.models.causal import CausalModel
from trueup.models.head import Head, token_outputs

WIDTH, LAYERS, HEADS, INNER, VOCABULARY = 256, 2, 4, 688, 512
BODY = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
HEAD = VOCABULARY * WIDTH
Shape = tuple[int, Sequence[int]]
aten: Any = torch.ops.aten


def addmm_(out: Any, left: Any, right: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


def fused(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """QK and PV, every score of the block."""
    pieces, heads, queries, width = query
    return 4 * pieces * heads * queries * key[2] * width


def fused_backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Four products, and QK once more."""
    return 5 * fused(query, key, value) // 2


# Not counted by default (torch 2.13).
UNCOUNTED = {
    aten.addmm_: addmm_,
    aten._scaled_dot_product_flash_attention_for_cpu: fused,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: fused_backward,
}


def forward(prompt: int, responses: Sequence[int]) -> float:
    scored = sum(responses)
    pairs = prompt**2 / 2 + prompt * scored + sum(length**2 for length in responses) / 2
    return 2 * BODY * (prompt + scored) + 2 * HEAD * scored + 4 * WIDTH * LAYERS * pairs


def network() -> Any:
    return toy_network(
        "llama", hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, vocab_size=VOCABULARY,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=2048,
    )  # fmt: skip


def streamed(shapes: Sequence[Shape]) -> Stream:
    return build_stream([token_group(prompt, responses, at) for at, (prompt, responses) in enumerate(shapes)])


def counted(policy: CausalModel, reference: CausalModel, stream: Stream) -> dict[str, int]:
    """FLOPs by operation of a reference forward, a policy forward and a backward pass; of long ones by shapes alone."""
    stream.planned(policy.backend.name, policy.backend.inputs)
    numbers = FakeTensorMode(allow_non_fake_inputs=True) if stream.num_tokens > 1200 else nullcontext()
    with numbers, FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        with torch.no_grad():
            reference.log_probs(stream)
        policy.log_probs(stream).token_S.sum().backward()
    return {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}


SHAPES: dict[str, list[Shape]] = {
    "K=2": [(64, [32, 32])] * 4,
    "K=8": [(64, [32] * 8)] * 2,
    "one pair": [(64, [32, 32])],
    "conversations": [(125, [60, 50]), (60, [100, 20]), (200, [30, 80]), (90, [64, 64])],
    "long answers": [(120, [290, 290])],
    "summaries": [(300, [35, 35])] * 2,
    "long prompt, K=8": [(200, [100] * 8)],
    "points": [(40, [30])] * 8,
    "long prompt": [(390, [30, 40])],
    "as long as max_length": [(1000, [20, 24])],
    "long answers to a long prompt": [(512, [512, 512])],
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_a_step_costs_what_the_shared_prompt_costs(shapes: list[Shape]) -> None:
    model = CausalModel(network())
    operations = counted(model, model, streamed(shapes))
    # Matrix products of the body, of attention, and of the head's gradient.
    assert {"aten.mm", "aten.bmm", "aten.addmm_"} <= operations.keys()
    scored = sum(sum(responses) for _, responses in shapes)
    assert operations["aten.addmm_"] == 2 * HEAD * scored
    ideal = sum(4 * forward(*shape) for shape in shapes)
    assert 0.95 <= sum(operations.values()) / ideal <= 1.05


def test_a_prompt_beyond_the_default_max_length_costs_little_more() -> None:
    """There the fused kernel takes over, which makes QK again in its backward pass, nine products for eight, and half
    a block of queries beyond the triangle. At this width and length two fifths of the work are attention: 1.11. Whole
    squares would come to 1.5."""
    model, shapes = CausalModel(network()), [(2000, [50, 50])]
    operations = counted(model, model, streamed(shapes))
    assert operations["aten._scaled_dot_product_flash_attention_for_cpu"] > 0
    assert operations["aten._scaled_dot_product_flash_attention_for_cpu_backward"] > 0
    ideal = 4 * forward(*shapes[0])
    assert 0.95 <= sum(operations.values()) / ideal <= 1.12


def test_an_adapter_spares_the_gradients_of_what_is_frozen() -> None:
    """2 F for the policy and 1 F for the reference, and 3 passes of the adapter's own products; the head's logits are
    made once. The inputs of the first layer's projections need no gradient."""
    rank = 4
    adapted = lora.add_lora(network(), rank=rank, alpha=8, dropout=0.0, targets="all-linear", base="base")
    model, shapes = CausalModel(adapted), [(64, [32, 32])] * 4
    stream = streamed(shapes)
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        with torch.no_grad(), lora.adapter(adapted, None):
            model.log_probs(stream)
        model.log_probs(stream).token_S.sum().backward()
    added = LAYERS * rank * (4 * 2 * WIDTH + 3 * (WIDTH + INNER))
    ideal = sum(3 * forward(*shape) for shape in shapes) + 3 * 2 * added * stream.num_tokens
    assert 0.92 <= counter.get_total_flops() / ideal <= 1.05


@pytest.mark.parametrize(("trainable", "more", "products"), [(True, -1, 4), (True, 0, 3), (False, -1, 2)])
def test_logits_are_made_once_where_they_may_be_kept_or_the_head_is_frozen(
    trainable: bool, more: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits, their gradient in hidden states; where it learns, its own gradient, and all again if one is too many."""
    scored, width, vocabulary = 50, 8, 40
    monkeypatch.setattr(head, "KEPT", scored * vocabulary + more)
    weight = torch.randn(vocabulary, width, requires_grad=trainable)
    hidden, target = torch.randn(scored, width, requires_grad=True), torch.arange(scored) % vocabulary
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        token_outputs(hidden, Head(weight), target, budget=11 * vocabulary)[0].sum().backward()
    assert counter.get_total_flops() == products * 2 * scored * width * vocabulary
