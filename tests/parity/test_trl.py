"""Our objectives, their gradients and their metrics against those of TRL's own trainers, frozen by freeze_trl.py: from
log-probabilities, and from token ids through our stream, attention and head."""

import json
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import parity
from support.objective_cases import counted
from support.parity import CLOSE, causal, check_from_token_ids, reduced
from support.small_runs import in_child
from support.tiny_models import token_group
from torch import Tensor

from trueup.batch.rows import Demonstrations, LogProbs, Pairs, Points
from trueup.batch.stream import Batch, collate_batch
from trueup.feedback.records import DemonstrationRelation, PairRelation, PointRelation
from trueup.objectives.bco import bco
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.dpo_variants import apo_down, apo_zero, exo, f_dpo, ld_dpo, nca, sppo, wpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto, log_ratios
from trueup.objectives.loss import Loss
from trueup.objectives.sft import sft
from trueup.objectives.slic import slic

FOLDER = Path(__file__).parent
FREEZING = FOLDER.parents[1] / "benchmarks/parity"
FROZEN = json.loads((FOLDER / "trl.json").read_text(encoding="utf-8"))
Rows = Sequence[dict[str, Any]]


def sft_of_chosen(policy: LogProbs, reference: LogProbs, pairs: Pairs) -> Loss:
    """TRL's `sft` beside pairs: the tokens of the chosen responses, which are the first rows here and there."""
    tokens = int(policy.length_N[: len(pairs.chosen_P)].sum())
    chosen = LogProbs(policy.token_S[:tokens], policy.length_N[: len(pairs.chosen_P)])
    return sft(chosen, None, Demonstrations())


def bco_of_pairs(policy: LogProbs, reference: LogProbs, pairs: Pairs) -> Loss:
    """TRL's `bco_pair`, which has no shift: the sum over a pair, where ours is a mean over responses."""
    label_N = torch.zeros_like(policy.sum).index_fill(0, pairs.chosen_P, 1.0)
    loss = bco(policy, reference, Points(label_N, torch.zeros_like(label_N, dtype=torch.bool)), beta=0.1)
    return replace(loss, per_example=2 * loss.per_example)


OF_PAIRS: dict[tuple[Any, ...], Callable[[LogProbs, LogProbs, Pairs], Loss]] = {
    ("sigmoid",): partial(dpo, beta=0.1),
    # TRL's sigmoid does nothing with its label_smoothing.
    ("sigmoid", 0.1): partial(dpo, beta=0.1),
    ("robust", 0.1): partial(robust_dpo, beta=0.1, label_smoothing=0.1),
    ("ipo",): partial(ipo, beta=0.1, per_token=True),
    ("hinge",): partial(slic, beta=0.1),
    ("sft",): sft_of_chosen,
    ("sigmoid_norm",): partial(dpo, beta=0.1, per_token=True),
    ("sigmoid", "forward_kl"): partial(f_dpo, beta=0.1, divergence="forward-kl"),
    ("sigmoid", "js_divergence"): partial(f_dpo, beta=0.1, divergence="js"),
    ("sigmoid", "alpha_divergence", 0.7): partial(f_dpo, beta=0.1, divergence="alpha", alpha=1 - 0.7),
    ("sigmoid", 0.4): partial(ld_dpo, beta=0.1, alpha=0.4),
    ("sigmoid", True): partial(wpo, beta=0.1),
    ("exo_pair", 0.001): partial(exo, beta=0.1, label_smoothing=0.001),
    ("nca_pair",): partial(nca, beta=0.1),
    ("bco_pair",): bco_of_pairs,
    ("sppo_hard",): partial(sppo, beta=0.1),
    ("apo_zero",): partial(apo_zero, beta=0.1),
    ("apo_down",): partial(apo_down, beta=0.1),
}
"""TRL's loss_type and the other settings of a case -> ours."""


def of_pairs(settings: dict[str, Any]) -> Callable[[LogProbs, LogProbs, Pairs], Loss]:
    return OF_PAIRS[tuple(value for name, value in settings.items() if name != "beta")]


def cases(trainer: str, without: str = "") -> list[Any]:
    """(batch, case) of a trainer, named by batch and settings, less those that have a certain setting."""
    return [
        pytest.param(batch, case, id="-".join(map(str, [number, *case["settings"].values()])))
        for number, batch in enumerate(FROZEN[trainer])
        for case in batch["cases"]
        if without not in case["settings"]
    ]


def log_probs(rows: Rows, column: str) -> LogProbs:
    return parity.log_probs([row[column] for row in rows])


