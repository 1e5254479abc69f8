"""FlashAttention over segments: what a CPU can see of it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.tiny_models import token_group, toy_network
from torch import Tensor

from trueup.batch.stream import build_stream
from trueup.models import selfcheck
from trueup.models.attention import UnsupportedAttention, backend, varlen
from trueup.models.causal import CausalModel

GROUPS = [token_group(5, (3, 4)), token_group(1, (2,)), token_group(7, (1, 6, 2))]
PLAN = varlen.plan_varlen(build_stream(GROUPS))


def kernel(
    q: Tensor, k: Tensor, v: Tensor, q_ends: Tensor, k_ends: Tensor, max_q: int, max_k: int,
    *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """What torch documents of `varlen_attn`: bottom-right causal, a window of `left` keys before a query's own."""
    assert q_ends.dtype == k_ends.dtype == torch.int32 and enable_gqa == (q.shape[1] != k.shape[1])
    assert (max_q, max_k) == (q_ends.diff().max(), k_ends.diff().max()) and window_size[1] == 0
    outputs = []
    for n in range(len(q_ends) - 1):
        rows, seen = q[q_ends[n] : q_ends[n + 1]], slice(int(k_ends[n]), int(k_ends[n + 1]))
        keys, values = (x[seen].repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        shift = len(keys) - len(rows)
        mask = torch.ones(len(rows), len(keys), dtype=torch.bool).tril(shift)
        if window_size[0] >= 0:
            mask &= torch.ones_like(mask).triu(shift - window_size[0])
        attended = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in (rows, keys, values)), attn_mask=mask, scale=scale
        )
        outputs.append(attended[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_is_asked_for_what_the_plain_operations_compute(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen.varlen, "varlen_attn", kernel)
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(len(PLAN.first_T), heads, 8, generator=draw).bfloat16() for heads in (4, 2, 2)]
    given: list[list[Tensor]] = [[x.clone().requires_grad_() for x in made] for _ in range(2)]
    found = [
        compute(*x, PLAN, 0.3, window, None)  # type: ignore[operator]
        for compute, x in zip((varlen._by_kernel, varlen._one_by_one), given, strict=True)
    ]
    assert torch.allclose(*found, atol=2e-2)
    for output in found:
        output.float().square().sum().backward()
    for one, other in zip(*given, strict=True):
        assert one.grad is not None and other.grad is not None
        apart = (one.grad.float() - other.grad.float()).norm() / other.grad.float().norm()
        assert apart < 1e-2  # bfloat16 rounds at 4e-3


def test_copies_of_a_prompt_are_added_in_one_order() -> None:
    """The sum of a prompt's three copies, added from the first response to the last."""
    x = torch.zeros(len(PLAN.first_T), 1, requires_grad=True)
    gathered: Any = varlen._Gather.apply(x, PLAN)  # type: ignore[no-untyped-call]
    weight = torch.randn(len(gathered), 1, generator=torch.Generator().manual_seed(1))
    (gathered * weight).sum().backward()
    assert x.grad is not None
    for token in range(len(x)):
        copies = [float(weight[at]) for at in (PLAN.key_K == token).nonzero()[:, 0]]
        total = torch.tensor(copies[0])
        for copy in copies[1:]:
            total = total + copy
        assert x.grad[token] == total


@pytest.mark.parametrize(("dtype", "softcap"), [(torch.float32, None), (torch.bfloat16, 30.0)])
def test_what_the_kernel_does_not_do_is_refused(dtype: torch.dtype, softcap: float | None) -> None:
    x = torch.zeros(len(PLAN.first_T), 2, 8, dtype=dtype)
    with pytest.raises(UnsupportedAttention, match="half precision" if softcap is None else "caps"):
        varlen._by_kernel(x, x, x, PLAN, 1.0, None, softcap)


def chosen(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> selfcheck.ChosenAttention:
    """With the kernel for a device that has it, computing in bfloat16 on weights in float32."""
    there = replace(backend("varlen"), supports=lambda device: True, **changed)
    monkeypatch.setattr(varlen, "BACKEND", there)
    model = CausalModel(toy_network(), autocast=torch.bfloat16)
    return selfcheck.check_attention(model, GROUPS, None)


def test_half_precision_is_held_to_what_the_library_does_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch) == selfcheck.ChosenAttention("varlen", "")


def test_a_kernel_that_is_wrong_is_named_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(stream: Any) -> Any:
        made = varlen.inputs(stream)
        plan = made.keywords["trueup_plan"]
        wrong = replace(plan, key_K=plan.key_K.roll(1))
        return replace(made, keywords={**made.keywords, "trueup_plan": wrong})

    found = chosen(monkeypatch, inputs=shifted, instead="the stream is taken")
    assert found.attention == "grouped" and "does not fit this model (log-probabilities are off by" in found.message


def test_a_kernel_that_fails_is_named_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(stream: Any) -> Any:
        raise RuntimeError("head dimension 80 is not supported")

    found = chosen(monkeypatch, inputs=failing)
    assert found.attention == "grouped" and "head dimension 80" in found.message
