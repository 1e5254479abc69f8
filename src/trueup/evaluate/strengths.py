"""Who is better once what judges merely like is taken out: by length of two models, by style of all of them at once.

Both are regressions on outcomes of comparisons, fitted by Newton's method; standard errors hold for comparisons of one
prompt that hang together. Where the data determine no fit there is none, and the reason is given in its place.

Shapes: M comparisons, K models, C covariates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueup.estimates import Interval, Mean, Z, clustered_covariance

Array = NDArray[np.float64]

FEWEST = 20
"""Comparisons below which length is not controlled for."""
STEPS = 50
TOLERANCE = 1e-9
"""Of the gradient a comparison at which a fit has converged."""
FARTHEST = 15.0
"""A coefficient beyond it has run off to infinity: outcomes can be told from the covariates without fail."""
ELO = 400 / math.log(10)
"""Points of a strength of 1: a gap of 100 points wins 64 of 100 comparisons that are no ties."""
SINGULAR = 1e10
"""Condition number of second derivatives at which columns of a design cannot be told apart."""
SEPARATED = "it is decided without fail by what it is fitted on, so that no finite fit is the best"


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate as it would be between responses of equal length."""

    win_rate: Interval
    length: Mean
    """Log-odds by which a response that is longer by as much as it usually differs gains; above 0 where judges like
    length."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Comparisons of K models, M of them."""

    first_M: NDArray[np.int64]
    """Number of the one model, from 0."""
    second_M: NDArray[np.int64]
    outcome_M: Array
    """1 where the first one won, 0 where the second did, 1/2 for a tie."""
    prompt_M: NDArray[np.int64]
    """Number of the prompt, from 0."""
    style_MC: Array
    """By how much the first one's response has more of each feature of style."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Strengths of models on one scale."""

    points: tuple[Interval, ...]
    """Of each model, in Elo's points; their mean is 0."""
    tie: float | None
    """Probability of a tie of two equally strong models; None where there was no tie."""
    style: tuple[Mean | None, ...]
    """Points that each feature is worth, where a response has it and the other has none of it; None where the
    responses do not differ in it."""


def length_controlled(
    outcome_M: Array, longer_M: Array, prompt_M: NDArray[np.int64]
) -> LengthControlled | str:
    """A win rate by a logistic regression on the difference of lengths, read off where it is 0; or why there is none.

    logit P(win) = theta + phi tanh(difference / its standard deviation), as AlpacaEval (Dubois et al., 2024,
    https://arxiv.org/abs/2404.04475), without its term for how hard a prompt is, which takes many models. A tie is half
    a win.

    Args:
        outcome_M: 1, 1/2 or 0.
        longer_M: by how much our response is longer.
        prompt_M: its prompt's number, from 0.
    """
    spread = float(np.sqrt(np.mean(longer_M**2))) if len(longer_M) else 0.0
    if len(outcome_M) < FEWEST:
        return f"{len(outcome_M)} comparisons are too few: it takes {FEWEST}"
    if longer_M.std() == 0:
        return "all responses differ by the same length, so that its effect cannot be told from theirs"
    design_MP = np.column_stack([np.ones_like(outcome_M), np.tanh(longer_M / spread)])
    fitted = _newton(design_MP, np.column_stack([outcome_M, np.zeros_like(outcome_M), 1 - outcome_M]), False)
    if isinstance(fitted, str):
        return fitted
    theta, phi = fitted.value_P
    errors = np.sqrt(np.diag(clustered_covariance(fitted.score_MP, fitted.hessian_PP, prompt_M)))
    low, high = theta - Z * errors[0], theta + Z * errors[0]
    win_rate = Interval(*(float(1 / (1 + np.exp(-value))) for value in (theta, low, high)))
    return LengthControlled(win_rate, Mean(float(phi), float(errors[1]), len(outcome_M)))


def bradley_terry(matches: Matches, models: Sequence[str]) -> Scale | str:
    """Strengths by Bradley and Terry (1952), ties by Davidson (1970), covariates of style; or why there are none.

    With eta = b_i - b_j + c . x: P(i wins) : P(tie) : P(j wins) = exp(eta / 2) : nu : exp(-eta / 2), nu being 0 where
    there was no tie. https://doi.org/10.1080/01621459.1970.10481082; style as covariates as in Li et al., 2024,
    https://lmsys.org/blog/2024-08-28-style-control/.

    Args:
        models: their names, at least two.
    """
    if unconnected := _unconnected(matches, models):
        return unconnected
    games, number = len(matches.outcome_M), len(models)
    side_MK = np.zeros((games, number))
    side_MK[np.arange(games), matches.first_M] += 1
    side_MK[np.arange(games), matches.second_M] -= 1
    varies = [bool(column.any()) for column in matches.style_MC.T]
    design_MP = np.column_stack([side_MK[:, 1:], matches.style_MC[:, varies]])
    won_M, lost_M = matches.outcome_M == 1, matches.outcome_M == 0
    share_M3 = np.column_stack([won_M, ~won_M & ~lost_M, lost_M]).astype(np.float64)
    ties = bool(share_M3[:, 1].any())
    fitted = _newton(design_MP, share_M3, ties)
    if isinstance(fitted, str):
        return fitted
    covariance_PP = clustered_covariance(fitted.score_MP, fitted.hessian_PP, matches.prompt_M)
    centre_KP = np.zeros((number, len(fitted.value_P)))
    centre_KP[1:, : number - 1] = np.eye(number - 1)
    centre_KP -= centre_KP.mean(0)
    strength_K = centre_KP @ fitted.value_P
    error_K = np.sqrt(np.diag(centre_KP @ covariance_PP @ centre_KP.T))
    points = tuple(
        Interval(*(float(ELO * one) for one in (value, value - Z * error, value + Z * error)))
        for value, error in zip(strength_K, error_K, strict=True)
    )
    error_P = np.sqrt(np.diag(covariance_PP))
    worth = [
        Mean(float(ELO * fitted.value_P[at]), float(ELO * error_P[at]), games)
        for at in range(number - 1, design_MP.shape[1])
    ]
    style = tuple(worth.pop(0) if there else None for there in varies)
    nu = math.exp(fitted.value_P[-1]) if ties else 0.0
    return Scale(points, nu / (2 + nu) if ties else None, style)


