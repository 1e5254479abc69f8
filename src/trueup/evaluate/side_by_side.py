"""What comparisons of models amount to: win rates, differences, one scale of all; and tables of what was measured.

What judges merely like is taken out, by length or by style: regressions on outcomes, fitted by Newton's method, with
errors by prompts. Where the data determine no fit, the reason stands in its place, under `refused`.

Shapes: E or K models; M responses of each, R to each of P prompts, prompt by prompt, or M comparisons; F features of
style. An outcome is 1 where the first of two won, 0 where it lost, 1/2 for a tie.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trueup.estimates import Interval, Mean, Z, bootstrap, holm, sign_flip_test
from trueup.evaluate import measures
from trueup.report import page
from trueup.words import logger, spelled

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Row = dict[str, Any]

FEWEST = 20
"""Comparisons below which length is not controlled for."""
STEPS = 50
TOLERANCE = 1e-9
"""Of the gradient a comparison at which a fit has converged."""
FARTHEST = 15.0
"""A coefficient beyond it has run off to infinity: outcomes can be told from the covariates without fail."""
SINGULAR = 1e10
"""Condition number of second derivatives at which columns of a design cannot be told apart."""
ELO = 400 / math.log(10)
"""Points of a strength of 1: a gap of 100 points wins 64 of 100 comparisons that are no ties."""
APART = 0.1
"""How far a win rate may lie from the length-controlled one before it is said."""
WIDE = 160
Pair = tuple[int, int]
"""Numbers of two models."""


def judged(models: Sequence[str], firsts: Mapping[Pair, Array], style_EMF: Array, responses: int, *, seed: int) -> Row:
    """Win rates of every pair of models that was judged; and with three models or more one scale of all.
    Of each pair, `firsts` has [M] how likely the first one's response is the better one, NaN where that is not known;
    `style_EMF` is how much each response has of the features of `STYLE`, `responses` their number to a prompt."""
    rows, games = list[Row](), list[tuple[Any, ...]]()
    for (one, other), first_M in firsts.items():
        known_M = ~np.isnan(first_M)
        outcome_M = (np.sign(first_M[known_M] - 0.5) + 1) / 2
        prompt_M = np.flatnonzero(known_M) // responses
        style_MF = style_EMF[[one, other]][:, known_M]
        rows.append({"one": models[one], "other": models[other], "unreadable": int((~known_M).sum())})
        rows[-1] |= _won(outcome_M, first_M[known_M], style_MF[0, :, 0] - style_MF[1, :, 0], prompt_M, seed)
        both_MF = style_MF.sum(0)
        share_MF = (style_MF[0] - style_MF[1]) / np.where(both_MF > 0, both_MF, 1)
        sides = np.full_like(prompt_M, one), np.full_like(prompt_M, other)
        games.append((*sides, outcome_M, prompt_M, share_MF))
    if len(models) < 3:
        return {"judged": _corrected(rows)}
    matches = Matches(*map(np.concatenate, zip(*games, strict=True)))
    return {"judged": _corrected(rows), "scale": bradley_terry(matches, models, measures.STYLE)}


def _won(outcome_M: Array, first_M: Array, longer_M: Array, prompt_M: Any, seed: int) -> Row:
    row: Row = {name: int((outcome_M == one).sum()) for name, one in (("won", 1), ("tied", 0.5), ("lost", 0))}
    if not len(outcome_M):
        return row | {"wins": {"refused": "no verdict could be read, or judges agree on none"}, "p": 1.0}
    number_M = np.unique(prompt_M, return_inverse=True)[1]
    rate_P = np.bincount(number_M, outcome_M) / np.bincount(number_M)
    row["wins"] = wins = bootstrap(rate_P, seed=seed, share=True)
    controlled = length_controlled(outcome_M, longer_M, number_M)
    equal = row["length_controlled"] = controlled.get("win_rate", controlled)
    row["length"] = controlled.get("length", controlled)
    if "refused" not in controlled and abs(equal.value - wins.value) > APART:
        logger.warning(f"a win rate of {wins.value:.0%} is {equal.value:.0%} between responses of equal length")
    return row | {"probability": float(first_M.mean()), "p": sign_flip_test(rate_P - 0.5, seed=seed)}


def higher(models: Sequence[str], score_EP: Array, pairs: Sequence[Pair], *, seed: int) -> list[Row]:
    """By how much one model's responses score higher, prompt by prompt, and how often; NaN is no score."""
    rows = []
    for one, other in pairs:
        apart_P = score_EP[one] - score_EP[other]
        apart_P = apart_P[~np.isnan(apart_P)]
        if len(apart_P):
            wins = bootstrap((np.sign(apart_P) + 1) / 2, seed=seed, share=True)
            rows.append({
                "one": models[one], "other": models[other], "prompts": len(apart_P), "wins": wins,
                "difference": bootstrap(apart_P, seed=seed), "p": sign_flip_test(apart_P, seed=seed),
            })  # fmt: skip
    return _corrected(rows)


