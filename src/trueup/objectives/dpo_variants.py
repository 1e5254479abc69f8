"""DPO with another reward, margin or weight (f-DPO, LD-DPO, DPO-Positive, WPO, EXO), and losses in which the reward
of each response counts, not only the difference (APO, NCA, SPPO); r(y) = beta rho(y) unless something else is said."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.dpo import dpo
from trueup.objectives.loss import Loss, over_orders, pair_metrics

Divergence = Literal["forward-kl", "js", "alpha"]
FARTHEST = 80.0  # an exponential of more would leave float32


def f_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, divergence: Divergence = "js",
    alpha: float = 0.5,
) -> Loss:  # fmt: skip
    """-log sigmoid(r_w - r_l), r(y) = beta f'(pi / pi_ref). Wang et al., 2023, https://arxiv.org/abs/2309.16240.
    f'(u) is 1 - 1/u of the forward KL, log(2 u / (1 + u)) of Jensen-Shannon, (1 - u^-alpha) / alpha of the
    alpha-divergence, each with the constant that makes f'(1) 0: differences do not depend on it. alpha near 0 is DPO,
    alpha 1 the forward KL. Where u^-alpha is beyond e^80 a response no longer pulls."""
    ratio_N = policy.sum - reference.sum
    if divergence == "js":
        reward_N = beta * (math.log(2) + F.logsigmoid(ratio_N))
    else:
        alpha = 1.0 if divergence == "forward-kl" else alpha
        reward_N = beta / alpha * -torch.expm1((-alpha * ratio_N).clamp(max=FARTHEST))
    loss_P = over_orders(pairs, reward_N, lambda better, worse: -F.logsigmoid(better - worse))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))


def ld_dpo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, alpha: float = 0.5) -> Loss:
    """DPO whose log-ratios count what is longer than the other response alpha times; 1 is DPO.
    Liu et al., 2024, https://arxiv.org/abs/2409.06411."""
    dtype = torch.promote_types(policy.token_S.dtype, torch.float32)
    ratio_S = policy.token_S.to(dtype) - reference.token_S.to(dtype)
    length_N, tokens = policy.length_N, ratio_S.shape[0]
    row_S = torch.arange(len(length_N), device=length_N.device).repeat_interleave(length_N, output_size=tokens)
    place_S = torch.arange(tokens, device=length_N.device) - (length_N.cumsum(0) - length_N)[row_S]
    common_P = torch.minimum(length_N[pairs.chosen_P], length_N[pairs.rejected_P])
    weighed_PS = torch.where(place_S < common_P[:, None], ratio_S, alpha * ratio_S)

    def reward_of(row_P: torch.Tensor) -> torch.Tensor:
        return beta * torch.where(row_S == row_P[:, None], weighed_PS, 0.0).sum(1)

    margin_P = reward_of(pairs.chosen_P) - reward_of(pairs.rejected_P)
    p_P = pairs.probability_P.to(margin_P.dtype)
    loss_P = -p_P * F.logsigmoid(margin_P) - (1 - p_P) * F.logsigmoid(-margin_P)
    reward_N = beta * (policy.sum - reference.sum)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))


def dpo_positive(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, penalty: float = 50.0
) -> Loss:
    """-log sigmoid(beta (rho_w - rho_l - penalty max(0, -rho_w))); the penalty is lambda in the paper.
    Pal et al., 2024, https://arxiv.org/abs/2402.13228, Eq. 3."""
    ratio_N = policy.sum - reference.sum

    def loss(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        return -F.logsigmoid(beta * (better - worse - penalty * torch.relu(-better)))

    loss_P = over_orders(pairs, ratio_N, loss)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, beta * ratio_N, pairs, reference))


def wpo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """min(1, w(y_w) w(y_l)) times DPO, w(y) = exp mean_t [log pi(y_t) - log sum_v pi(v)^2], taken as a constant.
    Zhou et al., 2024, https://arxiv.org/abs/2406.11827, sampled alignment; the bound is that of the authors' code
    (https://github.com/wzhouad/WPO). The policy tells `collision_S` too."""
    assert policy.collision_S is not None
    collision_N = LogProbs(policy.collision_S, policy.length_N).mean
    log_weight_N = (policy.mean - collision_N).detach()
    weight_P = (log_weight_N[pairs.chosen_P] + log_weight_N[pairs.rejected_P]).clamp(max=0).exp()
    plain = dpo(policy, reference, pairs, beta=beta)
    return Loss.of_pairs(weight_P * plain.per_example, pairs, {**plain.metrics, "weights/mean": weight_P})


def exo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 1e-3
) -> Loss:
    """q log(q / p) + (1 - q) log((1 - q) / (1 - p)), q = sigmoid(beta (rho_w - rho_l)), p that the order is right.
    Ji et al., 2024, https://arxiv.org/abs/2402.00856, Eq. 16 (EXO-pref with two responses), where p is 1 - e, e being
    the label smoothing in (0, 0.5); a pair that is sure with probability p has (1 - e) p + e (1 - p)."""
    reward_N = beta * (policy.sum - reference.sum)
    margin_P = reward_N[pairs.chosen_P] - reward_N[pairs.rejected_P]
    given_P = pairs.probability_P.to(margin_P.dtype)
    p_P = (1 - label_smoothing) * given_P + label_smoothing * (1 - given_P)
    right_P = torch.sigmoid(margin_P) * (F.logsigmoid(margin_P) - p_P.log())
    loss_P = right_P + torch.sigmoid(-margin_P) * (F.logsigmoid(-margin_P) - torch.log1p(-p_P))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))


def apo_zero(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """1 - sigmoid(r_w) + sigmoid(r_l): raise chosen and lower rejected responses.
    D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266, Eq. 7."""
    return _of_rewards(
        policy, reference, pairs, beta, lambda better, worse: torch.sigmoid(-better) + torch.sigmoid(worse)
    )


def apo_down(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """sigmoid(r_w) + 1 - sigmoid(r_w - r_l): lower chosen responses, and rejected ones more.
    D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266, Eq. 8."""
    return _of_rewards(
        policy, reference, pairs, beta, lambda better, worse: torch.sigmoid(better) + torch.sigmoid(worse - better)
    )


def nca(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-log sigmoid(r_w) - log sigmoid(-r_w) / 2 - log sigmoid(-r_l) / 2.
    Noise contrastive alignment with preferences. Chen et al., 2024, https://arxiv.org/abs/2402.05369."""

    def loss(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        return -F.logsigmoid(better) - (F.logsigmoid(-better) + F.logsigmoid(-worse)) / 2

    return _of_rewards(policy, reference, pairs, beta, loss)


def sppo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """((r_w - 1/2)^2 + (r_l + 1/2)^2) / beta^2: the log-ratios are pulled to plus and minus 1 / (2 beta).
    Self-play preference optimization, hard form. Wu et al., 2024, https://arxiv.org/abs/2405.00675, Eq. 4.7 with the
    probabilities 1 and 0; beta is 1 / eta of the paper."""

    def loss(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        return ((better - 0.5) ** 2 + (worse + 0.5) ** 2) / beta**2

    return _of_rewards(policy, reference, pairs, beta, loss)


def _of_rewards(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, beta: float,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Loss:  # fmt: skip
    reward_N = beta * (policy.sum - reference.sum)
    loss_P = over_orders(pairs, reward_N, loss)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))
