"""From hidden states to log-probabilities of given tokens, without ever holding all logits.

The vocabulary projection of S scored tokens would be a matrix of S x V; here it is made for a few rows at a
time and, where it is larger than `KEPT`, made again in the backward pass. Where the head is frozen (LoRA), the gradient
with respect to the hidden states is linear in the incoming one, so its direction is computed at once and nothing is
made again.

Shape suffixes: S scored tokens, H hidden width, V vocabulary, C tokens of a chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

LOGITS_BUDGET = 2**24
KEPT = 2**26
"""Logits of a pass that are kept for its backward pass; of more none are."""
CACHED = 2**18
"""Logits that a CPU goes on with at a time once they are made, so that they stay in its cache."""


@dataclass(frozen=True, slots=True)
class Head:
    """z = softcap tanh(scale (h W^T + b) / softcap) / temperature, what a model makes of its hidden states."""

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0
    """Other than 1 only where log-probabilities are to be those of the sampling distribution."""

    def to(self, dtype: torch.dtype) -> "Head":
        bias_V = None if self.bias_V is None else self.bias_V.to(dtype)
        return replace(self, weight_VH=self.weight_VH.to(dtype), bias_V=bias_V)

    def products(self, hidden: Tensor) -> Tensor:
        """[C, V] h W^T + b."""
        return torch.nn.functional.linear(hidden, self.weight_VH, self.bias_V)

    def logits(self, products: Tensor) -> Tensor:
        """[C, V] in float32 at least: a scale or cap on bfloat16 products would round every logit once more."""
        logits = products.to(torch.promote_types(products.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def slope(self, logits: Tensor, target: Tensor, normaliser: Tensor) -> Tensor:
        """[C, V] derivative of the target's log-probability with respect to h W^T + b; overwrites `logits`."""
        inner = self._inner(logits)
        slope = logits.sub_(normaliser[:, None]).exp_().neg_()
        slope.scatter_add_(-1, target[:, None], torch.ones_like(slope[:, :1]))
        return slope.mul_(inner)

    def slope_of_entropy(self, logits: Tensor, normaliser: Tensor, entropy: Tensor) -> Tensor:
        """[C, V] derivative of the entropy, -p (log p + entropy), with respect to h W^T + b."""
        log_p = logits - normaliser[:, None]
        return log_p.exp().neg_().mul_(log_p.add_(entropy[:, None])).mul_(self._inner(logits))

    def _inner(self, logits: Tensor) -> Tensor | float:
        """[C, V] derivative of the logits with respect to h W^T + b."""
        scale = self.scale / self.temperature
        if self.softcap is None:
            return scale
        return scale * (1 - (logits * (self.temperature / self.softcap)) ** 2)


class UnsupportedHead(Exception):
    """The model's head is not a plain linear map; `str()` says what it is."""


