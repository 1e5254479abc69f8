"""Log-probabilities of tokens without all logits: the value, the gradient, and what is never held."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.tiny_models import naive_log_probs, token_group, toy_network
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trueup.batch.stream import build_stream
from trueup.models import head as head_module
from trueup.models import lora
from trueup.models.attention import names
from trueup.models.causal import CausalModel
from trueup.models.head import Head, UnsupportedHead, head_of, token_outputs

S, H, V = 13, 6, 17
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "softcap": {"softcap": 2.0},
    "temperature": {"temperature": 0.7},
    "everything": {"bias": True, "scale": 1.7, "softcap": 3.0, "temperature": 1.3},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def token_log_probs(hidden_SH: Tensor, head: Head, target_S: Tensor, **more: Any) -> Tensor:
    token_S, *others = token_outputs(hidden_SH, head, target_S, **more)
    assert others == [None, None]
    return token_S


def made(
    bias: bool = False, scale: float = 1.0, softcap: float | None = None, temperature: float = 1.0,
    frozen: bool = False, dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Head, Tensor]:  # fmt: skip
    """Hidden states, head and targets."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, grad: bool = True) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_(grad)

    weight, bias_V = random(V, H, grad=not frozen), random(V, grad=not frozen) if bias else None
    head = Head(weight, bias_V, scale, softcap, temperature)
    return random(S, H), head, torch.randint(V, (S,), generator=generator)


def naive(hidden_SH: Tensor, head: Head, target_S: Tensor) -> Tensor:
    logits_SV = all_logits(hidden_SH, head)
    return logits_SV.log_softmax(-1).gather(-1, target_S[:, None])[:, 0]


def all_logits(hidden_SH: Tensor, head: Head) -> Tensor:
    logits_SV = hidden_SH @ head.weight_VH.T
    logits_SV = (logits_SV if head.bias_V is None else logits_SV + head.bias_V) * head.scale
    if head.softcap is not None:
        logits_SV = head.softcap * torch.tanh(logits_SV / head.softcap)
    return logits_SV / head.temperature


def pull(values_S: Tensor) -> Tensor:
    """A sum in which every token weighs differently."""
    return (torch.linspace(-1, 2, len(values_S), dtype=values_S.dtype) * values_S).sum()


def leaves(hidden_SH: Tensor, head: Head) -> list[Tensor]:
    parts = [hidden_SH, head.weight_VH, head.bias_V]
    return [part for part in parts if part is not None and part.requires_grad]


def assert_same(got_S: Tensor, expected_S: Tensor, parts: list[Tensor]) -> None:
    """In value and gradient. float64 sums over 17 entries: rounding stays far below 1e-12."""
    assert torch.allclose(got_S, expected_S, atol=1e-12, rtol=0)
    sides = (torch.autograd.grad(pull(side_S), parts, retain_graph=True) for side_S in (got_S, expected_S))
    for got, expected in zip(*sides, strict=True):
        assert torch.allclose(got, expected, atol=1e-12, rtol=0)


every_head = pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])


@every_variant
@every_head
@pytest.mark.parametrize("budget", [1, V, 5 * V, S * V, 10**6])
def test_value_and_gradient_are_those_of_log_softmax(variant: dict[str, Any], frozen: bool, budget: int) -> None:
    """Whatever the number of chunks: a budget below one row takes one row at a time."""
    hidden_SH, head, target_S = made(**variant, frozen=frozen)
    got_S = token_log_probs(hidden_SH, head, target_S, budget=budget)
    assert_same(got_S, naive(hidden_SH, head, target_S), leaves(hidden_SH, head))


