"""Other losses of pairs: IPO, SLiC, KTO on pairs; of the policy's own response beside another (XPO, Nash-MD); without a
reference (SLiC-HF, SimPO, CPO, ORPO); and the loss of a reward model.

Each takes the log-probabilities of N responses under policy and reference, where it has one, and P pairs among the
rows; it gives a loss over [P] pairs. beta is the strength of the KL constraint, in reward per nat. rho(y) =
log(pi / pi_ref)(y | x), and r(y) = beta rho(y) unless something else is said.
Where nothing else is said, a pair with the probability p of being right gives the expectation over its order.
"""

import torch
import torch.nn.functional as F

from trueup.batch.rows import GradedPairs, LogProbs, Pairs, PairsWithTarget, Scores
from trueup.objectives.dpo import dpo
from trueup.objectives.loss import Loss, Measurement, over_orders, pair_metrics, reward_metrics
from trueup.objectives.points import log1mexp


def ipo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, per_token: bool = False
) -> Loss:
    """(h - 1 / (2 beta))^2, h = rho(chosen) - rho(rejected), rho(y) = log(pi / pi_ref); Eq. 17.

    Azar et al., 2023, https://arxiv.org/abs/2310.12036.
    A pair with the probability p of being right gives its expectation over the order, as the paper draws it:
    p (h - 1 / (2 beta))^2 + (1 - p) (h + 1 / (2 beta))^2, lowest at h = (2 p - 1) / (2 beta).

    Args:
        beta: strength of the KL constraint; tau in the paper.
        per_token: divide the log-ratio of each response by its number of tokens.

    Returns:
        Loss over [P] pairs; (1 / (2 beta))^2 each when policy and reference agree.
    """
    log_ratio_N = policy.sum - reference.sum
    if per_token:
        log_ratio_N = log_ratio_N / policy.length_N.clamp(min=1)
    target = 1 / (2 * beta)
    gap_P = log_ratio_N[pairs.chosen_P] - log_ratio_N[pairs.rejected_P]
    p_P = pairs.probability_P.to(gap_P.dtype)
    loss_P = p_P * (gap_P - target) ** 2 + (1 - p_P) * (gap_P + target) ** 2
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, beta * log_ratio_N, pairs, reference))


def slic(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.05) -> Loss:
    """max(0, 1 - m), m = r(chosen) - r(rejected), r(y) = beta log(pi / pi_ref): the paper's hinge-norm.

    Liu et al., 2023, https://arxiv.org/abs/2309.06657.
    A pair with the probability p of being right gives p max(0, 1 - m) + (1 - p) max(0, 1 + m).

    Args:
        beta: reward per nat; a pair no longer pulls once its log-ratios are 1 / beta apart. gamma in the paper.

    Returns:
        Loss over [P] pairs; 1 each when policy and reference agree.
    """
    reward_N = beta * (policy.sum - reference.sum)
    margin_P = reward_N[pairs.chosen_P] - reward_N[pairs.rejected_P]
    p_P = pairs.probability_P.to(margin_P.dtype)
    loss_P = p_P * torch.relu(1 - margin_P) + (1 - p_P) * torch.relu(1 + margin_P)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))


def paired_kto(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, measured_M: torch.Tensor, *, beta: float = 0.1
) -> Loss:
    """(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2.

    Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656, as its authors train it
    (https://github.com/turbo-llm/turbo-alignment); Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306.
    rho = log(pi / pi_ref) of the chosen (w) and the rejected (l) response; z_w and z_l = max(0, mean of rho_w and of
    rho_l over the step's pairs). As in the authors' code the two means carry a gradient: every response of the step
    moves them, and them every loss. Written out, that adds to the gradient of rho_l of one pair
    beta / (2 P) sum over all pairs of s'(beta (rho_w - z_l)) where the mean is not below 0, and likewise for
    rho_w; the sum is known beforehand from the measured values, so that the gradient is exact however the step is cut.

    Args:
        measured_M: [M, 2] log-ratios (chosen, rejected) of the whole step's M pairs (`pair_log_ratios`).
        beta: how fast the value of a response saturates, in reward per nat.

    Returns:
        Loss over [P] pairs; 1/2 each when policy and reference agree.
    """
    log_ratio_N = policy.sum - reference.sum
    chosen_P, rejected_P = log_ratio_N[pairs.chosen_P], log_ratio_N[pairs.rejected_P]
    mean_2 = measured_M.mean(0)
    z_w, z_l = mean_2.clamp(min=0).to(chosen_P.dtype)
    loss_P = (torch.sigmoid(beta * (z_l - chosen_P)) + torch.sigmoid(beta * (rejected_P - z_w))) / 2
    through_w, through_l = _through_means(measured_M, beta).to(chosen_P.dtype)
    # Of value 0: they carry the gradient through the means, and nothing else.
    moved_P = through_w * (chosen_P - chosen_P.detach()) + through_l * (rejected_P - rejected_P.detach())
    metrics = pair_metrics(policy, beta * log_ratio_N, pairs, reference)
    metrics |= {"kto/z_chosen": z_w.reshape(1), "kto/z_rejected": z_l.reshape(1)}
    return Loss.of_pairs(loss_P + moved_P, pairs, metrics)