def pairs_of(rows: Rows) -> Pairs:
    """TRL lays the chosen responses first and the rejected ones after them."""
    half = len(rows) // 2
    return Pairs(torch.arange(half), torch.arange(half) + half, torch.ones(half, dtype=torch.float64))


def points_of(batch: dict[str, Any]) -> Points:
    label_N = torch.tensor(batch["label"], dtype=torch.float64)
    return Points(label_N, torch.zeros_like(label_N, dtype=torch.bool))


def check_from_log_probs(loss: Loss, policy: LogProbs, case: dict[str, Any]) -> None:
    """The step's loss, its gradient in every token's log-probability, and the metrics that both have."""
    step = reduced(loss)
    assert step.item() == pytest.approx(case["loss"], **CLOSE)
    gradient = torch.autograd.grad(step, policy.token_S)[0]
    expected = [value for row in case["gradient"] for value in row]
    assert any(expected)
    assert gradient.tolist() == pytest.approx(expected, **CLOSE)
    means = {name: counted(one).mean().item() for name, one in loss.metrics.items() if counted(one).numel()}
    # Margins and accuracies are of pairs; points have none, and TRL subtracts two means.
    compared = {
        name for name in case["metrics"] if name in means or name.startswith(("rewards/ch", "rewards/re", "logps/"))
    }
    assert {name: means.get(name) for name in compared} == pytest.approx(
        {name: case["metrics"][name] for name in compared}, **CLOSE
    )


OWN_METRICS = {
    **dict.fromkeys(("ipo", "sigmoid_norm", "f_divergence_type"), ("rewards/",)),
    **dict.fromkeys(("sft", "ld_alpha"), ("rewards/", "logps/")),
}
"""Where our metrics are not TRL's, which shows those of DPO beside every loss: our IPO's rewards are per token as its
loss is, as are those of other divergences; LD-DPO's are of whole responses, and SFT has none."""


@pytest.mark.parametrize(("batch", "case"), cases("DPO", without="use_weighting"))
def test_pairs(batch: dict[str, Any], case: dict[str, Any]) -> None:
    policy, reference = (log_probs(batch["rows"], column) for column in ("policy", "reference"))
    policy.token_S.requires_grad_()
    loss = of_pairs(case["settings"])(policy, reference, pairs_of(batch["rows"]))
    named = (case["settings"]["loss_type"], *case["settings"])
    own = tuple(prefix for name in named for prefix in OWN_METRICS.get(name, ()))
    metrics = {name: value for name, value in case["metrics"].items() if not name.startswith(own)}
    check_from_log_probs(loss, policy, {**case, "metrics": metrics})


def kto_of(batch: dict[str, Any], settings: dict[str, Any], policy: LogProbs, mismatched_M: Tensor) -> Loss:
    return kto(policy, log_probs(batch["rows"], "reference"), points_of(batch), mismatched_M, **settings)


def mismatched_of(batch: dict[str, Any]) -> Tensor:
    """[M, 1] log-ratios of TRL's mismatched completions."""
    rows = batch["KL_rows"]
    return log_ratios(log_probs(rows, "policy"), log_probs(rows, "reference"))


@pytest.mark.parametrize(("batch", "case"), cases("KTO"))
def test_kto(batch: dict[str, Any], case: dict[str, Any]) -> None:
    policy = log_probs(batch["rows"], "policy")
    policy.token_S.requires_grad_()
    loss = kto_of(batch, case["settings"], policy, mismatched_of(batch))
    check_from_log_probs(loss, policy, case)
    assert loss.metrics["kto/z0"].item() == pytest.approx(case["metrics"]["kl"], **CLOSE)


def test_the_frozen_batches_reach_what_is_to_be_compared() -> None:
    """Estimates of a KL that were clamped and that were not, classes that are empty, hinges past their end."""
    divergences = [batch["cases"][0]["metrics"]["kl"] for batch in FROZEN["KTO"]]
    assert min(divergences) == 0 < max(divergences)
    assert {all(batch["label"]) for batch in FROZEN["KTO"]} == {True, False}
    hinged = [case for batch in FROZEN["DPO"] for case in batch["cases"] if case["settings"]["loss_type"] == "hinge"]
    pulls = [[any(row) for row in case["gradient"]] for case in hinged]
    assert any(any(each) and not all(each) for each in pulls)
    assert {len(row["response"]) for batch in FROZEN["DPO"] for row in batch["rows"]} >= {3, 10}


# Where we differ on purpose: ours is not TRL's number, and is after the correction that is stated.


def named(batch: dict[str, Any], loss_type: str, **settings: float) -> dict[str, Any]:
    wanted = {"beta": 0.1, "loss_type": loss_type, **settings}
    return next(case for case in batch["cases"] if case["settings"] == wanted)


