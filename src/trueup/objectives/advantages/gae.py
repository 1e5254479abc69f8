"""Generalised advantage estimation. Schulman et al., 2016, https://arxiv.org/abs/1506.02438.

Shape suffixes: N rows (responses), S scored tokens of all rows, L tokens of the longest.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def advantages(
    reward_S: Tensor, value_S: Tensor, length_N: Tensor, *, gamma: float, gae_lambda: float
) -> Tensor:
    """A_t = sum over l of (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t; Eq. 16.

    The end of a response is worth nothing: V is 0 after its last token, whether the policy ended it or it ran out
    of tokens.

    Args:
        reward_S: reward for each token.
        value_S: expected sum of rewards from each token on, known before it is written.
        length_N: tokens of each row.
        gamma: discount of later rewards, in [0, 1].
        gae_lambda: 0 trusts the next value, 1 only what was seen, in [0, 1].

    Returns:
        [S]; with values of 0 and lambda 1 the discounted sums of rewards themselves.
    """
    # The columns beyond the end of a row are its end: reward 0, value 0.
    lengths = length_N.tolist()
    reward_NL = pad_sequence(list(reward_S.split(lengths)), batch_first=True)
    value_NL = pad_sequence(list(value_S.split(lengths)), batch_first=True)
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


def returns(reward_S: Tensor, length_N: Tensor, *, gamma: float) -> Tensor:
    """[S] Z_t = r_t + gamma r_{t+1} + ...: what came of each token."""
    return advantages(reward_S, torch.zeros_like(reward_S), length_N, gamma=gamma, gae_lambda=1.0)
