"""Our objectives against the papers' formulas, which are plain loops (support/formulas.py), on random batches. The
derivative of a formula's step loss in every token's log-probability is taken by central differences."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from support import formulas, pair_formulas
from support.formula_batches import gradient, pairs, points, rankings, rewards
from support.formulas import Answer, Batch
from support.parity import reduced

from trueup.batch.rows import (
    Demonstrations,
    GradedPairs,
    LogProbs,
    Pairs,
    PairsWithTarget,
    Points,
    Rankings,
    Scores,
    Weighted,
)
from trueup.feedback.records import Example, Prompt, Response
from trueup.feedback.transforms import ExponentialWeights
from trueup.objectives import dpo_variants
from trueup.objectives.bco import SEEN, bco
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto, log_ratios
from trueup.objectives.loss import Loss
from trueup.objectives.paired_kto import pair_log_ratios, paired_kto
from trueup.objectives.pointwise_dpo import pointwise_dpo
from trueup.objectives.reference_free import cpo, orpo, simpo
from trueup.objectives.rrhf import pro, rrhf, rrhf_padded
from trueup.objectives.sft import beside_sft, sft, weighted_sft, weights
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import labels, ulma, ulma_group_means
from trueup.objectives.unlikelihood import unlikelihood, unlikelihood_ascent

BATCHES = 20


Case = tuple[Callable[..., Answer], dict[str, Any]]
BOTH: tuple[dict[str, Any], ...] = (
    {"beta": 0.1, "continuous": False, "per_token": False, "log_z": 0.0},
    {"beta": 1.0, "continuous": False, "per_token": True, "log_z": 0.3},
    {"beta": 0.1, "continuous": True, "per_token": True, "log_z": 0.0},
    {"beta": 0.5, "continuous": True, "per_token": False, "log_z": -0.2},
)
OF_BETA = (
    *(pair_formulas.normalised_dpo, pair_formulas.wpo, pair_formulas.apo_zero, pair_formulas.apo_down),
    *(pair_formulas.nca, pair_formulas.sppo),
)


def of(formula: Callable[..., Answer], names: Sequence[str], *several: Sequence[Any]) -> list[Case]:
    """A case for each of several values of its settings."""
    return [(formula, dict(zip(names, values, strict=True))) for values in several]


FORMULAS: dict[str, tuple[Callable[[random.Random], Batch], tuple[Case, ...]]] = {
    "pairs": (
        pairs,
        (
            *of(pair_formulas.dpo, ("beta", "label_smoothing"), (0.1, 0.0), (1.0, 0.2)),
            *of(pair_formulas.robust_dpo, ("beta", "label_smoothing"), (0.1, 0.1), (1.0, 0.3)),
            *of(pair_formulas.ipo, ("beta", "per_token"), (0.1, False), (0.5, True)),
            *of(pair_formulas.slic, ("beta",), (0.05,), (0.5,)),
            *of(pair_formulas.slic_hf, ("margin", "regularization"), (1.0, 0.1), (3.0, 0.5)),
            *of(pair_formulas.bradley_terry, ("margin", "centring"), (0.0, 0.0), (1.0, 0.01)),
            *of(pair_formulas.paired_kto, ("beta",), (0.1,), (1.0,)),
            *of(pair_formulas.f_dpo, ("beta", "divergence", "alpha"), (0.5, "forward-kl", 0.5), (0.5, "js", 0.5)),
            *of(pair_formulas.f_dpo, ("beta", "divergence", "alpha"), (0.5, "alpha", 0.3)),
            (pair_formulas.rpo, {"beta": 0.5, "sft_weight": 0.7}),
            (pair_formulas.simpo, {"beta": 2.0, "margin": 1.0}),
            (pair_formulas.cpo, {"beta": 0.5, "sft_weight": 1.0}),
            (pair_formulas.orpo, {"beta": 0.3, "sft_weight": 1.0}),
            (pair_formulas.ld_dpo, {"beta": 0.5, "alpha": 0.4}),
            (pair_formulas.dpo_positive, {"beta": 0.3, "penalty": 5.0}),
            (pair_formulas.exo, {"beta": 0.5, "label_smoothing": 0.01}),
            *((formula, {"beta": 0.5}) for formula in OF_BETA),
        ),
    ),
    "points": (
        points,
        (
            *((formulas.pointwise_dpo, settings) for settings in BOTH),
            *((formulas.ulma, settings) for settings in BOTH),
            (formulas.ulma_of_authors, {"beta": 0.1, "continuous": False, "log_z": 0.0}),
            (formulas.ulma_of_authors, {"beta": 1.0, "continuous": True, "log_z": 0.3}),
            (formulas.bco, {"beta": 0.5}),
            (formulas.kto, {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
            (formulas.kto, {"beta": 1.0, "desirable_weight": 1.33, "undesirable_weight": 0.5}),
            *of(formulas.unlikelihood, ("weight",), (1.0,), (0.3,)),
            *of(formulas.unlikelihood_ascent, ("weight",), (1.0,), (0.3,)),
            (formulas.unlikelihood_of_authors, {}),
        ),
    ),
    "rankings": (
        rankings,
        (
            (formulas.rrhf, {"rank_weight": 1.0, "sft_weight": 1.0}),
            (formulas.rrhf, {"rank_weight": 10.0, "sft_weight": 0.5}),
            (formulas.pro, {"sft_weight": 0.05}),
            (formulas.rrhf_of_authors, {"rank_weight": 1.0, "sft_weight": 1.0}),
            (formulas.rrhf_of_authors, {"rank_weight": 100.0, "sft_weight": 0.5}),
        ),
    ),
    "rewards": (
        rewards,
        (
            (formulas.sft, {"per_token": True}),
            (formulas.sft, {"per_token": False}),
            (formulas.rwr, {"beta": 1.0, "max_weight": 20.0, "per_token": True}),
            (formulas.rwr, {"beta": 0.3, "max_weight": 5.0, "per_token": False}),
        ),
    ),
}


@cache
def batches_of(kind: str) -> tuple[Batch, ...]:
    """The batches of a kind of feedback."""
    chance = random.Random(list(FORMULAS).index(kind))
    return tuple(FORMULAS[kind][0](chance) for _ in range(BATCHES))


Ours = Callable[..., Loss]  # of (policy, reference, batch), and settings by the formula's names


def double(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_probs(batch: Batch, column: str, rows: str = "rows") -> LogProbs:
    lengths = torch.tensor([len(row[column]) for row in batch[rows]])
    prompts = [
        prompt for prompt, group in zip(batch.get("prompts", ()), batch.get("groups", ()), strict=True) for _ in group
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
    with torch.no_grad():
        measured_M = pair_log_ratios(LogProbs(policy.token_S, policy.length_N), reference, pairs)
    return paired_kto(policy, reference, pairs, measured_M, beta=beta)


def pointwise_kto(policy: LogProbs, reference: LogProbs, batch: Batch, **settings: float) -> Loss:
    mismatched_M = log_ratios(*(log_probs(batch, column, "mismatched") for column in ("policy", "reference")))
    return kto(policy, reference, points_of(batch), mismatched_M, **settings)


def shifted_bco(policy: LogProbs, reference: LogProbs, batch: Batch, **settings: float) -> Loss:
    mismatched_M = log_ratios(*(log_probs(batch, column, "mismatched") for column in ("policy", "reference")))
    assert SEEN.remembers is not None
    seen_2 = SEEN.remembers(mismatched_M[1:], SEEN.remembers(mismatched_M[:1], None))
    return bco(policy, reference, points_of(batch), seen_2, **settings)


def one_is_shown(batch: Batch, *, graded: bool) -> Points:
    """As ULMA's authors read labels: what is labelled 1 is a demonstration, and in their binary form all else is 0."""
    label_N = double(batch["labels"])
    return Points(label_N if graded else (label_N == 1).double(), label_N == 1)


