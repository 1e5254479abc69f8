"""The papers' losses of pairs as plain loops over floats; see `formulas`. Pairs: `pairs` holds (chosen row, rejected
row, probability that this order is right). Each loss is the expectation over the order."""

import math
from collections.abc import Callable
from typing import Any

from support.formulas import Answer, Batch, averaged, log_ratio, log_sigmoid, mean, sigmoid, total


def over_orders(batch: Batch, value: Callable[[dict[str, Any]], float], loss: Callable[[float], float]) -> Answer:
    """E loss(value(better) - value(worse)) of each pair."""
    losses = []
    for chosen, rejected, probability in batch["pairs"]:
        first, second = value(batch["rows"][chosen]), value(batch["rows"][rejected])
        losses.append(probability * loss(first - second) + (1 - probability) * loss(second - first))
    return averaged(losses)


def each_order(batch: Batch, loss: Callable[[dict[str, Any], dict[str, Any]], float]) -> Answer:
    """E loss(better, worse) of each pair."""
    losses = []
    for chosen, rejected, probability in batch["pairs"]:
        first, second = batch["rows"][chosen], batch["rows"][rejected]
        losses.append(probability * loss(first, second) + (1 - probability) * loss(second, first))
    return averaged(losses)


def imitated(batch: Batch, weight: float, answer: Answer) -> Answer:
    """Pang et al.: beside each pair, the likelihood of its chosen response per token."""
    assert answer[0] is not None
    return averaged(
        [
            loss - weight * total(batch["rows"][chosen]["policy"], per_token=True)
            for loss, (chosen, *_) in zip(answer[0], batch["pairs"], strict=True)
        ]
    )


def rpo(batch: Batch, *, beta: float, sft_weight: float) -> Answer:
    """Pang et al., Eq. 1."""
    return imitated(batch, sft_weight, dpo(batch, beta=beta, label_smoothing=0.0))


def simpo(batch: Batch, *, beta: float, margin: float) -> Answer:
    """Meng et al., Eq. 6."""

    def reward(row: dict[str, Any]) -> float:
        return beta * total(row["policy"], per_token=True)

    return over_orders(batch, reward, lambda gap: -log_sigmoid(gap - margin))


def cpo(batch: Batch, *, beta: float, sft_weight: float) -> Answer:
    """Xu et al., Eq. 5."""
    preference = over_orders(batch, lambda row: total(row["policy"]), lambda gap: -log_sigmoid(beta * gap))
    return imitated(batch, sft_weight, preference)


def orpo(batch: Batch, *, beta: float, sft_weight: float) -> Answer:
    """Hong et al., Eqs. 3 to 7."""

    def log_odds(row: dict[str, Any]) -> float:
        likelihood = math.exp(total(row["policy"], per_token=True))
        return math.log(likelihood / (1 - likelihood))

    return imitated(batch, sft_weight, over_orders(batch, log_odds, lambda gap: -beta * log_sigmoid(gap)))


def normalised_dpo(batch: Batch, *, beta: float) -> Answer:
    """DPO on log-ratios per token."""
    return over_orders(batch, lambda row: log_ratio(row, True), lambda gap: -log_sigmoid(beta * gap))


def f_dpo(batch: Batch, *, beta: float, divergence: str, alpha: float) -> Answer:
    """Wang et al., Table 1: f' of each divergence at the ratio of the probabilities."""

    def slope(row: dict[str, Any]) -> float:
        u = math.exp(log_ratio(row))
        slopes = {"forward-kl": -1 / u, "js": math.log(2 * u / (1 + u)), "alpha": (1 - u**-alpha) / alpha}
        return slopes[divergence]

    return over_orders(batch, slope, lambda gap: -log_sigmoid(beta * gap))


def ld_dpo(batch: Batch, *, beta: float, alpha: float) -> Answer:
    """Liu et al., Eqs. 9 and 10: what is longer than the other response counts alpha times, under both models."""

    def log_prob(row: dict[str, Any], column: str, common: int) -> float:
        return total(row[column][:common]) + alpha * total(row[column][common:])

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        common = min(len(better["policy"]), len(worse["policy"]))
        sides = [log_prob(row, "policy", common) - log_prob(row, "reference", common) for row in (better, worse)]
        return -log_sigmoid(beta * (sides[0] - sides[1]))

    return each_order(batch, loss)


def dpo_positive(batch: Batch, *, beta: float, penalty: float) -> Answer:
    """Pal et al., Eq. 3."""

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        lost = max(0.0, total(better["reference"]) - total(better["policy"]))
        return -log_sigmoid(beta * (log_ratio(better) - log_ratio(worse) - penalty * lost))

    return each_order(batch, loss)


def wpo(batch: Batch, *, beta: float) -> Answer:
    """Zhou et al., Eq. 2, the weights of responses being given, bounded by 1 together as in the authors' code."""
    plain, _ = dpo(batch, beta=beta, label_smoothing=0.0)
    assert plain is not None
    weights = [min(1.0, batch["weights"][one] * batch["weights"][other]) for one, other, _ in batch["pairs"]]
    return averaged([weight * loss for weight, loss in zip(weights, plain, strict=True)])