def pair_log_ratios(policy: LogProbs, reference: LogProbs, pairs: Pairs) -> torch.Tensor:
    """[P, 2] log(pi / pi_ref) of the chosen and the rejected response of P pairs."""
    log_ratio_N = policy.sum.double() - reference.sum.double()
    return torch.stack([log_ratio_N[pairs.chosen_P], log_ratio_N[pairs.rejected_P]], dim=1)


LOG_RATIOS = Measurement(lambda rows: (pair_log_ratios(*each) for each in rows.own()))
"""Those of the step, for `paired_kto`."""


def _through_means(measured_M: torch.Tensor, beta: float) -> torch.Tensor:
    """[2] derivative of the mean loss by z_w and by z_l; 0 where the mean is below 0.

    At 0 itself the clamp lets the gradient through, as it does in the authors' code.
    """
    mean_2 = measured_M.mean(0)
    z_w, z_l = mean_2.clamp(min=0)
    near_l = torch.sigmoid(beta * (measured_M[:, 1] - z_w))
    near_w = torch.sigmoid(beta * (z_l - measured_M[:, 0]))
    slope_w = -beta * (near_l * (1 - near_l)).mean() / 2
    slope_l = beta * (near_w * (1 - near_w)).mean() / 2
    return torch.stack([slope_w, slope_l]) * (mean_2 >= 0)


def xpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, alpha: float = 1e-5
) -> Loss:
    """DPO + alpha log pi(y_ref | x). Xie et al., 2024, https://arxiv.org/abs/2405.21046, Algorithm 1.

    Args:
        pairs: P pairs among the N rows, each of the policy's response and then the reference's y_ref.
        alpha: weight of the optimism: what the reference writes anyway is made less likely.
    """
    plain = dpo(policy, reference, pairs, beta=beta)
    bonus_P = alpha * policy.sum[torch.maximum(pairs.chosen_P, pairs.rejected_P)]
    metrics = {**plain.metrics, "loss/exploration": bonus_P.detach()}
    return Loss.of_pairs(plain.per_example + bonus_P, pairs, metrics)