def _corrected(rows: list[Row]) -> list[Row]:
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_corrected"] = corrected
    return rows


def print_results(results: Row) -> None:
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    for one in page.tables_of(results):
        printed = table(*map(spelled, (one.title, *one.headings)))
        for name, values in one.rows:
            printed.add_row(spelled(name), *map(page.cell, values))
        console.print(printed)
    for why in dict.fromkeys(page.refusals(results)):
        console.print(f"refused: {spelled(why)}")
    console.print(page.CAPTION)


def table(first: str, *headings: str) -> Table:
    made = Table(box=MARKDOWN)
    made.add_column(first, overflow="fold")
    for name in headings:
        made.add_column(name, justify="right", overflow="fold")
    return made


class Matches(NamedTuple):
    first_M: Numbers
    second_M: Numbers
    outcome_M: Array
    prompt_M: Numbers
    style_MC: Array
    """By how much the first one's response has more of each of C things that a judge may like."""


class Undetermined(Exception):
    """No finite fit is the best, or none was found; says why."""


def length_controlled(outcome_M: Array, longer_M: Array, prompt_M: Numbers) -> Row:
    """A win rate as it would be between responses of equal length, and what length is worth in log-odds.

    logit P(win) = theta + phi tanh(difference of lengths / its root mean square), as AlpacaEval (Dubois et al., 2024,
    https://arxiv.org/abs/2404.04475), without its term for how hard a prompt is, which takes many models. A tie is half
    a win.

    `longer_M` is by how much our response is longer, `prompt_M` its prompt's number, from 0.
    """
    if len(outcome_M) < FEWEST:
        return {"refused": f"it takes {FEWEST} comparisons, and there are too few: {len(outcome_M)}"}
    if (outcome_M == 0.5).all():
        return {"refused": "all are ties, which say nothing of what length is worth"}
    if longer_M.std() == 0:
        return {"refused": "all responses differ by the same length, whose effect cannot be told from theirs"}
    design_MP = np.column_stack([np.ones_like(outcome_M), np.tanh(longer_M / np.sqrt(np.mean(longer_M**2)))])
    share_M3 = np.column_stack([outcome_M, np.zeros_like(outcome_M), 1 - outcome_M])
    try:
        (theta, phi), covariance_PP = _fitted(design_MP, share_M3, prompt_M, ties=False)
    except Undetermined as reason:
        return {"refused": str(reason)}
    errors = np.sqrt(np.diag(covariance_PP))
    rates = (float(1 / (1 + np.exp(-theta - side * Z * errors[0]))) for side in (0, -1, 1))
    return {"win_rate": Interval(*rates), "length": Mean(float(phi), float(errors[1]), len(outcome_M))}


def bradley_terry(matches: Matches, models: Sequence[str], style: Sequence[str]) -> Row:
    """Strengths by Bradley and Terry (1952), ties by Davidson (1970), covariates of style.

    With eta = b_i - b_j + c . x: P(i wins) : P(tie) : P(j wins) = exp(eta / 2) : nu : exp(-eta / 2), nu being 0 where
    there was no tie. https://doi.org/10.1080/01621459.1970.10481082; style as covariates as in Li et al., 2024,
    https://lmsys.org/blog/2024-08-28-style-control/.

    Returns:
        `points`, the strength of each model in Elo's, their mean being 0; `tie`, the probability of a tie of equals;
        `style`, what a response is worth that alone has something. Where responses do not differ in it, None.
    """
    first_M, second_M, outcome_M, prompt_M, style_MC = matches
    games, number = len(outcome_M), len(models)
    if unconnected := _unconnected(matches, models):
        return {"refused": unconnected}
    side_MK = np.zeros((games, number))
    side_MK[np.arange(games), first_M] += 1
    side_MK[np.arange(games), second_M] -= 1
    differs_C = np.abs(style_MC).sum(0) > 0
    design_MP = np.column_stack([side_MK[:, 1:], style_MC[:, differs_C]])
    share_M3 = np.column_stack([outcome_M == 1, outcome_M == 0.5, outcome_M == 0]).astype(np.float64)
    ties = bool(share_M3[:, 1].any())
    try:
        value_P, covariance_PP = _fitted(design_MP, share_M3, prompt_M, ties=ties)
    except Undetermined as reason:
        return {"refused": str(reason)}
    shown_QP = np.zeros((number + differs_C.sum(), len(value_P)))  # strengths of all models, and then style
    shown_QP[1:, : design_MP.shape[1]] = np.eye(design_MP.shape[1])
    shown_QP[:number] -= shown_QP[:number].mean(0)
    value_Q = ELO * shown_QP @ value_P
    error_Q = ELO * np.sqrt(np.diag(shown_QP @ covariance_PP @ shown_QP.T))
    found = list(zip(value_Q.tolist(), error_Q.tolist(), strict=True))
    points = [Interval(value, value - Z * error, value + Z * error) for value, error in found[:number]]
    worth = [Mean(*one, games) for one in found[number:]]
    nu = math.exp(value_P[-1]) if ties else 0.0
    of_style = {name: worth.pop(0) if there else None for name, there in zip(style, differs_C, strict=True)}
    return {"points": dict(zip(models, points, strict=True)), "tie": nu / (2 + nu), "style": of_style}


