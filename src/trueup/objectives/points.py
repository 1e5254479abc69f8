"""Losses of responses that were labelled one by one: KTO, BCO, point-wise DPO, ULMA, unlikelihood training.

Each takes the log-probabilities of N responses under policy and reference, where it has one, and a label per row; it
gives a loss over [N] responses. beta is the strength of the KL constraint, in reward per nat.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, Measurement, point_metrics


def kto(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    mismatched_M: torch.Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Loss:
    """w_D (1 - sigmoid(beta (rho - z0))) on desirable, w_U (1 - sigmoid(beta (z0 - rho))) on undesirable responses.

    Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306.
    rho = log(pi / pi_ref) (y | x), and z0 = max(0, mean of rho over prompts with responses to other prompts), an
    estimate of KL(pi || pi_ref) that no gradient flows through; Eq. 8. A graded label z is desirable with weight
    z and undesirable with weight 1 - z.

    Args:
        mismatched_M: [M, 1] log-ratios of the whole step's mismatched responses (`log_ratios`).
        beta: how fast the value of a response saturates, in reward per nat.
        desirable_weight: of responses with label 1.
        undesirable_weight: of responses with label 0.

    Returns:
        Loss over [N] responses; half the weight of its class each when policy and reference agree.
    """
    log_ratio_N = policy.sum - reference.sum
    values_M, count = mismatched_M[:, 0], mismatched_M.numel()
    z0 = values_M.mean().clamp(min=0).to(log_ratio_N.dtype)
    error = values_M.std()[None] / count**0.5 if count > 1 else values_M.new_empty(0)  # one value has none
    label_N = points.label_N.to(log_ratio_N.dtype)
    gain_N = desirable_weight * torch.sigmoid(beta * (z0 - log_ratio_N))
    risk_N = undesirable_weight * torch.sigmoid(beta * (log_ratio_N - z0))
    loss_N = label_N * gain_N + (1 - label_N) * risk_N
    metrics = point_metrics(policy, beta * log_ratio_N, points, reference)
    metrics |= {"kto/z0": z0.reshape(1), "kto/z0_error": error}
    return Loss.of_rows(loss_N, metrics)


def log_ratios(policy: LogProbs, reference: LogProbs) -> torch.Tensor:
    """[M, 1] log(pi / pi_ref) of M responses."""
    return (policy.sum.double() - reference.sum.double())[:, None]


MISMATCHED = Measurement(
    lambda rows: (log_ratios(*each) for each in rows.mismatched()), needs_mismatched=True
)
"""The log-ratios that the reference point of `kto` is estimated from."""


def bco(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    seen_2: torch.Tensor | None = None,
    *,
    beta: float = 0.1,
) -> Loss:
    """-z log sigmoid(r - delta) - (1 - z) log sigmoid(delta - r), r = beta log(pi / pi_ref), z the label.

    Jung et al., 2024, https://arxiv.org/abs/2404.04656.
    delta is the mean reward of all responses of the run so far, those of this step among them, and a constant: the
    running mean of TRL's BCOTrainer (1.12).

    Args:
        seen_2: [2] sum and number of the log-ratios so far; None takes a delta of 0.

    Returns:
        Loss over [N] responses; ln 2 each when policy and reference agree and always have.
    """
    reward_N = beta * (policy.sum - reference.sum)
    delta = reward_N.new_zeros(()) if seen_2 is None else (beta * seen_2[0] / seen_2[1]).to(reward_N.dtype)
    label_N = points.label_N.to(reward_N.dtype)
    loss_N = -label_N * F.logsigmoid(reward_N - delta) - (1 - label_N) * F.logsigmoid(delta - reward_N)
    metrics = point_metrics(policy, reward_N, points, reference) | {"bco/delta": delta.reshape(1)}
    return Loss.of_rows(loss_N, metrics)


def _added(log_ratio_M: torch.Tensor, seen_2: torch.Tensor | None) -> torch.Tensor:
    now_2 = torch.stack([log_ratio_M.sum(), log_ratio_M.new_tensor(log_ratio_M.numel())])
    return now_2 if seen_2 is None else seen_2 + now_2


SEEN = Measurement(
    lambda rows: (log_ratios(policy, reference) for policy, reference, _ in rows.own()), remembers=_added
)
"""Sum and number of the log-ratios of all responses of the run so far, for `bco`."""


def pointwise_dpo(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    *,
    beta: float = 0.1,
    continuous: bool = False,
    per_token: bool = False,
    log_z: float = 0.0,
) -> Loss:
    """-z log sigmoid(s) - (1 - z) log(1 - sigmoid(s)), or (z - s)^2 for continuous labels.

    Cai et al., 2023, https://arxiv.org/abs/2312.02554.
    s = beta log(pi / pi_ref) + log_z, the implicit reward of a response; z its label in [0, 1].

    Args:
        continuous: labels are graded; fit them by least squares instead of treating them as probabilities.
        per_token: log-ratios per token, as in the authors' code; False sums over the tokens, as in the formula.
        log_z: beta log Z(x), taken as a constant; 0 in the authors' code.
    """
    reward_N = point_rewards(policy, reference, beta=beta, per_token=per_token, log_z=log_z)
    label_N = points.label_N.to(reward_N.dtype)
    if continuous:
        loss_N = (label_N - reward_N) ** 2
    else:
        loss_N = -label_N * F.logsigmoid(reward_N) - (1 - label_N) * F.logsigmoid(-reward_N)
    return Loss.of_rows(loss_N, point_metrics(policy, reward_N, points, reference))


def point_rewards(
    policy: LogProbs, reference: LogProbs, *, beta: float, per_token: bool, log_z: float
) -> Tensor:
    """[N] s = beta log(pi / pi_ref) + log_z; the log-ratio is divided by the number of tokens if asked."""
    log_ratio_N = policy.mean - reference.mean if per_token else policy.sum - reference.sum
    return beta * log_ratio_N + log_z


def ulma(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    *,
    beta: float = 0.1,
    continuous: bool = False,
    per_token: bool = False,
    log_z: float = 0.0,
) -> Loss:
    """-log pi(y | x) on demonstrations; point-wise DPO on every other labelled response.

    Cai et al., 2023, https://arxiv.org/abs/2312.02554.
    Binary, label z: -z log pi(y | x) - (1 - z) log(1 - sigmoid(s)), s = beta log(pi / pi_ref) + log_z.
    Continuous, label z in [0, 1]: (z - s)^2 on responses that are not demonstrations.

    In the binary form a thumb up (z = 1) is imitated, as a demonstration is: that is the paper's formula. The
    authors' code (https://github.com/Unified-Language-Model-Alignment/src) departs from it twice: it averages
    log-probabilities over tokens (`per_token`), and it adds the mean over demonstrations and the mean over the rest
    (`ulma_group_means`). This divides by all examples.

    Args:
        points: a label and a demonstration flag per row.
        continuous: labels are graded; fit them by least squares instead of treating them as probabilities.
        per_token: log-probabilities per token; False sums over the tokens of a response.
        log_z: beta log Z(x), taken as a constant; 0 in the authors' code.
    """
    reward_N = point_rewards(policy, reference, beta=beta, per_token=per_token, log_z=log_z)
    label_N = points.label_N.to(reward_N.dtype)
    imitate_N = -policy.mean if per_token else -policy.sum
    if continuous:
        judged_N = (label_N - reward_N) ** 2
    else:
        judged_N = label_N * imitate_N - (1 - label_N) * F.logsigmoid(-reward_N)
    loss_N = torch.where(points.demonstration_N, imitate_N, judged_N)
    return Loss.of_rows(loss_N, point_metrics(policy, reward_N, points, reference))


def ulma_group_means(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    labels_M: torch.Tensor,
    *,
    beta: float = 0.1,
    continuous: bool = False,
    per_token: bool = True,
    log_z: float = 0.0,
) -> Loss:
    """The mean of ULMA's loss over imitated responses, plus its mean over the others, as its authors' code adds up.

    Imitated are demonstrations and, in the binary form, labels of exactly 1
    (https://github.com/Unified-Language-Model-Alignment/src). The fewer a batch holds of one group, the more each
    of it counts. With M responses in the step and m of them in its group, a response's loss is multiplied by M / m,
    so that the mean over all is the sum of the two means; the mean over an empty group is 0.

    Args:
        labels_M: [M, 2] label and demonstration flag of each response of the step (`labels`).
        policy, reference, points, beta, continuous, per_token, log_z: as in `ulma`.
    """
    loss = ulma(policy, reference, points, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z)
    first_M, first_N = (imitated(values, continuous=continuous) for values in (labels_M, labels(points)))
    total, first = len(first_M), first_M.sum()
    size_N = torch.where(first_N, first, total - first).to(loss.per_example.dtype)
    return replace(loss, per_example=loss.per_example * (total / size_N))


def imitated(labels_N: torch.Tensor, *, continuous: bool) -> torch.Tensor:
    """[N] bool, which responses are imitated, from their labels and flags (`labels`)."""
    shown_N = labels_N[:, 1] == 1
    return shown_N if continuous else shown_N | (labels_N[:, 0] == 1)


def labels(points: Points) -> torch.Tensor:
    """[N, 2] float64, label and demonstration flag of N responses."""
    return torch.stack([points.label_N.double(), points.demonstration_N.double()], dim=1)


LABELS = Measurement(lambda rows: map(labels, rows.indexes()))
"""Those of the step, for `ulma_group_means`."""


NEAREST = 2.0**-20
"""Log-probabilities above -NEAREST (probabilities above about 1 - 1e-6) are on the tangent."""


def unlikelihood(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z log pi(y | x) - weight (1 - z) sum_t log(1 - pi(y_t | x, y_<t)), z the label.

    Welleck et al., 2019, https://arxiv.org/abs/1908.04319.
    Korbak et al., 2023 (https://arxiv.org/abs/2302.08582), Eq. 6, with the labels 1 and 0. A label between
    mixes the two. Never below 0; where pi(y_t) is within 2^-20 of 1, its term follows its tangent.

    Args:
        points: a label per row; whether it is a demonstration makes no difference.
        weight: weight of making undesirable tokens less likely.
    """
    log_prob_N = policy.sum
    label_N = points.label_N.to(log_prob_N.dtype)
    other_S = log1mexp(policy.token_S.to(log_prob_N.dtype))
    other_N = LogProbs(other_S, policy.length_N).sum
    loss_N = -label_N * log_prob_N - weight * (1 - label_N) * other_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))