@every_variant
@pytest.mark.parametrize("entropy", [False, True])
def test_logits_that_are_kept_give_the_same_gradients_to_the_bit(
    variant: dict[str, Any], entropy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, 13 tokens in chunks of 5; a second backward pass makes them again, as the first overwrote them."""
    found: list[Tensor] = []
    for kept in (0, S * V):
        monkeypatch.setattr(head_module, "KEPT", kept)
        hidden_SH, head, target_S = made(**variant, dtype=torch.float32)
        token_S, entropy_S, _ = token_outputs(hidden_SH, head, target_S, entropy=entropy, budget=5 * V)
        read = pull(token_S) if entropy_S is None else pull(token_S) + pull(entropy_S.flip(0))
        for _ in range(2):
            grads = torch.autograd.grad(read, leaves(hidden_SH, head), retain_graph=True)
            found.append(torch.cat([one.flatten() for one in (token_S, *grads)]))
    assert found[0].abs().sum() > 0
    assert all(torch.equal(found[0], one) for one in found[1:])


@every_head
def test_a_frozen_body_leaves_the_head_its_gradient(frozen: bool) -> None:
    """Hidden states without gradient: the head learns alone, or nothing does."""
    hidden_SH, head, target_S = made(bias=True, frozen=frozen)
    got_S = token_log_probs(hidden_SH.detach(), head, target_S)
    assert got_S.requires_grad != frozen
    if not frozen:
        assert_same(got_S, naive(hidden_SH, head, target_S), leaves(hidden_SH, head)[1:])


def test_no_scored_token_gives_no_value_and_no_gradient() -> None:
    hidden_SH, head, target_S = made()
    got_S = token_log_probs(hidden_SH[:0], head, target_S[:0])
    (grad,) = torch.autograd.grad(got_S.sum(), head.weight_VH)
    assert got_S.shape == (0,)
    assert (grad == 0).all()


def test_logits_far_apart_stay_finite() -> None:
    hidden_SH, head, target_S = made(dtype=torch.float32)
    hidden_SH = (hidden_SH.detach() * 1e4).requires_grad_()
    got_S = token_log_probs(hidden_SH, head, target_S)
    assert got_S.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(pull(got_S), leaves(hidden_SH, head)))


@every_head
def test_bfloat16_products_err_no_more_than_bfloat16_throughout(frozen: bool) -> None:
    """Against float32: our log-probabilities and gradients, and those of a bfloat16 log_softmax."""
    torch.manual_seed(0)
    hidden_SH, weight_VH = torch.randn(200, 64), 0.3 * torch.randn(500, 64)
    target_S = torch.randint(500, (200,))
    sides: list[list[Tensor]] = []
    for compute in (
        lambda hidden, head: naive(hidden, head, target_S),
        lambda hidden, head: token_log_probs(hidden, head, target_S, dtype=torch.bfloat16, budget=500 * 50),
        lambda hidden, head: naive(hidden.bfloat16(), Head(head.weight_VH.bfloat16()), target_S).float(),
    ):
        hidden, head = hidden_SH.clone().requires_grad_(), Head(weight_VH.clone().requires_grad_(not frozen))
        got_S = compute(hidden, head)
        assert got_S.dtype == torch.float32
        sides.append([got_S.detach(), *torch.autograd.grad(pull(got_S), leaves(hidden, head))])
    exact, ours, plain = sides
    for right, got, other in zip(exact, ours, plain, strict=True):
        assert 0 < (got - right).norm() <= (other - right).norm()


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.numel())
        return result


@every_variant
@every_head
def test_no_more_logits_than_the_budget_exist_at_a_time(variant: dict[str, Any], frozen: bool) -> None:
    hidden_SH, head, target_S = made(**variant, frozen=frozen)
    budget = 7 * V  # more than the head's own 6 * V elements
    with Largest() as ours:
        token_log_probs(hidden_SH, head, target_S, budget=budget).sum().backward()
    with Largest() as plain:
        naive(hidden_SH, head, target_S).sum().backward()
    assert ours.numel == budget
    assert plain.numel == S * V


def largest_saved(compute: Callable[[], Tensor]) -> int:
    """The number of elements of the largest tensor kept for the backward pass."""
    sizes = [0]

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute().sum().backward()
    return max(sizes)


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("layout", names())
def test_a_step_saves_nothing_of_the_size_of_all_logits(layout: str, adapted: bool) -> None:
    vocabulary = 4096
    groups = [token_group(20, [40, 60], 1), token_group(9, [50, 50], 2)]
    scored = sum(len(row.ids) for group in groups for row in group.responses)
    network = toy_network("llama", vocab_size=vocabulary)
    if adapted:
        network = lora.add_lora(network, rank=4, alpha=8, dropout=0.0, targets="all-linear", base="base")
    model, stream = CausalModel(network, attention=layout), build_stream(groups)
    assert largest_saved(lambda: model.log_probs(stream).token_S) < scored * vocabulary / 2
    assert largest_saved(lambda: naive_log_probs(model.inner, groups)) >= scored * vocabulary


@pytest.mark.parametrize(
    ("module", "message"),
    [(nn.Sequential(nn.Linear(32, 64)), "a Sequential, not a plain linear layer"), (None, "no output head")],
)
def test_a_head_that_is_not_one_linear_map_is_named(module: nn.Module | None, message: str) -> None:
    network = toy_network("llama")
    network.get_output_embeddings = lambda: module
    with pytest.raises(UnsupportedHead, match=message):
        head_of(network)


@every_variant
@every_head
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_entropies_and_their_gradient_are_those_of_all_logits(variant: dict[str, Any], frozen: bool, rows: int) -> None:
    """Beside log-probabilities that stay what they were, and pulled together with them."""
    hidden_SH, head, target_S = made(**variant, frozen=frozen)
    token_S, entropy_S, collision_S = token_outputs(
        hidden_SH, head, target_S, entropy=True, collision=True, budget=rows * V
    )
    assert entropy_S is not None and collision_S is not None and not collision_S.requires_grad
    squares_S = all_logits(hidden_SH, head).softmax(-1).square().sum(-1)
    torch.testing.assert_close(collision_S, squares_S.log().detach())
    assert torch.equal(token_S, token_log_probs(hidden_SH, head, target_S, budget=rows * V))
    expected_S = torch.distributions.Categorical(logits=all_logits(hidden_SH, head)).entropy()
    parts = leaves(hidden_SH, head)
    assert_same(entropy_S, expected_S, parts)
    expected_token_S = naive(hidden_SH, head, target_S)
    assert_same(token_S - 0.3 * entropy_S**2, expected_token_S - 0.3 * expected_S**2, parts)


def test_no_more_logits_are_held_for_entropies_than_a_few_chunks() -> None:
    vocabulary, scored = 512, 64
    hidden_SH = torch.randn(scored, H, requires_grad=True)
    head = Head(torch.randn(vocabulary, H, requires_grad=True))
    target_S = torch.zeros(scored, dtype=torch.int64)

    def compute() -> Tensor:
        token_S, entropy_S, _ = token_outputs(hidden_SH, head, target_S, entropy=True, budget=4 * vocabulary)
        assert entropy_S is not None
        return token_S + entropy_S

    assert largest_saved(compute) <= vocabulary * H
    with Largest() as made:
        compute().sum().backward()
    assert made.numel <= vocabulary * H  # the head's own weight
