"""Tokens of many rows in one vector: what belongs to a row, said once.

Shape suffixes: N rows (responses), S scored tokens of all rows, every row with one at least.
"""

import torch
from torch import Tensor


def row_sums(values_S: Tensor, length_N: Tensor) -> Tensor:
    """[N] sum of each row's values."""
    return torch.segment_reduce(values_S, "sum", lengths=length_N, initial=0)


def spread(values_N: Tensor, length_N: Tensor) -> Tensor:
    """[S] each row's value for every token of it."""
    return values_N.repeat_interleave(length_N)


def last_tokens(length_N: Tensor) -> Tensor:
    """[N] place of each row's last token."""
    return length_N.cumsum(0) - 1
