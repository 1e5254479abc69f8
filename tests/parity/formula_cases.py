"""What freeze_formulas.py froze, as our types, and which of our objectives each formula is."""

from collections.abc import Callable
from typing import Any

import torch
from parity.freeze_formulas import FILES
from parity.frozen import FOLDER, read_cases

from trueup.batch.index import Demonstrations, GradedPairs, Pairs, PairsWithTarget, Points, Rankings, Weighted
from trueup.batch.logprobs import LogProbs, Scores
from trueup.feedback.records import Example, Prompt, Response
from trueup.feedback.transforms.standardized_rewards import ExponentialWeights
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.dpo import dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto, log_ratios
from trueup.objectives.loss import Loss
from trueup.objectives.paired_kto import pair_log_ratios, paired_kto
from trueup.objectives.pointwise_dpo import pointwise_dpo
from trueup.objectives.robust_dpo import robust_dpo
from trueup.objectives.rrhf import rrhf, rrhf_padded
from trueup.objectives.sft import sft
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import ulma
from trueup.objectives.ulma_group_means import imitated, ulma_group_means
from trueup.objectives.unlikelihood import unlikelihood
from trueup.objectives.unlikelihood_ascent import unlikelihood_ascent
from trueup.objectives.weighted_sft import weighted_sft, weights

FROZEN = {name: read_cases(FOLDER / f"{name}.json") for name in FILES}
Batch = dict[str, Any]
Ours = Callable[..., Loss]
"""Of (policy, reference, batch), and settings by the formula's names."""


def double(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_probs(batch: Batch, column: str, rows: str = "rows") -> LogProbs:
    lengths = torch.tensor([len(row[column]) for row in batch[rows]])
    prompts = [
        prompt
        for prompt, group in zip(batch.get("prompts", ()), batch.get("groups", ()), strict=True)
        for _ in group
    ]
    tokens = [token for row in batch[rows] for token in row[column]]
    return LogProbs(double(tokens), lengths, torch.tensor(prompts) if prompts else None)


def pairs_of(batch: Batch) -> Pairs:
    chosen, rejected, probability = zip(*batch["pairs"], strict=True)
    return Pairs(torch.tensor(chosen), torch.tensor(rejected), double(probability))


def targets_of(batch: Batch) -> PairsWithTarget:
    return PairsWithTarget(pairs_of(batch), torch.tensor(batch["targets"]))


def points_of(batch: Batch) -> Points:
    return Points(double(batch["labels"]), torch.tensor(batch["demonstrations"]))


def rankings_of(batch: Batch) -> Rankings:
    group_N = [number for number, group in enumerate(batch["groups"]) for _ in group]
    return Rankings(double(batch["scores"]), torch.tensor(group_N), len(batch["groups"]))


def plain(objective: Ours, index: Callable[[Batch], Any]) -> Ours:
    """An objective whose settings have the formula's names."""
    return lambda policy, reference, batch, **settings: objective(policy, reference, index(batch), **settings)


def paired(policy: LogProbs, reference: LogProbs, batch: Batch, *, beta: float) -> Loss:
    pairs = pairs_of(batch)
    measured_M = pair_log_ratios(policy.detach(), reference, pairs)
    return paired_kto(policy, reference, pairs, measured_M, beta=beta)


def pointwise_kto(policy: LogProbs, reference: LogProbs, batch: Batch, **settings: float) -> Loss:
    mismatched_M = log_ratios(*(log_probs(batch, column, "mismatched") for column in ("policy", "reference")))
    return kto(policy, reference, points_of(batch), mismatched_M, **settings)


def one_is_shown(batch: Batch, *, graded: bool) -> Points:
    """As ULMA's authors read labels: what is labelled 1 is a demonstration, and in their binary form all else is 0."""
    label_N = double(batch["labels"])
    return Points(label_N if graded else (label_N == 1).double(), label_N == 1)


def group_means(
    policy: LogProbs, reference: LogProbs, batch: Batch, *, continuous: bool, **settings: Any
) -> Loss:
    points = one_is_shown(batch, graded=continuous)
    imitated_M = imitated(points, continuous=continuous)
    return ulma_group_means(policy, reference, points, imitated_M, continuous=continuous, **settings)


def class_means(policy: LogProbs, reference: LogProbs, batch: Batch) -> Loss:
    """Ours, with the loss of every response multiplied by N / (size of its class)."""
    points = one_is_shown(batch, graded=False)
    loss = unlikelihood_ascent(policy, None, points)
    size_N = torch.where(points.demonstration_N, *classes(batch))
    return Loss(loss.per_example * len(batch["rows"]) / size_N, loss.weight, loss.row)


def classes(batch: Batch) -> tuple[int, int]:
    """Responses with label 1, and the others."""
    ones = sum(label == 1 for label in batch["labels"])
    return ones, len(batch["labels"]) - ones


def reward_weighted(
    policy: LogProbs, reference: LogProbs, batch: Batch, *, beta: float, max_weight: float, per_token: bool
) -> Loss:
    """Through the transform that makes weights of rewards."""
    examples = [Example(Prompt(""), (Response("", score=reward),)) for reward in batch["rewards"]]
    weighted = ExponentialWeights(beta, max_weight).fit(examples).rewrite(examples)
    index = Weighted(double([example.responses[0].score for example in weighted]))
    return weighted_sft(policy, None, index, weights(index), per_token=per_token)


def of_scores(policy: LogProbs, reference: LogProbs, batch: Batch, **settings: float) -> Loss:
    """The numbers of a row summed stand for a reward model's score."""
    pairs = pairs_of(batch)
    graded = GradedPairs(pairs, torch.zeros_like(pairs.probability_P))
    return bradley_terry(Scores(policy.sum), None, graded, **settings)


OURS: dict[str, Ours] = {
    "bradley_terry": of_scores,
    "dpo": plain(dpo, pairs_of),
    "robust_dpo": plain(robust_dpo, pairs_of),
    "ipo": plain(ipo, pairs_of),
    "slic": plain(slic, pairs_of),
    "slic_hf": plain(slic_hf, targets_of),
    "paired_kto": paired,
    "pointwise_dpo": plain(pointwise_dpo, points_of),
    "ulma": plain(ulma, points_of),
    "ulma_of_authors": group_means,
    "kto": pointwise_kto,
    "unlikelihood": plain(unlikelihood, points_of),
    "unlikelihood_ascent": plain(unlikelihood_ascent, points_of),
    "unlikelihood_of_authors": class_means,
    "rrhf": plain(rrhf, rankings_of),
    "rrhf_of_authors": plain(rrhf_padded, rankings_of),
    "sft": plain(sft, lambda batch: Demonstrations()),
    "rwr": reward_weighted,
}


def both(batch: Batch) -> tuple[LogProbs, LogProbs]:
    return log_probs(batch, "policy"), log_probs(batch, "reference")


def reduced(loss: Loss) -> torch.Tensor:
    return loss.per_example.sum() / loss.weight.sum()
