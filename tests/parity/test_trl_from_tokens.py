"""Our losses and the gradients of all weights against TRL's, from the same token ids and the same toy models."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from parity.trl_cases import Rows, cases, of_pairs, reduced
from support.tiny_models import char_tokenizer, token_group, toy_network

from trueup.batch.batch import Batch, collate_batch
from trueup.batch.index import Demonstrations, Pairs, Points
from trueup.batch.logprobs import LogProbs
from trueup.feedback.groups import DemonstrationRelation, PairRelation, PointRelation
from trueup.models.causal import CausalModel
from trueup.objectives.kto import kto, log_ratios
from trueup.objectives.loss import Loss
from trueup.objectives.sft import sft


def causal(seed: int) -> CausalModel:
    return CausalModel(toy_network("llama", seed, vocab_size=len(char_tokenizer())))


def check_from_token_ids(
    model: CausalModel, batch: Batch[Any], loss: Callable[[LogProbs], Loss], case: Any
) -> None:
    """The step's loss, and of each parameter's gradient the length and the product with the parameter."""
    step = reduced(loss(model.log_probs(batch.stream)))
    assert step.item() == pytest.approx(case["loss"], rel=3e-5)
    step.backward()
    found = {
        name: [value.grad.norm().item(), (value.grad * value.detach()).sum().item()]
        for name, value in model.network.named_parameters()
        if value.grad is not None
    }
    assert found.keys() == case["parameters"].keys()
    for name, (length, product) in case["parameters"].items():
        size = dict(model.network.named_parameters())[name].norm().item()
        assert found[name][0] == pytest.approx(length, rel=1e-4), name
        assert found[name][1] == pytest.approx(product, abs=1e-4 * length * size), name


@pytest.mark.parametrize(("batch", "case"), cases("DPO"))
def test_pairs_from_token_ids(batch: dict[str, Any], case: dict[str, Any]) -> None:
    """Through our stream, attention and head: a prompt once with its two responses, not two padded rows."""
    half = len(batch["rows"]) // 2
    chosen, rejected = batch["rows"][:half], batch["rows"][half:]
    assert [row["prompt"] for row in chosen] == [row["prompt"] for row in rejected]
    groups = [
        token_group(
            better["prompt"], [better["response"], worse["response"]], relation=PairRelation(((0, 1, 1.0),))
        )
        for better, worse in zip(chosen, rejected, strict=True)
    ]
    # Chosen first, as `sft_of_chosen` takes them: a group of one response each.
    if case["settings"]["loss_type"] == "sft":
        groups = [
            token_group(row["prompt"], [row["response"]], relation=DemonstrationRelation()) for row in chosen
        ]
        made: Batch[Any] = collate_batch(groups, Demonstrations.collate)
        check_from_token_ids(
            causal(batch["policy_seed"]), made, lambda policy: sft(policy, None, Demonstrations()), case
        )
        return
    made = collate_batch(groups, Pairs.collate)
    with torch.no_grad():
        reference = causal(batch["reference_seed"]).log_probs(made.stream)
    objective = of_pairs(case["settings"])
    check_from_token_ids(
        causal(batch["policy_seed"]), made, lambda policy: objective(policy, reference, made.index), case
    )


def alone(rows: Rows, labels: Sequence[float]) -> Batch[Points]:
    """A group for each row."""
    groups = [
        token_group(row["prompt"], [row["response"]], relation=PointRelation((label,), (False,)))
        for row, label in zip(rows, labels, strict=True)
    ]
    return collate_batch(groups, Points.collate)


@pytest.mark.parametrize(("batch", "case"), cases("KTO"))
def test_kto_from_token_ids(batch: dict[str, Any], case: dict[str, Any]) -> None:
    model = causal(batch["policy_seed"])
    own, mismatched = alone(batch["rows"], batch["label"]), alone(batch["KL_rows"], batch["label"])
    with torch.no_grad():
        frozen = causal(batch["reference_seed"])
        reference, other = frozen.log_probs(own.stream), frozen.log_probs(mismatched.stream)
        measured_M = log_ratios(model.log_probs(mismatched.stream), other)
    check_from_token_ids(
        model, own, lambda policy: kto(policy, reference, own.index, measured_M, **case["settings"]), case
    )
