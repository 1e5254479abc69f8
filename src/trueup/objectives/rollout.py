"""How a round of responses becomes something to learn from: rewards, advantages, value targets.

Pure functions of what policy, value head and reference say of the round's responses; the source computes those
(`trueup.sources.rollouts`), so that the result does not depend on how the round was cut for computing it.

The KL penalty is beta times the plain log-ratio of the tokens that were written, the estimator called k1: its mean is
the KL divergence, and it is the one whose expected gradient in the reward is that of the KL divergence.

The arithmetic is in float64, on tokens that lie one row after the other.

Shape suffixes: N rows (responses), S scored tokens of all rows, every row with one at least, L tokens of the longest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from trueup.batch.rows import LogProbs, row_sums

EPSILON = 1e-8  # added to the variance: values that are all the same have none
GROUP_EPSILON = 1e-4  # added to the standard deviation of a group's scores
STEP = 0.2  # relative error of the KL divergence beyond which its controller moves no faster


@dataclass(frozen=True, slots=True)
class ScoredRound:
    """A round of responses, before anything was learned from them."""

    log_probs: LogProbs  # under the policy that wrote them, with values where the method has a value head; no gradients
    reference: LogProbs | None  # under the reference; None without one
    score_N: Tensor  # [N] float64, what the annotator said of each response
    group_N: Tensor  # [N] int64, which prompt each answers, counted from 0
    ended_N: Tensor  # [N] bool, False where a response ran out of tokens


@dataclass(frozen=True, slots=True)
class Learnable:
    """What a method makes of a round."""

    advantage_S: Tensor  # [S] float32
    target_S: Tensor  # [S] float32, what the value head is to predict; zeros without one
    metrics: Mapping[str, float]  # of the round, such as `objective/kl` and `objective/rlhf_reward`
    memory: Mapping[str, float] = field(default_factory=dict)
    """What the next round has to know: the KL coefficient, running moments of the reward. JSON-ready."""


class Rollout(Protocol):
    """Makes a round learnable."""

    def __call__(self, given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        """Rewards, advantages and targets; `memory` is what the round before left, empty at the first."""


def advantages(reward_S: Tensor, value_S: Tensor, length_N: Tensor, *, gamma: float, gae_lambda: float) -> Tensor:
    """[S] A_t = sum over l of (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t, r and V being [S] too.
    Generalised advantage estimation. Schulman et al., 2016, https://arxiv.org/abs/1506.02438, Eq. 16. The end of a
    response is worth nothing: V is 0 after its last token, whether the policy ended it or it ran out of tokens. lambda
    0 trusts the next value, 1 only what was seen: with values of 0 the sums of rewards, discounted by gamma."""
    # The columns beyond the end of a row are its end: reward 0, value 0.
    lengths = length_N.tolist()
    reward_NL = torch.nn.utils.rnn.pad_sequence(list(reward_S.split(lengths)), batch_first=True)
    value_NL = torch.nn.utils.rnn.pad_sequence(list(value_S.split(lengths)), batch_first=True)
    found_NL = torch.zeros_like(reward_NL)
    later_N = torch.zeros_like(reward_NL[:, 0])
    next_value_N = later_N
    for place in reversed(range(reward_NL.shape[1])):
        delta_N = reward_NL[:, place] + gamma * next_value_N - value_NL[:, place]
        later_N = delta_N + gamma * gae_lambda * later_N
        next_value_N = value_NL[:, place]
        found_NL[:, place] = later_N
    column_L = torch.arange(reward_NL.shape[1], device=length_N.device)
    return found_NL[column_L[None] < length_N[:, None]]


def whiten(values: Tensor, *, shift: bool = True) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over all values; where `shift` is off the mean is put back."""
    mean = values.mean()
    scaled = (values - mean) * (values.var(correction=0) + EPSILON).rsqrt()
    return scaled if shift else scaled + mean


def over_the_others(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """[N] R_i - (sum of the group's R - R_i) / (K - 1). Kool et al., 2019; Ahmadian et al., 2024, arXiv 2402.14740."""
    groups = int(group_N.max()) + 1
    sum_G = reward_N.new_zeros(groups).index_add(0, group_N, reward_N)
    count_N = group_N.bincount(minlength=groups)[group_N]
    assert (count_N > 1).all()  # the view sees to that
    return reward_N - (sum_G[group_N] - reward_N) / (count_N - 1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Of `count` values: their mean, and the sum of their squared differences from it.
    Chan, Golub and LeVeque, 1983, The American Statistician 37(3)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Standard deviation, with n - 1; 0 of fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def with_values(self, values_N: Tensor) -> "Moments":
        mean, new = values_N.mean().item(), float(values_N.numel())
        count, apart = self.count + new, mean - self.mean
        squares = ((values_N - mean) ** 2).sum().item() + apart**2 * self.count * new / count
        return Moments(count, self.mean + apart * new / count, self.squares + squares)

    def to_memory(self, name: str) -> dict[str, float]:
        return {f"{name}_count": self.count, f"{name}_mean": self.mean, f"{name}_squares": self.squares}

    @classmethod
    def from_memory(cls, memory: Mapping[str, float], name: str) -> "Moments":
        return cls(*(memory.get(f"{name}_{part}", 0.0) for part in ("count", "mean", "squares")))


@dataclass(frozen=True, slots=True)
class KLControl:
    """beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon) after every round of n responses.
    How strong the KL penalty in the reward is. Ziegler et al., 2019, https://arxiv.org/abs/1909.08593, section 2.2."""

    start: float  # beta of the first round, in reward per nat
    target: float | None = None  # KL divergence of a response to hold, in nats; None leaves beta as it is
    horizon: float = 10_000.0  # responses over which beta moves by a fifth at most

    def after(self, beta: float, kl: float, responses: int) -> float:
        """beta of the next round, after this one's and the mean log-ratio of its responses, in nats.
        More responses than the horizon count as the horizon, so that beta stays above 0."""
        if self.target is None:
            return beta
        error = min(max(kl / self.target - 1, -STEP), STEP)
        return beta * (1 + error * min(1.0, responses / self.horizon))


@dataclass(frozen=True, slots=True)
class Penalised:
    """What a round's responses earned."""

    beta: float  # reward taken off per nat of log-ratio
    score_N: Tensor  # [N] float64, the scores as they go into the reward
    log_ratio_S: Tensor  # [S] float64, log pi_old - log pi_ref of each token, in nats
    kl_N: Tensor  # [N] its sum over each response
    length_N: Tensor

    @property
    def reward_S(self) -> Tensor:
        """[S] -beta (log pi_old - log pi_ref) for every token, and the score for the last of each response."""
        reward_S = -self.beta * self.log_ratio_S
        return reward_S.index_add(0, self.length_N.cumsum(0) - 1, self.score_N)

    @property
    def reward_N(self) -> Tensor:
        """[N] the same summed: score - beta log(pi_old / pi_ref)(y | x)."""
        return self.score_N - self.beta * self.kl_N


def penalised(given: ScoredRound, score_N: Tensor, beta: float) -> Penalised:
    assert given.reference is not None  # a method with a penalty has a reference
    length_N = given.log_probs.length_N
    log_ratio_S = given.log_probs.token_S.double() - given.reference.token_S.double()
    return Penalised(beta, score_N, log_ratio_S, row_sums(log_ratio_S, length_N), length_N)


def with_ends(given: ScoredRound, missing_end_penalty: float) -> Tensor:
    """[N] the scores, less a penalty where a response ran out of tokens before its end."""
    return given.score_N - missing_end_penalty * (~given.ended_N).to(given.score_N.dtype)


def metrics(given: ScoredRound, earned: Penalised) -> dict[str, float]:
    """What is told of every round, under the names people chart."""
    kl = earned.kl_N.mean().item()
    return {
        "objective/kl": kl,
        "objective/kl_coef": earned.beta,
        "objective/scores": given.score_N.mean().item(),
        "objective/non_score_reward": -earned.beta * kl,
        "objective/rlhf_reward": earned.reward_N.mean().item(),
        "objective/entropy": -given.log_probs.token_S.double().mean().item(),
    }


def values_of(given: ScoredRound) -> Tensor:
    assert given.log_probs.value_S is not None  # the method reads values
    return given.log_probs.value_S.to(torch.float64)


@dataclass(frozen=True, slots=True)
class ValueBaseline:
    """Z_t - V_t, Z_t = r_t + gamma r_{t+1} + ..., r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score.
    Williams, 1992; as in Lee et al., 2023, https://arxiv.org/abs/2309.00267. Nothing is remembered."""

    kl_coef: float  # beta, in reward per nat
    gamma: float = 1.0  # discount of later rewards
    missing_end_penalty: float = 0.0  # taken off the score of a response that ran out of tokens

    def __call__(self, given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        value_S = values_of(given)
        nothing_S = torch.zeros_like(value_S)  # without a baseline: the discounted sums of rewards
        return_S = advantages(earned.reward_S, nothing_S, earned.length_N, gamma=self.gamma, gae_lambda=1.0)
        shown = {**metrics(given, earned), "val/mean": value_S.mean().item()}
        return Learnable((return_S - value_S).float(), return_S.float(), shown)


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """R_i - mean of R_j over the other responses to its prompt, R = score - beta log(pi_old / pi_ref)(y | x).
    Nothing is remembered, and every prompt has two responses or more."""

    kl_coef: float  # beta, in reward per nat
    missing_end_penalty: float = 0.0  # taken off the score of a response that ran out of tokens

    def __call__(self, given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        advantage_N = over_the_others(earned.reward_N, given.group_N)
        advantage_S = advantage_N.repeat_interleave(earned.length_N).float()
        shown = {**metrics(given, earned), "objective/advantage_size": advantage_N.abs().mean().item()}
        return Learnable(advantage_S, torch.zeros_like(advantage_S), shown)


@dataclass(frozen=True, slots=True)
class GroupAdvantages:
    """(R_i - mean R) / (std R + 1e-4), R the scores; the reference has no part in it.
    Shao et al., 2024, https://arxiv.org/abs/2402.03300, section 4.1.2; the standard deviation with K - 1, and 1e-4,
    are TRL's. Nothing is remembered, and every prompt has two responses or more."""

    scale: Literal["group", "round", "none"] = "group"
    """Whose standard deviation: of the responses to a prompt, of the whole round, or 1."""
    missing_end_penalty: float = 0.0  # taken off the score of a response that ran out of tokens

    def __call__(self, given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        score_N = with_ends(given, self.missing_end_penalty)
        earned = penalised(given, score_N, 0.0)
        count_N = given.group_N.bincount()[given.group_N]
        advantage_N = over_the_others(score_N, given.group_N) * (count_N - 1) / count_N  # R - mean R
        if self.scale == "group":
            squares_N = torch.zeros_like(score_N).index_add(0, given.group_N, advantage_N**2)[given.group_N]
            advantage_N = advantage_N / ((squares_N / (count_N - 1)).sqrt() + GROUP_EPSILON)
        elif self.scale == "round":
            advantage_N = advantage_N / (score_N.std() + GROUP_EPSILON)
        advantage_S = advantage_N.repeat_interleave(earned.length_N).float()
        shown = {**metrics(given, earned), "objective/advantage_size": advantage_N.abs().mean().item()}
        return Learnable(advantage_S, torch.zeros_like(advantage_S), shown)


@dataclass(frozen=True, slots=True)
class GeneralisedAdvantages:
    """r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score, and GAE of those.
    Ziegler et al., 2019, https://arxiv.org/abs/1909.08593. Remembered are beta and the moments of the scores."""

    kl: KLControl
    gamma: float = 1.0  # discount of later rewards
    gae_lambda: float = 0.95  # 0 trusts the next value, 1 only what was seen
    scale_scores: bool = True  # divide scores by the standard deviation of all of the run so far; their mean is left
    clip_reward: float | None = 10.0  # largest size of a score after that; None leaves it
    missing_end_penalty: float = 0.0  # taken off the score, before that, of a response that ran out of tokens
    whiten_rewards: bool = False  # divide the round's token rewards by their standard deviation; their mean is left
    whiten_advantages: bool = True
    """Bring the round's advantages to mean 0 and standard deviation 1, over all of its tokens."""

    def __call__(self, given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        beta, seen = memory.get("kl_coef", self.kl.start), Moments.from_memory(memory, "score")
        score_N = with_ends(given, self.missing_end_penalty)
        seen = seen.with_values(score_N)
        if self.scale_scores and seen.std:
            score_N = score_N / seen.std
        if self.clip_reward is not None:
            score_N = score_N.clamp(-self.clip_reward, self.clip_reward)
        earned = penalised(given, score_N, beta)
        value_S, length_N = values_of(given), given.log_probs.length_N
        reward_S = whiten(earned.reward_S, shift=False) if self.whiten_rewards else earned.reward_S
        advantage_S = advantages(reward_S, value_S, length_N, gamma=self.gamma, gae_lambda=self.gae_lambda)
        target_S = advantage_S + value_S
        if self.whiten_advantages:
            advantage_S = whiten(advantage_S)
        shown = metrics(given, earned)
        beta = self.kl.after(beta, shown["objective/kl"], len(length_N))
        return Learnable(
            advantage_S.float(),
            target_S.float(),
            {**shown, "val/mean": value_S.mean().item()},
            {"kl_coef": beta, **seen.to_memory("score")},
        )
