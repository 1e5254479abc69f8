"""Reward-weighted regression: the gradient of a step is that of the formula, written out plainly. Weights are held in
float32, and everything else here in float64."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from support.method_batches import TOKENIZER, cut_into
from support.small_runs import write_feedback
from support.tiny_models import naive_log_probs, toy_network

from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokenizing import tokens_of
from trueup.batch.tokens import TokenGroup
from trueup.feedback.read import read_feedback
from trueup.feedback.transforms import fit_all
from trueup.feedback.views import apply
from trueup.methods import METHODS, Method
from trueup.models.causal import CausalModel
from trueup.references.reference import NullReference
from trueup.sources.source import Step
from trueup.training.step import train_step

COUNT = 6


class Captured:
    """Stands for the optimizer: keeps the gradient that it would be given."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.gradient: dict[str, torch.Tensor] = {}

    def zero_grad(self) -> None:
        self.network.zero_grad()

    def grad_norm(self) -> torch.Tensor:
        return torch.ones(())

    def step(self, *, divide_by: float, **more: Any) -> None:
        self.gradient = {
            name: value.grad / divide_by for name, value in self.network.named_parameters() if value.grad is not None
        }


def of_rankings(folder: Path, **settings: Any) -> tuple[Method, list[TokenGroup[Any]]]:
    """RWR and its groups: three responses to each prompt, with scores 0.5, 1 and 0."""
    method = METHODS["rwr"].build(**settings)
    examples = read_feedback([write_feedback(folder, COUNT)["rankings"]]).examples
    rewritten = fit_all(method.transforms, examples).rewrite(examples)
    encoder = Encoder(TOKENIZER, end_ids=(TOKENIZER.eos_token_id,), limits=Limits(256))
    return method, tokens_of(apply(method.view, rewritten).groups, encoder, what="training")


def network() -> Any:
    return toy_network("llama", vocab_size=len(TOKENIZER)).double()


def expected_weights(folder: Path, beta: float, most: float) -> list[float]:
    """min(exp((r - mean) / (std beta)), most) of every response, in the order of the file."""
    rows = [json.loads(line) for line in (folder / "rankings.jsonl").read_text().splitlines()]
    values = [score for row in rows for score in row["scores"]]
    mean, std = statistics.mean(values), statistics.stdev(values)
    return [min(math.exp((value - mean) / std / beta), most) for value in values]


@pytest.mark.parametrize("sizes", [[6], [1, 3, 2]], ids=["whole", "cut"])
@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize(("beta", "most"), [(1.0, 20.0), (0.4, 3.0)])
def test_the_gradient_of_a_step(beta: float, most: float, per_token: bool, sizes: list[int], tmp_path: Path) -> None:
    """-(sum_i w_i log p(y_i | x_i)) / (sum_i w_i |y_i|), or / (sum_i w_i), by the library's own forward pass."""
    method, groups = of_rankings(tmp_path, beta=beta, max_weight=most, per_token=per_token)
    policy = CausalModel(network())
    captured = Captured(policy.network)
    metrics = train_step(
        policy, NullReference(), method, Step(cut_into(method, groups, sizes)), captured,  # type: ignore[arg-type]
        step=1, learning_rate=1.0,
    )  # fmt: skip

    plain = network()
    weights = torch.tensor(expected_weights(tmp_path, beta, most), dtype=torch.float64)
    lengths = torch.tensor([int(row.scored.sum()) for group in groups for row in group.responses])
    assert len(weights) == len(lengths) == 3 * COUNT
    token_S = naive_log_probs(plain, groups)
    total = (weights.repeat_interleave(lengths) * token_S).sum()
    loss = -total / (weights * lengths).sum() if per_token else -total / weights.sum()
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-6)
    wanted = {name: value.grad for name, value in plain.named_parameters() if value.grad is not None}
    assert wanted.keys() == captured.gradient.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(captured.gradient[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert metrics["weights/mean"] == pytest.approx(weights.mean().item())
    size = weights.sum() ** 2 / (weights**2).sum()
    assert metrics["weights/effective_sample_size"] == pytest.approx(size.item())
    assert metrics["weights/effective_share"] == pytest.approx(size.item() / len(weights))
