"""The papers' losses as plain loops over floats; nothing of trueup and no tensor library. A batch is a dict. `rows`
holds the responses: log-probabilities of their tokens under `policy` and `reference`. Each formula takes a batch and
settings and returns the loss of each example, where it has one, and of the whole step."""

import math
from collections.abc import Sequence
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
            later = [i for i in range(k + 1, len(order)) if rewards[i] < rewards[k]]  # ours: not the equal ones
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