def _fitted(design_MP: Array, share_M3: Array, prompt_M: Numbers, *, ties: bool) -> tuple[Array, Array]:
    """The most likely coefficients of win : tie : loss = exp(eta / 2) : nu : exp(-eta / 2), and their covariance.
    eta_M = design_MP @ coefficients; without ties it is logistic regression. log nu stands behind the coefficients
    where there are ties; the covariance is by prompts (Huber, White)."""
    value_P = np.zeros(design_MP.shape[1] + ties)
    for _ in range(STEPS):
        score_MP, hessian_PP = _derivatives(value_P, design_MP, share_M3, ties)
        if np.abs(value_P).max() > FARTHEST:
            raise Undetermined("all is decided without fail by models, style or ties: no finite fit is the best")
        if np.linalg.cond(hessian_PP) > SINGULAR:
            raise Undetermined("what it is fitted on does not determine it")
        if np.abs(score_MP.sum(0)).max() <= TOLERANCE * len(design_MP):
            groups = int(prompt_M.max()) + 1
            sum_GP = np.zeros((groups, len(value_P)))
            np.add.at(sum_GP, prompt_M, score_MP)
            inverse_PP = np.linalg.inv(hessian_PP)
            return value_P, inverse_PP @ sum_GP.T @ sum_GP @ inverse_PP * groups / max(1, groups - 1)
        value_P = value_P + np.linalg.solve(hessian_PP, score_MP.sum(0))
    raise Undetermined(f"the fit has not converged in {STEPS} steps")


def _derivatives(value_P: Array, design_MP: Array, share_M3: Array, ties: bool) -> tuple[Array, Array]:
    """The gradient of each comparison's log-likelihood, and minus the second derivative of all of it."""
    columns = design_MP.shape[1]
    eta_M = design_MP @ value_P[:columns]
    tie_M = np.full_like(eta_M, value_P[-1] if ties else -np.inf)
    logit_M3 = np.column_stack([eta_M / 2, tie_M, -eta_M / 2])
    weight_M3 = np.exp(logit_M3 - logit_M3.max(1, keepdims=True))
    win_M, tied_M, loss_M = (weight_M3 / weight_M3.sum(1, keepdims=True)).T
    lead_M = win_M - loss_M
    score_MP = design_MP * ((share_M3[:, 0] - share_M3[:, 2] - lead_M) / 2)[:, None]
    hessian_PP = design_MP.T @ (design_MP * ((win_M + loss_M - lead_M**2) / 4)[:, None])
    if ties:
        across_P = design_MP.T @ (-tied_M * lead_M / 2)
        corner = np.array([[(tied_M * (1 - tied_M)).sum()]])
        score_MP = np.column_stack([score_MP, share_M3[:, 1] - tied_M])
        hessian_PP = np.block([[hessian_PP, across_P[:, None]], [across_P[None], corner]])
    return score_MP, hessian_PP


def _unconnected(matches: Matches, models: Sequence[str]) -> str | None:
    """Why the outcomes set no scale: some models never won against others, directly or through further ones."""
    first_M, second_M, outcome_M, *_ = matches
    beats_KK = np.eye(len(models), dtype=np.bool_)
    beats_KK[first_M[outcome_M > 0], second_M[outcome_M > 0]] = True
    beats_KK[second_M[outcome_M < 1], first_M[outcome_M < 1]] = True
    for _ in models:
        beats_KK = beats_KK @ beats_KK
    top = int(beats_KK.sum(1).argmax())
    below = [name for name, beats in zip(models, beats_KK[:, top], strict=True) if not beats]
    if not below:
        return None
    return f"{', '.join(below)} never won against, nor tied with, {models[top]}, directly or through others"
