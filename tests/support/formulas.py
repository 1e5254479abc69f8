"""The papers' losses as plain loops over floats; nothing of trueup and no tensor library.

A batch is a dict. `rows` holds the responses: log-probabilities of their tokens under `policy` and `reference`. Each
formula takes a batch and settings and returns the loss of each example, where it has one, and of the whole step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

Batch = dict[str, Any]
Answer = tuple[list[float] | None, float]


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value)) if value > 0 else value - math.log1p(math.exp(value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def mean(values: Sequence[float]) -> float:
    """Of no value, 0."""
    return sum(values) / len(values) if values else 0.0


def averaged(losses: list[float]) -> Answer:
    return losses, mean(losses)


def total(tokens: Sequence[float], per_token: bool = False) -> float:
    """log pi(y | x), or its mean over the tokens."""
    found = 0.0
    for token in tokens:
        found += token
    return found / len(tokens) if per_token else found


def log_ratio(row: dict[str, list[float]], per_token: bool = False) -> float:
    """log pi(y | x) - log pi_ref(y | x)."""
    return total(row["policy"], per_token) - total(row["reference"], per_token)


# Pairs: `pairs` holds (chosen row, rejected row, probability that this order is right). Each loss is the
# expectation over the order.


def over_orders(
    batch: Batch, value: Callable[[dict[str, Any]], float], loss: Callable[[float], float]
) -> Answer:
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
        sides = [
            log_prob(row, "policy", common) - log_prob(row, "reference", common) for row in (better, worse)
        ]
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
    levels = [
        score(batch["rows"][chosen]) + score(batch["rows"][rejected])
        for chosen, rejected, _ in batch["pairs"]
    ]
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


# Points: `labels` from 0 to 1, `demonstrations` flags, and for KTO `mismatched` rows.


def pointwise_dpo(batch: Batch, *, beta: float, continuous: bool, per_token: bool, log_z: float) -> Answer:
    """Cai et al.: cross-entropy of sigmoid(s) against the label, or the squared distance of s from it."""
    losses = []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        reward = beta * log_ratio(row, per_token) + log_z
        if continuous:
            losses.append((label - reward) ** 2)
        else:
            losses.append(-label * math.log(sigmoid(reward)) - (1 - label) * math.log(1 - sigmoid(reward)))
    return averaged(losses)


def ulma(batch: Batch, *, beta: float, continuous: bool, per_token: bool, log_z: float) -> Answer:
    """Cai et al.: likelihood of demonstrations (and of label 1), point-wise DPO on the rest; the mean over all."""
    losses = []
    for row, label, shown in zip(batch["rows"], batch["labels"], batch["demonstrations"], strict=True):
        likelihood = total(row["policy"], per_token)
        reward = beta * log_ratio(row, per_token) + log_z
        if shown:
            losses.append(-likelihood)
        elif continuous:
            losses.append((label - reward) ** 2)
        else:
            losses.append(-(label * likelihood + (1 - label) * math.log(1 - sigmoid(reward))))
    return averaged(losses)


def ulma_of_authors(batch: Batch, *, beta: float, continuous: bool, log_z: float) -> Answer:
    """The authors' trainer: log-probabilities averaged over tokens; a label of exactly 1 is a demonstration and every
    other response is judged; the mean over the ones plus the mean over the others, an empty group giving 0."""
    positive, negative = [], []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        logits = log_ratio(row, per_token=True)
        if label == 1:
            positive.append(-total(row["policy"], per_token=True))
        elif continuous:
            negative.append((label - beta * logits - log_z) ** 2)
        else:
            negative.append(-log_sigmoid(-beta * logits - log_z))
    return None, mean(positive) + mean(negative)


def kto(batch: Batch, *, beta: float, desirable_weight: float, undesirable_weight: float) -> Answer:
    """Ethayarajh et al., Eq. 8, the divergence estimated on mismatched rows; a graded label is an expectation."""
    divergence = max(0.0, mean([log_ratio(row) for row in batch["mismatched"]]))
    losses = []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        desirable = desirable_weight * (1 - sigmoid(beta * (log_ratio(row) - divergence)))
        undesirable = undesirable_weight * (1 - sigmoid(beta * (divergence - log_ratio(row))))
        losses.append(label * desirable + (1 - label) * undesirable)
    return averaged(losses)


def bco(batch: Batch, *, beta: float) -> Answer:
    """Jung et al., the shift being the mean reward of all responses so far, here of the mismatched rows."""
    shift = beta * mean([log_ratio(row) for row in batch["mismatched"]])
    losses = []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        reward = beta * log_ratio(row)
        losses.append(-label * log_sigmoid(reward - shift) - (1 - label) * log_sigmoid(-(reward - shift)))
    return averaged(losses)


def unlikelihood(batch: Batch, *, weight: float) -> Answer:
    """Welleck et al.: -sum log p of desirable, -sum log(1 - p) of undesirable tokens."""
    losses = []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        loss = 0.0
        for token in row["policy"]:
            loss -= label * token + weight * (1 - label) * math.log(1 - math.exp(token))
        losses.append(loss)
    return averaged(losses)


def unlikelihood_ascent(batch: Batch, *, weight: float) -> Answer:
    """Gradient ascent on undesirable responses, log-probabilities averaged over tokens; the mean over all."""
    losses = []
    for row, label in zip(batch["rows"], batch["labels"], strict=True):
        likelihood = total(row["policy"], per_token=True)
        losses.append(-label * likelihood + weight * (1 - label) * likelihood)
    return averaged(losses)


def unlikelihood_of_authors(batch: Batch) -> Answer:
    """ULMA's authors: minus the mean over responses with label 1, plus the mean over the others."""
    likelihoods = [total(row["policy"], per_token=True) for row in batch["rows"]]
    ones = [value for value, label in zip(likelihoods, batch["labels"], strict=True) if label == 1]
    others = [value for value, label in zip(likelihoods, batch["labels"], strict=True) if label != 1]
    return None, mean(others) - mean(ones)