@dataclass(frozen=True, slots=True)
class _Fitted:
    value_P: Array
    """Coefficients of the design's columns, and then the logarithm of nu where there are ties."""
    score_MP: Array
    hessian_PP: Array
    """Of the negative log-likelihood."""


def _newton(design_MP: Array, share_M3: Array, ties: bool) -> _Fitted | str:
    """The most likely coefficients of win : tie : loss = exp(eta / 2) : nu : exp(-eta / 2), or why there are none.

    Without ties that is the logistic regression of win against loss. The log-likelihood is concave.

    Args:
        design_MP: eta = design times coefficients.
        share_M3: how much of each comparison was a win, a tie and a loss.
    """
    columns = design_MP.shape[1]
    value_P = np.zeros(columns + ties)
    best = -math.inf
    step_P = np.zeros_like(value_P)
    for _ in range(STEPS):
        likelihood, score_MP, hessian_PP = _at(value_P, design_MP, share_M3, ties)
        if likelihood < best - 1e-9 * abs(best):  # too long a step: half of it
            step_P = step_P / 2
            value_P = value_P - step_P
            continue
        best = likelihood
        gradient_P = score_MP.sum(0)
        if np.abs(value_P).max() > FARTHEST:
            return SEPARATED
        if np.linalg.cond(hessian_PP) > SINGULAR:
            return "what it is fitted on does not determine it"
        if np.abs(gradient_P).max() <= TOLERANCE * len(design_MP):
            return _Fitted(value_P, score_MP, hessian_PP)
        step_P = np.linalg.solve(hessian_PP, gradient_P)
        value_P = value_P + step_P
    return f"the fit has not converged in {STEPS} steps"


def _at(value_P: Array, design_MP: Array, share_M3: Array, ties: bool) -> tuple[float, Array, Array]:
    """Log-likelihood, each comparison's gradient of it, and minus its second derivative."""
    columns = design_MP.shape[1]
    eta_M = design_MP @ value_P[:columns]
    tie_M = np.full_like(eta_M, value_P[-1] if ties else -np.inf)
    logit_M3 = np.column_stack([eta_M / 2, tie_M, -eta_M / 2])
    most_M1 = logit_M3.max(1, keepdims=True)
    log_p_M3 = logit_M3 - most_M1 - np.log(np.exp(logit_M3 - most_M1).sum(1, keepdims=True))
    win_M, tied_M, loss_M = np.exp(log_p_M3).T
    likelihood = float((share_M3 * np.where(share_M3 > 0, log_p_M3, 0)).sum())
    lead_M = win_M - loss_M
    by_eta_M = (share_M3[:, 0] - share_M3[:, 2] - lead_M) / 2
    curve_M = (win_M + loss_M - lead_M**2) / 4
    score_MP = design_MP * by_eta_M[:, None]
    hessian_PP = design_MP.T @ (design_MP * curve_M[:, None])
    if ties:
        across_P = design_MP.T @ (-tied_M * lead_M / 2)
        score_MP = np.column_stack([score_MP, share_M3[:, 1] - tied_M])
        corner = np.array([[(tied_M * (1 - tied_M)).sum()]])
        hessian_PP = np.block([[hessian_PP, across_P[:, None]], [across_P[None], corner]])
    return likelihood, score_MP, hessian_PP


def _unconnected(matches: Matches, models: Sequence[str]) -> str | None:
    """Why the outcomes set no scale: some models are not compared with others, or won, or lost, every time."""
    reaches_KK = np.eye(len(models), dtype=np.bool_)
    for won, first, second in (
        (matches.outcome_M > 0, matches.first_M, matches.second_M),
        (matches.outcome_M < 1, matches.second_M, matches.first_M),
    ):
        reaches_KK[first[won], second[won]] = True
    compared_KK = reaches_KK | reaches_KK.T
    for _ in models:
        reaches_KK = reaches_KK @ reaches_KK
        compared_KK = compared_KK @ compared_KK
    apart = [name for name, there in zip(models, compared_KK[0], strict=True) if not there]
    if apart:
        return f"nothing compares {models[0]} with {', '.join(apart)}, directly or through others"
    if reaches_KK.all():
        return None
    top = max(range(len(models)), key=lambda at: int(reaches_KK[at].sum()))
    never = [name for at, name in enumerate(models) if not reaches_KK[at, top]]
    return f"{', '.join(never)} never won against, nor tied with, the others: no finite strength fits that"