def exo(batch: Batch, *, beta: float, label_smoothing: float) -> Answer:
    """Ji et al., Eq. 16 for two responses: the divergence of two distributions over which is better."""
    losses = []
    for chosen, rejected, probability in batch["pairs"]:
        weights = [math.exp(beta * log_ratio(batch["rows"][row])) for row in (chosen, rejected)]
        shares = [weight / sum(weights) for weight in weights]
        right = (1 - label_smoothing) * probability + label_smoothing * (1 - probability)
        losses.append(sum(q * math.log(q / p) for q, p in zip(shares, (right, 1 - right), strict=True)))
    return averaged(losses)


def apo_zero(batch: Batch, *, beta: float) -> Answer:
    """D'Oosterlinck et al., Eq. 7."""

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        return 1 - sigmoid(beta * log_ratio(better)) + sigmoid(beta * log_ratio(worse))

    return each_order(batch, loss)


def apo_down(batch: Batch, *, beta: float) -> Answer:
    """D'Oosterlinck et al., Eq. 8."""

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        first, second = beta * log_ratio(better), beta * log_ratio(worse)
        return sigmoid(first) + 1 - sigmoid(first - second)

    return each_order(batch, loss)


def nca(batch: Batch, *, beta: float) -> Answer:
    """Chen et al., for preferences over two responses."""

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        first, second = beta * log_ratio(better), beta * log_ratio(worse)
        return -log_sigmoid(first) - 0.5 * log_sigmoid(-first) - 0.5 * log_sigmoid(-second)

    return each_order(batch, loss)


def sppo(batch: Batch, *, beta: float) -> Answer:
    """Wu et al., Eq. 4.7: probabilities of 1 and 0, eta = 1 / beta."""

    def loss(better: dict[str, Any], worse: dict[str, Any]) -> float:
        return (log_ratio(better) - 0.5 / beta) ** 2 + (log_ratio(worse) + 0.5 / beta) ** 2

    return each_order(batch, loss)


def dpo(batch: Batch, *, beta: float, label_smoothing: float) -> Answer:
    """DPO, Eq. 7, with orders that were turned in a share of all pairs: conservative DPO."""

    def loss(gap: float) -> float:
        right, turned = -log_sigmoid(beta * gap), -log_sigmoid(-beta * gap)
        return (1 - label_smoothing) * right + label_smoothing * turned

    return over_orders(batch, log_ratio, loss)


def robust_dpo(batch: Batch, *, beta: float, label_smoothing: float) -> Answer:
    """Chowdhury et al.: ((1 - e) L(right) - e L(turned)) / (1 - 2 e)."""

    def loss(gap: float) -> float:
        right, turned = -log_sigmoid(beta * gap), -log_sigmoid(-beta * gap)
        return ((1 - label_smoothing) * right - label_smoothing * turned) / (1 - 2 * label_smoothing)

    return over_orders(batch, log_ratio, loss)


def ipo(batch: Batch, *, beta: float, per_token: bool) -> Answer:
    """Azar et al., Eq. 17; log-ratios summed over tokens, or averaged as in the code of others."""
    return over_orders(batch, lambda row: log_ratio(row, per_token), lambda gap: (gap - 1 / (2 * beta)) ** 2)


def slic(batch: Batch, *, beta: float) -> Answer:
    """Liu et al., hinge-norm."""
    return over_orders(batch, log_ratio, lambda gap: max(0.0, 1 - beta * gap))


def bradley_terry(batch: Batch, *, margin: float, centring: float) -> Answer:
    """A reward model's, the sum of a row's numbers standing for its score; a margin, and Eisenstein et al., Eq. 2."""

    def score(row: dict[str, Any]) -> float:
        return total(row["policy"])

    ranked, _ = over_orders(batch, score, lambda gap: -log_sigmoid(gap - margin))
    assert ranked is not None
    levels = [score(batch["rows"][chosen]) + score(batch["rows"][rejected]) for chosen, rejected, _ in batch["pairs"]]
    return averaged([loss + centring * level * level for loss, level in zip(ranked, levels, strict=True)])


def slic_hf(batch: Batch, *, margin: float, regularization: float) -> Answer:
    """Zhao et al.: a hinge on log-probabilities, and imitation of the row in `targets`."""
    hinges, _ = over_orders(batch, lambda row: total(row["policy"]), lambda gap: max(0.0, margin - gap))
    assert hinges is not None
    return averaged(
        [
            hinge - regularization * total(batch["rows"][target]["policy"])
            for hinge, target in zip(hinges, batch["targets"], strict=True)
        ]
    )


def paired_kto(batch: Batch, *, beta: float) -> Answer:
    """turbo-alignment's KTOLoss: the mean over chosen and rejected together; the two means are not constants."""
    ratios = [log_ratio(row) for row in batch["rows"]]
    chosen, rejected = ([ratios[pair[side]] for pair in batch["pairs"]] for side in (0, 1))
    chosen_kl, rejected_kl = max(0.0, mean(chosen)), max(0.0, mean(rejected))
    of_chosen = [1 - sigmoid(beta * (ratio - rejected_kl)) for ratio in chosen]
    of_rejected = [1 - sigmoid(beta * (chosen_kl - ratio)) for ratio in rejected]
    pairs = [(one + other) / 2 for one, other in zip(of_chosen, of_rejected, strict=True)]
    return pairs, mean(of_chosen + of_rejected)