@pytest.mark.parametrize("batch", FROZEN["DPO"])
def test_we_smooth_labels_where_trl_has_no_use_for_them(batch: dict[str, Any]) -> None:
    """TRL's sigmoid A ignores label_smoothing e. Its robust loss R = ((1 - e) A - e B) / (1 - 2 e) holds the loss
    B of the turned pairs, so (1 - e) A + e B = 2 (1 - e) A - (1 - 2 e) R is smoothed DPO."""
    plain, smoothed = named(batch, "sigmoid"), named(batch, "sigmoid", label_smoothing=0.1)
    robust = named(batch, "robust", label_smoothing=0.1)
    assert plain["loss"] == smoothed["loss"]
    policy, reference = (log_probs(batch["rows"], column) for column in ("policy", "reference"))
    ours = reduced(dpo(policy, reference, pairs_of(batch["rows"]), beta=0.1, label_smoothing=0.1)).item()
    assert ours != pytest.approx(smoothed["loss"], rel=1e-3)
    assert ours == pytest.approx(2 * 0.9 * plain["loss"] - 0.8 * robust["loss"], **CLOSE)


@pytest.mark.parametrize("first", [0, 2])
def test_our_kto_estimates_its_kl_over_the_whole_step(first: int) -> None:
    """TRL takes z0 of each device's micro-batch. With two of them in a step, TRL's loss is the mean of two losses
    with a z0 each; ours has one z0, and is TRL's when each micro-batch is given its own."""
    step = FROZEN["KTO"][first : first + 2]
    settings = {"beta": 0.1}
    of_trl = sum(batch["cases"][0]["loss"] for batch in step) / 2
    measured = [mismatched_of(batch) for batch in step]

    def loss(measured: Sequence[Tensor]) -> float:
        losses = [
            kto_of(batch, settings, log_probs(batch["rows"], "policy"), of_batch)
            for batch, of_batch in zip(step, measured, strict=True)
        ]
        examples = torch.cat([each.per_example for each in losses])
        return (examples.sum() / sum(each.weight.sum() for each in losses)).item()

    assert loss(measured) == pytest.approx(of_trl, **CLOSE)
    whole = loss([torch.cat(measured)] * 2)
    clamped = all(batch["cases"][0]["metrics"]["kl"] == 0 for batch in step)
    # Two estimates below 0 are 0 here and there; so is that of both together.
    assert (whole == pytest.approx(of_trl, **CLOSE)) == clamped


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in JSON by the way to it, and of what holds something else, what it is."""
    if not isinstance(value, dict | list):
        yield where, value
        return
    yield where, type(value).__name__
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(one, f"{where}/{key}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trl", "grpo"])
def test_the_frozen_numbers_are_those_of_trl(name: str, tmp_path: Path) -> None:
    """Freeze again in a process of its own, which has torch already, and compare every number."""
    path, errors = tmp_path / "again.json", tmp_path / "errors"
    frozen = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

    def body() -> None:
        warnings.resetwarnings()  # TRL's own
        os.environ["HF_HOME"] = str(tmp_path / "cache")
        sys.argv = [f"freeze_{name}.py", str(path)]
        runpy.run_path(str(FREEZING / f"freeze_{name}.py"), run_name="__main__")

    assert in_child(body, errors) == 0, errors.read_text()
    again = json.loads(path.read_text(encoding="utf-8"))
    assert again.pop("versions")["trl"] == frozen.pop("versions")["trl"]
    # A parameter's gradient is a sum of many terms that cancel.
    near = partial(pytest.approx, rel=1e-4, abs=1e-5)
    assert dict(leaves(again)) == {way: near(one) if isinstance(one, float) else one for way, one in leaves(frozen)}


@pytest.mark.parametrize(("batch", "case"), cases("DPO"))
def test_pairs_from_token_ids(batch: dict[str, Any], case: dict[str, Any]) -> None:
    """Through our stream, attention and head: a prompt once with its two responses, not two padded rows."""
    half = len(batch["rows"]) // 2
    chosen, rejected = batch["rows"][:half], batch["rows"][half:]
    assert [row["prompt"] for row in chosen] == [row["prompt"] for row in rejected]
    groups = [
        token_group(better["prompt"], [better["response"], worse["response"]], relation=PairRelation(((0, 1, 1.0),)))
        for better, worse in zip(chosen, rejected, strict=True)
    ]
    # Chosen first, as `sft_of_chosen` takes them: a group of one response each.
    if case["settings"]["loss_type"] == "sft":
        groups = [token_group(row["prompt"], [row["response"]], relation=DemonstrationRelation()) for row in chosen]
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