def group_means(policy: LogProbs, reference: LogProbs, batch: Batch, *, continuous: bool, **settings: Any) -> Loss:
    points = one_is_shown(batch, graded=continuous)
    return ulma_group_means(policy, reference, points, labels(points), continuous=continuous, **settings)


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


def imitating(objective: Ours) -> Ours:
    """An objective of pairs, its chosen responses imitated."""
    return lambda policy, reference, batch, *, sft_weight, **settings: beside_sft(
        partial(objective, **settings), sft_weight, policy, reference, pairs_of(batch)
    )


def weighed(policy: LogProbs, reference: LogProbs, batch: Batch, *, beta: float) -> Loss:
    """With distributions that give each response its weight."""
    weight_S = double(batch["weights"]).repeat_interleave(policy.length_N)
    collision_S = policy.token_S.detach() - weight_S.log()
    return dpo_variants.wpo(replace(policy, collision_S=collision_S), reference, pairs_of(batch), beta=beta)


def of_scores(policy: LogProbs, reference: LogProbs, batch: Batch, **settings: float) -> Loss:
    """The numbers of a row summed stand for a reward model's score."""
    pairs = pairs_of(batch)
    graded = GradedPairs(pairs, torch.zeros_like(pairs.probability_P))
    return bradley_terry(Scores(policy.sum), None, graded, **settings)


