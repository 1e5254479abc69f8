"""CPO, SimPO and ORPO against TRL's own trainers, frozen by freeze_trl.py, from token ids through our stream. TRL
imitates chosen responses by the mean over all of their tokens, and under ORPO those of the prompts as well, where
ours is the mean over responses of the mean over tokens: the terms of a pair are compared with our objective, and the
term beside them is TRL's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.objective_cases import counted
from support.parity import CLOSE, causal, check_from_token_ids, reduced
from support.tiny_models import token_group

from trueup.batch.rows import Demonstrations, LogProbs, Pairs
from trueup.batch.stream import Batch, collate_batch
from trueup.feedback.records import DemonstrationRelation, PairRelation
from trueup.objectives.loss import Loss
from trueup.objectives.reference_free import cpo, orpo, simpo
from trueup.objectives.sft import beside_sft, sft

FROZEN = json.loads((Path(__file__).parent / "trl.json").read_text(encoding="utf-8"))


def cases(trainer: str) -> list[Any]:
    return [
        pytest.param(batch, case, id="-".join(map(str, [number, *case["settings"].values()])))
        for number, batch in enumerate(FROZEN[trainer])
        for case in batch["cases"]
    ]


def collated(batch: dict[str, Any]) -> Batch[Pairs]:
    half = len(batch["rows"]) // 2
    return collate_batch(
        [
            token_group(
                better["prompt"], [better["response"], worse["response"]], relation=PairRelation(((0, 1, 1.0),))
            )
            for better, worse in zip(batch["rows"][:half], batch["rows"][half:], strict=True)
        ],
        Pairs.collate,
    )


def objective(policy: LogProbs, pairs: Pairs, settings: dict[str, Any]) -> Loss:
    if settings.get("loss_type") == "simpo":
        return simpo(policy, None, pairs, beta=settings["beta"], margin=settings["simpo_gamma"])
    made = cpo if "cpo_alpha" in settings else orpo
    return made(policy, None, pairs, beta=settings["beta"])


def check_metrics(loss: Loss, case: dict[str, Any]) -> None:
    """TRL's log-probabilities are those that its loss takes, per token but for CPO; ours are of whole responses."""
    per_token = case["settings"].get("loss_type") != "sigmoid"
    shown = {name: value for name, value in case["metrics"].items() if not (per_token and name.startswith("logps/"))}
    assert len(shown) > 3
    for name, value in shown.items():
        assert counted(loss.metrics[name]).mean().item() == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(("batch", "case"), cases("CPO"))
def test_cpo_and_simpo(batch: dict[str, Any], case: dict[str, Any]) -> None:
    made = collated(batch)

    def loss(policy: LogProbs) -> torch.Tensor:
        plain = objective(policy, made.index, case["settings"])
        check_metrics(plain, case)
        chosen_P = made.index.chosen_P
        tokens = policy.length_N[chosen_P].sum()
        return reduced(plain) - case["settings"]["cpo_alpha"] * policy.sum[chosen_P].sum() / tokens

    check_from_token_ids(causal(batch["policy_seed"]), made, loss, case)


@pytest.mark.parametrize(("batch", "case"), cases("ORPO"))
def test_orpo(batch: dict[str, Any], case: dict[str, Any]) -> None:
    model, made = causal(batch["policy_seed"]), collated(batch)
    chosen = [[*row["prompt"], *row["response"]] for row in batch["rows"][: len(batch["rows"]) // 2]]
    whole = collate_batch(
        [token_group(ids[:1], [ids[1:]], relation=DemonstrationRelation()) for ids in chosen], Demonstrations.collate
    )

    def loss(policy: LogProbs) -> torch.Tensor:
        plain = objective(policy, made.index, case["settings"])
        check_metrics(plain, case)
        return reduced(plain) + reduced(sft(model.log_probs(whole.stream), None, Demonstrations()))

    check_from_token_ids(model, made, loss, case)


def test_our_imitation_counts_every_pair_alike() -> None:
    """Where all chosen responses have as many tokens TRL's term is ours, and elsewhere it is not."""
    pairs = Pairs(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.ones(2, dtype=torch.float64))
    for lengths, same in (((3, 2, 3, 4), True), ((3, 2, 5, 4), False)):
        policy = LogProbs(-torch.arange(1.0, sum(lengths) + 1, dtype=torch.float64) / 9, torch.tensor(lengths))
        rows_P = pairs.chosen_P
        token_mean = -policy.sum[rows_P].sum() / policy.length_N[rows_P].sum()
        both = beside_sft(cpo, 0.7, policy, None, pairs)
        of_trl = reduced(cpo(policy, None, pairs)) + 0.7 * token_mean
        assert (reduced(both).item() == pytest.approx(of_trl.item(), **CLOSE)) == same