def nash_md(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-(P(y > y') - 1/2) log pi(y | x) + beta / 2 (log(pi / pi_ref)(y | x))^2.

    Its gradient is the policy gradient of Munos et al., 2023, https://arxiv.org/abs/2312.00886 (Nash-MD-PG), which is
    -[P(y > y') - 1/2 - beta log(pi / pi_ref)(y | x)] times that of log pi(y | x): y is the policy's, y' that of the
    mixture of policy and reference.

    Args:
        pairs: P pairs among the N rows, each of the policy's response y and then y'; how surely is P(y > y').
        beta: tau of the paper, in probability of winning per nat.

    Returns:
        Loss over [P] pairs. Its gradient is what counts; the value depends on how likely y is.
    """
    own_P = torch.minimum(pairs.chosen_P, pairs.rejected_P)
    sure_P = pairs.probability_P.to(policy.sum.dtype)
    wins_P = torch.where(pairs.chosen_P == own_P, sure_P, 1 - sure_P)
    log_ratio_N = policy.sum - reference.sum
    loss_P = (0.5 - wins_P) * policy.sum[own_P] + beta / 2 * log_ratio_N[own_P] ** 2
    metrics = pair_metrics(policy, beta * log_ratio_N, pairs, reference) | {"policy/wins": wins_P}
    return Loss(loss_P, torch.ones_like(loss_P), own_P, metrics)


def slic_hf(
    policy: LogProbs,
    reference: None,
    targeted: PairsWithTarget,
    *,
    margin: float = 1.0,
    regularization: float = 0.1,
) -> Loss:
    """max(0, margin - log pi(chosen) + log pi(rejected)) - regularization log pi(target).

    Zhao et al., 2023, https://arxiv.org/abs/2305.10425.
    A pair with the probability p of being right gives p times the hinge and 1 - p times the hinge with the
    order turned.

    Args:
        targeted: P pairs among the N rows, and the row to imitate beside each.
        margin: how much likelier the chosen response is to become, in nats; delta in the paper.
        regularization: weight of the imitation; lambda in the paper.
    """
    pairs, log_prob_N = targeted.pairs, policy.sum
    gap_P = log_prob_N[pairs.chosen_P] - log_prob_N[pairs.rejected_P]
    p_P = pairs.probability_P.to(gap_P.dtype)
    hinge_P = p_P * torch.relu(margin - gap_P) + (1 - p_P) * torch.relu(margin + gap_P)
    nll_P = -log_prob_N[targeted.target_P]
    metrics = {"loss/calibration": hinge_P.detach(), "loss/sft": nll_P.detach()}
    metrics |= pair_metrics(policy, log_prob_N, pairs)
    return Loss(hinge_P + regularization * nll_P, torch.ones_like(hinge_P), targeted.target_P, metrics)


def simpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 2.0, margin: float = 1.0) -> Loss:
    """-log sigmoid(r_w - r_l - margin), r(y) = beta log pi(y | x) / |y|.

    Meng et al., 2024, https://arxiv.org/abs/2405.14734, Eq. 6.

    Args:
        beta: reward per nat a token.
        margin: gamma in the paper, in reward.
    """
    reward_N = beta * policy.mean
    loss_P = over_orders(pairs, reward_N, lambda better, worse: -F.logsigmoid(better - worse - margin))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs))


def cpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-log sigmoid(r_w - r_l), r(y) = beta log pi(y | x). Xu et al., 2024, https://arxiv.org/abs/2401.08417, Eq. 3.

    The likelihood of chosen responses that the paper adds is `beside_sft`.

    Args:
        beta: reward per nat.
    """
    reward_N = beta * policy.sum
    loss_P = over_orders(pairs, reward_N, lambda better, worse: -F.logsigmoid(better - worse))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs))


def orpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-beta log sigmoid(o_w - o_l), o(y) = log(p / (1 - p)), log p = log pi(y | x) / |y|: the log odds.

    Hong et al., 2024, https://arxiv.org/abs/2403.07691, Eqs. 4 and 7. The likelihood of chosen responses that the
    paper adds it to is `beside_sft`.

    Args:
        beta: weight of the odds ratio; lambda in the paper.
    """
    odds_N = policy.mean - log1mexp(policy.mean)
    loss_P = beta * over_orders(pairs, odds_N, lambda better, worse: -F.logsigmoid(better - worse))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, beta * policy.mean, pairs))


def bradley_terry(
    policy: Scores,
    reference: None,
    graded: GradedPairs,
    *,
    margin: float = 0.0,
    margin_per_score: float = 0.0,
    centring: float = 0.0,
) -> Loss:
    """-p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m) + c (r(chosen) + r(rejected))^2, d = r(chosen) - r(rejected).

    Bradley and Terry, 1952, https://doi.org/10.2307/2334029.
    p is the probability that the pair's order is right; whichever order is, its margin has to exceed m. The margin
    that grows with how much better the chosen response was found is that of Touvron et al., 2023,
    https://arxiv.org/abs/2307.09288, section 3.2.2; centring that of Eisenstein et al., 2023,
    https://arxiv.org/abs/2312.09244, Eq. 2: it fixes the level of the scores, which comparisons leave open.

    Args:
        policy: N scores.
        graded: P pairs among the N rows, and how far apart they were judged to be.
        margin: m of a pair that nothing grades, at least 0.
        margin_per_score: what is added to m for every unit of the difference of the two scores given, at least 0.
        centring: c, at least 0.

    Returns:
        Loss over [P] pairs; ln 2 each where all scores are 0 and m is.
    """
    score_N, pairs = policy.score_N.to(torch.promote_types(policy.score_N.dtype, torch.float32)), graded.pairs
    chosen_P, rejected_P = score_N[pairs.chosen_P], score_N[pairs.rejected_P]
    apart_P = chosen_P - rejected_P
    p_P = pairs.probability_P.to(score_N.dtype)
    margin_P = margin + margin_per_score * graded.gap_P.to(score_N.dtype)
    loss_P = -p_P * F.logsigmoid(apart_P - margin_P) - (1 - p_P) * F.logsigmoid(-apart_P - margin_P)
    if centring:
        loss_P = loss_P + centring * (chosen_P + rejected_P) ** 2
    # The level and the spread of the scores follow from their means.
    level = {"rewards/mean": score_N.detach(), "rewards/mean_square": score_N.detach() ** 2}
    return Loss.of_pairs(loss_P, pairs, reward_metrics(score_N, pairs) | level)