# Rankings: `groups` of row numbers, a score for each row and the tokens of each group's prompt.


def rrhf(batch: Batch, *, rank_weight: float, sft_weight: float) -> Answer:
    """Yuan et al., Eqs. 1 to 5: per-token log-probabilities ranked, the best response's sum imitated."""
    losses = []
    for group in batch["groups"]:
        scores = [batch["scores"][row] for row in group]
        p = [total(batch["rows"][row]["policy"], per_token=True) for row in group]
        rank = 0.0
        for i in range(len(group)):
            for j in range(len(group)):
                if scores[i] < scores[j]:
                    rank += max(0.0, p[i] - p[j])
        best = group[scores.index(max(scores))]
        losses.append(rank_weight * rank - sft_weight * total(batch["rows"][best]["policy"]))
    return averaged(losses)


def rrhf_of_authors(batch: Batch, *, rank_weight: float, sft_weight: float) -> Answer:
    """The published train.py: every row padded to one length, which all of its means divide by."""
    losses = []
    for group, prompt in zip(batch["groups"], batch["prompts"], strict=True):
        scores = [batch["scores"][row] for row in group]
        longest = max(len(batch["rows"][row]["policy"]) for row in group)
        padded = []
        for row in group:
            tokens = batch["rows"][row]["policy"]
            # logit_label: 0 on the prompt but for its last place, which predicts the first token, and on padding.
            padded.append([0.0] * (prompt - 1) + tokens + [0.0] * (longest - len(tokens)) + [0.0])
        p = [mean(row) for row in padded]
        rank = 0.0
        for i in range(len(group)):
            for j in range(len(group)):
                if scores[j] > scores[i] and p[j] < p[i]:
                    rank -= p[j] - p[i]
        losses.append(rank_weight * rank - sft_weight * mean(padded[scores.index(max(scores))]))
    return averaged(losses)


def pro(batch: Batch, *, sft_weight: float) -> Answer:
    """Song et al., as their process_manager.py computes it, responses from the best to the worst."""
    losses = []
    for group in batch["groups"]:
        order = sorted(group, key=lambda row: -batch["scores"][row])
        p = [total(batch["rows"][row]["policy"], per_token=True) for row in order]
        rewards = [batch["scores"][row] for row in order]
        loss = -sft_weight * (len(order) - 1) ** 2 * total(batch["rows"][order[0]]["policy"])
        for k in range(len(order) - 1):
            later = [
                i for i in range(k + 1, len(order)) if rewards[i] < rewards[k]
            ]  # ours: not the equal ones
            if later:
                own = max(rewards[k] - rewards[i] for i in later) * p[k]
                others = sum(math.exp((rewards[k] - rewards[i]) * p[i]) for i in later)
                loss += math.log(math.exp(own) + others) - own
        losses.append(loss)
    return averaged(losses)


# Rewards: one for each row.


def sft(batch: Batch, *, per_token: bool) -> Answer:
    """Maximum likelihood, divided by all tokens or by all responses."""
    losses = [-total(row["policy"]) for row in batch["rows"]]
    tokens = sum(len(row["policy"]) for row in batch["rows"])
    return losses, sum(losses) / (tokens if per_token else len(losses))


def rwr(batch: Batch, *, beta: float, max_weight: float, per_token: bool) -> Answer:
    """Weights exp(r / beta) of rewards standardised over all responses, clipped and self-normalised."""
    rewards = batch["rewards"]
    middle = mean(rewards)
    spread = math.sqrt(sum((reward - middle) ** 2 for reward in rewards) / (len(rewards) - 1))
    weights = [min(math.exp((reward - middle) / spread / beta), max_weight) for reward in rewards]
    losses = [-weight * total(row["policy"]) for weight, row in zip(weights, batch["rows"], strict=True)]
    counts = [len(row["policy"]) if per_token else 1 for row in batch["rows"]]
    return losses, sum(losses) / sum(weight * count for weight, count in zip(weights, counts, strict=True))
