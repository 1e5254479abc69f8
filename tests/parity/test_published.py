"""PRO, BCO, XPO and Nash-MD against published code, frozen by freeze_published.py in float64."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.parity import log_probs, reduced

from trueup.batch.rows import Pairs, Points, Rankings
from trueup.objectives.bco import SEEN, bco
from trueup.objectives.loss import Loss
from trueup.objectives.opponents import nash_md, xpo
from trueup.objectives.rrhf import pro

FROZEN = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
EXACT = dict(rel=1e-12, abs=1e-12)
NEAR = dict(rel=1e-9, abs=1e-9)  # PRO's authors add 1e-10 in a logarithm


def gradient_of(loss: Loss, token_S: torch.Tensor) -> list[float]:
    return torch.autograd.grad(reduced(loss), token_S)[0].tolist()


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


@pytest.mark.parametrize("case", FROZEN["PRO"])
def test_pro_is_its_authors(case: dict[str, Any]) -> None:
    policy, ranks = log_probs(case["policy"]), case["ranks"]
    policy.token_S.requires_grad_()
    count = len(case["policy"])
    rankings = Rankings(torch.tensor(case["scores"], dtype=torch.float64), torch.arange(count) // ranks, count // ranks)
    loss = pro(policy, None, rankings, **case["settings"])
    assert reduced(loss).item() == pytest.approx(case["loss"], **NEAR)
    assert gradient_of(loss, policy.token_S) == pytest.approx(flat(case["gradient"]), **NEAR)


def test_bco_is_trl_s_from_step_to_step() -> None:
    """TRL keeps its running mean in float32."""
    seen_2 = None
    assert SEEN.remembers is not None
    for case in FROZEN["BCO"]:
        policy, reference = log_probs(case["policy"]), log_probs(case["reference"])
        policy.token_S.requires_grad_()
        seen_2 = SEEN.remembers((policy.sum - reference.sum).detach()[:, None], seen_2)
        label_N = torch.tensor(case["labels"], dtype=torch.float64)
        points = Points(label_N, torch.zeros_like(label_N, dtype=torch.bool))
        loss = bco(policy, reference, points, seen_2, **case["settings"])
        assert loss.metrics["bco/delta"].item() == pytest.approx(case["delta"], rel=1e-6)
        assert reduced(loss).item() == pytest.approx(case["loss"], rel=1e-7)
        assert gradient_of(loss, policy.token_S) == pytest.approx(flat(case["gradient"]), rel=1e-6)


def pairs_of(case: dict[str, Any]) -> Pairs:
    """The policy's response first among the rows; how surely it wins may be anything."""
    own, other = torch.arange(5), torch.arange(5) + 5
    wins = torch.tensor(case["wins"], dtype=torch.float64)
    chosen, rejected = torch.where(wins >= 0.5, own, other), torch.where(wins >= 0.5, other, own)
    return Pairs(chosen, rejected, torch.maximum(wins, 1 - wins))


@pytest.mark.parametrize("case", FROZEN["XPO"])
def test_xpo_is_trl_s(case: dict[str, Any]) -> None:
    policy, reference = log_probs(case["policy"]), log_probs(case["reference"])
    policy.token_S.requires_grad_()
    loss = xpo(policy, reference, pairs_of(case), **case["settings"])
    assert reduced(loss).item() == pytest.approx(case["loss"], **EXACT)
    assert gradient_of(loss, policy.token_S) == pytest.approx(flat(case["gradient"]), **EXACT)


@pytest.mark.parametrize("case", FROZEN["NashMD"])
def test_nash_md_follows_trl_s_gradient_but_for_the_ratio_of_the_whole_response(case: dict[str, Any]) -> None:
    """TRL follows beta log(pi / pi_ref)(y_t) at token t, where the paper and we have the ratio of all of y."""
    policy, reference = log_probs(case["policy"]), log_probs(case["reference"])
    policy.token_S.requires_grad_()
    found = gradient_of(nash_md(policy, reference, pairs_of(case), **case["settings"]), policy.token_S)
    ratio_S = (policy.token_S - reference.token_S).detach()
    whole_S = (policy.sum - reference.sum).detach().repeat_interleave(policy.length_N)
    own_S = torch.arange(10).repeat_interleave(policy.length_N) < 5
    more_S = torch.where(own_S, case["settings"]["beta"] * (whole_S - ratio_S) / 5, 0.0)
    expected = torch.tensor(flat(case["gradient"]), dtype=torch.float64) + more_S
    assert found == pytest.approx(expected.tolist(), **EXACT)
    alone = {len(row) for row in case["policy"]} == {1} or case["settings"]["beta"] == 0
    assert bool((more_S.abs() < 1e-12).all()) == alone
