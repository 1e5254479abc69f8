"""Robust direct preference optimization. Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409."""

from dataclasses import replace

from trueup.batch.index import Pairs
from trueup.batch.logprobs import LogProbs
from trueup.objectives.dpo import dpo
from trueup.objectives.loss import Loss


def robust_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.1
) -> Loss:
    """[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO, e the share of wrong orders.

    Its mean over orders of which a share e was flipped is the DPO loss of the right orders. A pair with the
    probability p of being right gives p times this and 1 - p times the same with the order turned: DPO with
    (p - e) / (1 - 2 e) in place of p, the inverse of label smoothing. Unbounded below, as that exceeds 1.

    Args:
        policy: N responses; log-probabilities are summed over tokens.
        reference: the same N responses under the reference.
        pairs: P pairs among the N rows.
        beta: strength of the KL constraint, in reward per nat.
        label_smoothing: e, in [0, 0.5); 0 is DPO.

    Returns:
        Loss over [P] pairs; ln 2 each when policy and reference agree.
    """
    right_P = (pairs.probability_P.to(policy.sum.dtype) - label_smoothing) / (1 - 2 * label_smoothing)
    return dpo(policy, reference, replace(pairs, probability_P=right_P), beta=beta)
