"""FlexAttention over a stream, as torch computes it in plain operations on a CPU."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.tiny_models import token_group, toy_network
from torch._dynamo.utils import counters
from torch.nn.attention import flex_attention as flex

from trueup.batch.stream import build_stream
from trueup.models import selfcheck
from trueup.models.attention import backend
from trueup.models.attention import flex as ours
from trueup.models.attention.dense import dense_attention, plan_dense
from trueup.models.causal import CausalModel

GROUPS = [token_group(5, (3, 4)), token_group(60, (2, 70)), token_group(7, (1, 6, 2))]
STREAM = build_stream(GROUPS)
PLAN = ours.plan_flex(STREAM)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Uncompiled, with the gradient that torch has for a CPU and withholds there; what the kernel was called with."""
    calls: list[dict[str, Any]] = []

    def call(*given: torch.Tensor, **options: Any) -> Any:
        calls.append({"tokens": {len(one[0, 0]) for one in given}, **options})
        return flex.flex_attention(*given, **options)

    monkeypatch.setattr(flex, "_validate_device", lambda *given: None)
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(ours, "kernel", lambda: call)
    yield calls


@pytest.mark.parametrize(
    ("window", "softcap", "key_heads"), [(None, None, 4), (4, None, 2), (None, 2.0, 2), (4, 2.0, 4)]
)
def test_the_kernel_computes_what_the_dense_mask_does(
    window: int | None, softcap: float | None, key_heads: int, plainly: list[dict[str, Any]]
) -> None:
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(1, heads, STREAM.num_tokens, 8, generator=draw) for heads in (4, key_heads, key_heads)]
    given = [[one.clone().requires_grad_() for one in made] for _ in range(2)]
    found = ours.by_kernel(*given[0], PLAN, 0.3, window, softcap)  # type: ignore[arg-type]
    plan = plan_dense(STREAM)
    expected, _ = dense_attention(torch.nn.Module(), *given[1], None, 0.3, 0.0, window, softcap, plan)  # type: ignore[misc]
    assert torch.allclose(found, expected, atol=1e-6)
    direction = torch.randn(found.shape, generator=draw)
    for output in (found, expected):
        (output * direction).sum().backward()
    for one, other in zip(*given, strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).norm() < 1e-6 * other.grad.norm()
    assert plainly[0]["tokens"] == {256} and STREAM.num_tokens % ours.BLOCK  # padded to whole blocks


def test_a_mask_is_made_once_for_all_layers_of_a_window_and_leaves_blocks_out() -> None:
    assert PLAN.mask(None) is PLAN.mask(None) is not PLAN.mask(4)
    far = ours.plan_flex(build_stream([token_group(128, (128, 128))]))
    assert far.mask(None).to_dense()[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def chosen(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> selfcheck.ChosenAttention:
    """On a device that has it, for a model with soft caps and windows, in bfloat16 on weights in float32."""
    monkeypatch.setattr(ours, "BACKEND", replace(backend("flex"), supports=lambda device: True, **changed))
    model = CausalModel(toy_network("gemma2"), autocast=torch.bfloat16)
    return selfcheck.check_attention(model, GROUPS, None)


def test_it_is_taken_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch) == selfcheck.ChosenAttention("flex", "")


def test_a_gradient_that_is_wrong_is_named_and_it_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ours.dense.dense_attention

    def detached(module: Any, query: Any, key: Any, value: Any, *more: Any) -> Any:
        return original(module, query, key.detach(), value, *more)

    monkeypatch.setattr(ours.dense, "dense_attention", detached)
    found = chosen(monkeypatch)
    assert found.attention == "grouped"
    assert "FlexAttention does not fit this model (gradients are off by" in found.message


def test_streams_of_other_lengths_are_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, as far as a CPU can: two graphs a window, of streams of one block and of more."""
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(flex.flex_attention, dynamic=True, backend="aot_eager")
    monkeypatch.setattr(ours, "kernel", lambda: compiled)
    graphs = []
    for longer in (0, 150, 300, 500):
        plan = ours.plan_flex(stream := build_stream([token_group(5 + longer, (3, 4)), GROUPS[2]]))
        made = [torch.randn(1, heads, stream.num_tokens, 8) for heads in (4, 2, 2)]
        for window in (None, 4):
            ours.by_kernel(*made, plan, 0.3, window, 2.0)  # type: ignore[call-arg]
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2, 4, 4, 4]