def unlikelihood_ascent(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z p(y) + weight (1 - z) p(y), z the label, p(y) = log pi(y | x) / |y|. Unbounded below.

    Gradient ascent on the undesirable responses, as the authors of ULMA compare with it: Cai et al., 2023,
    https://arxiv.org/abs/2312.02554. As in https://github.com/Unified-Language-Model-Alignment/src, which adds the
    mean over responses with label 1 and the mean over those with label 0; this divides by all responses.

    Args:
        policy: N responses; log-probabilities are averaged over tokens.
        points: a label per row; whether it is a demonstration makes no difference.
        weight: weight of making undesirable responses less likely.
    """
    mean_N = policy.mean
    label_N = points.label_N.to(mean_N.dtype)
    loss_N = (weight * (1 - label_N) - label_N) * mean_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))


def log1mexp(log_prob: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(log_prob)), of any shape, for log-probabilities at most 0 up to rounding.

    Without loss of digits at either end: Maechler, 2012,
    https://cran.r-project.org/web/packages/Rmpfr/vignettes/log1mexp-note.pdf.

    The function falls without bound as the probability goes to 1. Above -`NEAREST` it goes on along its
    tangent, so that value and slope stay finite: -13.86 and -2^20 there, -14.86 at a probability of 1. The
    slope with respect to a logit, the tangent's times 1 - p, is at most 1 in size, as it is everywhere.
    """
    near_one = log_prob.clamp(-math.log(2), -NEAREST)
    far_from_one = log_prob.clamp(max=-math.log(2))
    beyond = log_prob - log_prob.clamp(max=-NEAREST)  # at the border both pass a gradient on: they cancel
    value = torch.where(
        log_prob > -math.log(2), torch.log(-torch.expm1(near_one)), torch.log1p(-torch.exp(far_from_one))
    )
    return value - beyond / math.expm1(NEAREST)
