"""Our objectives, their gradients and their metrics against those of TRL's own trainers, frozen by freeze_trl.py."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.frozen import FOLDER, compare, read_cases
from parity.trl_cases import CLOSE, FROZEN, cases, log_probs, of_pairs, pairs_of, points_of, reduced
from support.objective_cases import counted
from torch import Tensor

from trueup.batch.logprobs import LogProbs
from trueup.objectives.dpo import dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto, log_ratios
from trueup.objectives.loss import Loss


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
        name
        for name in case["metrics"]
        if name in means or name.startswith(("rewards/ch", "rewards/re", "logps/"))
    }
    assert {name: means.get(name) for name in compared} == pytest.approx(
        {name: case["metrics"][name] for name in compared}, **CLOSE
    )


OWN_METRICS = {"ipo": ("rewards/",), "sft": ("rewards/", "logps/")}
"""Where our metrics are not TRL's, which shows those of DPO beside every loss: our IPO's rewards are per token as its
loss is, and SFT has none."""


@pytest.mark.parametrize(("batch", "case"), cases("DPO"))
def test_pairs(batch: dict[str, Any], case: dict[str, Any]) -> None:
    policy, reference = (log_probs(batch["rows"], column) for column in ("policy", "reference"))
    policy.token_S.requires_grad_()
    loss = of_pairs(case["settings"])(policy, reference, pairs_of(batch["rows"]))
    own = OWN_METRICS.get(case["settings"]["loss_type"], ())
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
    hinged = [
        case for batch in FROZEN["DPO"] for case in batch["cases"] if case["settings"]["loss_type"] == "hinge"
    ]
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


@pytest.mark.parametrize("batch", FROZEN["DPO"])
def test_our_ipo_sums_over_tokens_unless_asked(batch: dict[str, Any]) -> None:
    """TRL divides the log-ratio of each response by its tokens. Ours of log-ratios divided beforehand is TRL's."""
    rows = batch["rows"]
    policy, reference = (log_probs(rows, column) for column in ("policy", "reference"))
    expected = named(batch, "ipo")["loss"]
    assert reduced(ipo(policy, reference, pairs_of(rows), beta=0.1)).item() != pytest.approx(
        expected, rel=1e-3
    )
    one_N = torch.ones_like(policy.length_N)
    averaged = LogProbs(policy.mean, one_N), LogProbs(reference.mean, one_N)
    assert reduced(ipo(*averaged, pairs_of(rows), beta=0.1)).item() == pytest.approx(expected, **CLOSE)


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


@pytest.mark.slow
def test_the_frozen_numbers_are_those_of_trl(tmp_path: Path) -> None:
    """Freeze again in a process of its own and compare every number."""
    path = tmp_path / "trl.json"
    command = [sys.executable, str(FOLDER / "freeze_trl.py"), str(path)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = read_cases(path)
    assert again["facts"]["trl"] == FROZEN["facts"]["trl"]
    for trainer in ("DPO", "KTO"):
        # A parameter's gradient is a sum of many terms that cancel.
        compare(again[trainer], FROZEN[trainer], relative=1e-4, absolute=1e-5)