OF_PAIRS: tuple[Any, ...] = (dpo, robust_dpo, ipo, slic, simpo)
OF_PAIRS += (dpo_variants.f_dpo, dpo_variants.ld_dpo, dpo_variants.dpo_positive, dpo_variants.exo)
OF_PAIRS += (dpo_variants.apo_zero, dpo_variants.apo_down, dpo_variants.nca, dpo_variants.sppo)
OF_POINTS: tuple[Any, ...] = (pointwise_dpo, ulma, unlikelihood, unlikelihood_ascent)
OURS: dict[str, Ours] = {
    **{one.__name__: plain(one, pairs_of) for one in OF_PAIRS},
    **{one.__name__: plain(one, points_of) for one in OF_POINTS},
    **{"rpo": imitating(dpo), "cpo": imitating(cpo), "orpo": imitating(orpo)},
    **{"rrhf": plain(rrhf, rankings_of), "pro": plain(pro, rankings_of)}, "bradley_terry": of_scores,
    "normalised_dpo": plain(partial(dpo, per_token=True), pairs_of), "wpo": weighed,
    "slic_hf": plain(slic_hf, targets_of), "paired_kto": paired, "ulma_of_authors": group_means,
    "kto": pointwise_kto, "bco": shifted_bco, "unlikelihood_of_authors": class_means,
    "rrhf_of_authors": plain(rrhf_padded, rankings_of), "sft": plain(sft, lambda batch: Demonstrations()),
    "rwr": reward_weighted,
}  # fmt: skip


def both(batch: Batch) -> tuple[LogProbs, LogProbs]:
    return log_probs(batch, "policy"), log_probs(batch, "reference")


CASES = [
    pytest.param(kind, formula, settings, id="-".join([formula.__name__, *(f"{k}={v}" for k, v in settings.items())]))
    for kind, (_, cases) in FORMULAS.items()
    for formula, settings in cases
]


@pytest.mark.parametrize(("kind", "formula", "settings"), CASES)
def test_equals_its_formula(kind: str, formula: Callable[..., Answer], settings: dict[str, Any]) -> None:
    """Each example's loss, the step's, and its gradient in every token, on twenty random batches."""
    for batch in batches_of(kind):
        losses, wanted = formula(batch, **settings)
        policy, reference = both(batch)
        policy.token_S.requires_grad_()
        loss = OURS[formula.__name__](policy, reference, batch, **settings)
        if losses is not None:
            assert loss.per_example.tolist() == pytest.approx(losses, rel=1e-9, abs=1e-9)
        step = reduced(loss)
        assert step.item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        expected = gradient(lambda given: formula(given, **settings)[1], batch)
        found = torch.autograd.grad(step, policy.token_S)[0]
        assert found.tolist() == pytest.approx([one for row in expected for one in row], rel=1e-7, abs=1e-7)


def test_every_formula_is_compared() -> None:
    assert {formula.__name__ for _, cases in FORMULAS.values() for formula, _ in cases} == set(OURS)


def test_the_batches_reach_what_is_to_be_compared() -> None:
    """Unsure pairs and rows in several of them, estimates clamped and not, empty classes, equal scores."""
    pairs, points = batches_of("pairs"), batches_of("points")
    assert {probability == 1 for batch in pairs for *_, probability in batch["pairs"]} == {True, False}
    stand = [[row for pair in batch["pairs"] for row in pair[:2]] for batch in pairs]
    assert any(len(set(rows)) < len(rows) for rows in stand)
    means = [pair_log_ratios(*both(batch), pairs_of(batch)).mean(0).sign().int().tolist() for batch in pairs]
    assert {tuple(each) for each in means} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    estimates = [
        log_ratios(*(log_probs(batch, column, "mismatched") for column in ("policy", "reference"))).mean()
        for batch in points
    ]
    assert min(estimates) < 0 < max(estimates)
    labels = [set(batch["labels"]) for batch in points]
    assert {1.0} in labels
    assert any(1.0 not in given for given in labels)
    assert any(given - {0.0, 1.0} for given in labels)
    ranked = batches_of("rankings")
    tied = [[batch["scores"][row] for row in group] for batch in ranked for group in batch["groups"]]
    assert any(len(set(scores)) < len(scores) for scores in tied)