class TokenHead(nn.Linear):
    """A model's own output head, with its parameters, that gives log-probabilities of tokens where it is given some.
    Called with hidden states alone it is the linear layer it stands in for, as generation needs it."""

    def __init__(self, linear: nn.Linear, scale: float, softcap: float | None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self.scale, self.softcap, self.temperature = scale, softcap, 1.0
        self.train(linear.training)

    def forward(
        self,
        hidden: Tensor,
        target_S: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        entropy: bool = False,
        collision: bool = False,
        budget: int = LOGITS_BUDGET,
    ) -> Any:
        if target_S is None:
            return super().forward(hidden)
        head = Head(self.weight, self.bias, self.scale, self.softcap, self.temperature)
        return token_outputs(hidden, head, target_S, dtype=dtype, entropy=entropy, collision=collision, budget=budget)


def head_of(network: nn.Module) -> TokenHead:
    """The head of a transformers model, put in place of its linear layer before an adapter makes copies of it.
    Scale and soft cap are the configuration's. UnsupportedHead: it is missing, adapted by LoRA, or not linear."""
    model: Any = network
    module: Any = model.get_output_embeddings()
    wrapped: Any = getattr(module, "original_module", None)  # PEFT's, around copies of which one is trained
    if isinstance(module, TokenHead) or isinstance(wrapped, TokenHead):
        return module  # type: ignore[no-any-return]  # a wrapper is called as what it wraps
    if module is None:
        raise UnsupportedHead("the model has no output head")
    if hasattr(module, "lora_A") or not isinstance(module, nn.Linear):
        raise UnsupportedHead(f"the output head is a {type(module).__name__}, not a plain linear layer")
    config: Any = model.config
    multiply = getattr(config, "logit_scale", None)
    divide = getattr(config, "logits_scaling", None)
    scale = float(multiply if multiply is not None else 1.0) / float(divide if divide is not None else 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    head = TokenHead(module, scale, None if softcap is None else float(softcap))
    model.set_output_embeddings(head)
    return head


def token_outputs(
    hidden_SH: Tensor,
    head: Head,
    target_S: Tensor,
    *,
    dtype: torch.dtype | None = None,
    entropy: bool = False,
    collision: bool = False,
    budget: int = LOGITS_BUDGET,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log softmax(z_s)[target_s] for every scored token, exact in value and gradient, and what else is asked for.

    Args:
        hidden_SH: [S, H] final hidden states.
        head: the vocabulary projection.
        target_S: [S] int64 token ids.
        dtype: what the products are computed in; the hidden states' own where None. Sums over the vocabulary
            are taken in float32 at least.
        entropy: give -sum_v softmax(z_s)[v] log softmax(z_s)[v] as well.
        collision: give log sum_v softmax(z_s)[v]^2 as well.
        budget: logits held at a time.

    Returns:
        [S] log-probabilities, [S] entropies and [S] collisions (None unless asked for), in nats, float32 (float64 for
        float64 input), all but the last differentiable in the hidden states, weight and bias.
    """
    result: tuple[Tensor, Tensor | None, Tensor | None] = _TokenOutputs.apply(
        hidden_SH,
        head.weight_VH,
        head.bias_V,
        target_S,
        head.scale,
        head.softcap,
        head.temperature,
        dtype or hidden_SH.dtype,
        entropy,
        collision,
        budget,
        torch.is_grad_enabled() and len(target_S) * head.weight_VH.shape[0] <= KEPT,
    )  # type: ignore[no-untyped-call]
    return result


class _TokenOutputs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        scale: float,
        softcap: float | None,
        temperature: float,
        dtype: torch.dtype,
        wants_entropy: bool,
        wants_collision: bool,
        budget: int,
        keeps: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        frozen_head = needs_hidden and not needs_weight and not needs_bias
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(weight, bias, scale, softcap, temperature).to(dtype)
            hidden_ = hidden.to(dtype)
            high = torch.promote_types(dtype, torch.float32)
            log_prob = torch.empty(len(target), dtype=high, device=hidden.device)
            normaliser = torch.empty_like(log_prob)
            entropy = torch.empty_like(log_prob) if wants_entropy else None
            collision = torch.empty_like(log_prob) if wants_collision else None
            direction = torch.empty_like(hidden_) if frozen_head else None
            direction_of_entropy = torch.empty_like(hidden_) if frozen_head and wants_entropy else None
            kept: list[Tensor] = []
            for chunk in _chunks(len(target), weight.shape[0], budget):
                products = head.products(hidden_[chunk])
                of_entropy = None if direction_of_entropy is None else torch.empty_like(products)
                for rows, part in _blocks(chunk, products):
                    logits = head.logits(products[part])
                    normaliser[rows] = logits.logsumexp(-1)
                    log_prob[rows] = logits.gather(-1, target[rows, None])[:, 0] - normaliser[rows]
                    if collision is not None:
                        collision[rows] = (2 * logits).logsumexp(-1) - 2 * normaliser[rows]
                    if entropy is not None:
                        log_p = logits - normaliser[rows, None]
                        entropy[rows] = -(log_p.exp() * log_p).sum(-1)
                        if of_entropy is not None:
                            of_entropy[part] = head.slope_of_entropy(logits, normaliser[rows], entropy[rows])
                    if direction is not None:
                        products[part] = head.slope(logits, target[rows], normaliser[rows])
                if direction_of_entropy is not None and of_entropy is not None:
                    torch.mm(of_entropy, head.weight_VH, out=direction_of_entropy[chunk])
                if direction is not None:
                    torch.mm(products, head.weight_VH, out=direction[chunk])
                elif keeps:
                    kept.append(products)
        ctx.kept = kept  # what a backward pass overwrites, so that another one makes them again
        ctx.settings = (scale, softcap, temperature, dtype, budget, frozen_head, hidden.dtype)
        if direction is not None:
            ctx.save_for_backward(direction, direction_of_entropy)
        else:
            ctx.save_for_backward(hidden, weight, bias, target, normaliser, entropy)
        if collision is not None:
            ctx.mark_non_differentiable(collision)
        return log_prob, entropy, collision

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, grad_of_entropy, _ = grads
        scale, softcap, temperature, dtype, budget, frozen_head, hidden_dtype = ctx.settings
        unused = (None,) * 9
        if frozen_head:
            direction, direction_of_entropy = ctx.saved_tensors
            total = grad[:, None] * direction
            if direction_of_entropy is not None:
                total += grad_of_entropy[:, None] * direction_of_entropy
            return (total.to(hidden_dtype), None, None, *unused)
        hidden, weight, bias, target, normaliser, entropy = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        high = normaliser.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            head = Head(weight, bias, scale, softcap, temperature).to(dtype)
            hidden_ = hidden.to(dtype)
            grad_hidden = torch.empty_like(hidden_) if needs_hidden else None
            grad_weight = torch.zeros_like(weight, dtype=high) if needs_weight else None
            grad_bias = torch.zeros_like(bias, dtype=high) if needs_bias else None
            for chunk in _chunks(len(target), weight.shape[0], budget):
                products = ctx.kept.pop(0) if ctx.kept else head.products(hidden_[chunk])
                for rows, part in _blocks(chunk, products):
                    logits, more = head.logits(products[part]), None
                    if entropy is not None:
                        more = head.slope_of_entropy(logits, normaliser[rows], entropy[rows])
                        more.mul_(grad_of_entropy[rows, None])
                    slope = head.slope(logits, target[rows], normaliser[rows]).mul_(grad[rows, None])
                    products[part] = slope if more is None else slope.add_(more)
                if grad_hidden is not None:
                    torch.mm(products, head.weight_VH, out=grad_hidden[chunk])
                if grad_weight is not None and dtype == high:
                    grad_weight.addmm_(products.T, hidden_[chunk])
                elif grad_weight is not None:
                    grad_weight.add_(products.T @ hidden_[chunk])  # rounded once a chunk, and added up in float32
                if grad_bias is not None:
                    grad_bias.add_(products.sum(0, dtype=high))
        return (
            None if grad_hidden is None else grad_hidden.to(hidden_dtype),
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
            *unused,
        )


def _chunks(rows: int, vocabulary: int, budget: int) -> list[slice]:
    step = max(1, budget // vocabulary)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _blocks(chunk: slice, products: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows of a chunk to go on with together, as places among all tokens and within the chunk."""
    count, vocabulary = products.shape
    step = max(2, CACHED // vocabulary) if products.device.type == "cpu" else count
    bounds = [count * number // max(1, count // step) for number in range(max(1, count // step) + 1)]
    for start, stop in pairwise(bounds):
        yield slice(chunk.start + start, chunk.start + stop), slice(start, stop)
