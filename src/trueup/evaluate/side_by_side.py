"""What comparisons of models amount to: win rates, differences, one scale of all; and tables of what was measured.

Shapes: E models; M responses of each, R to each of P prompts, prompt by prompt; F features of style.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trueup.estimates import bootstrap, holm, sign_flip_test
from trueup.evaluate import measures, strengths
from trueup.report import evaluation_tables as tables
from trueup.words import logger, spelled

APART = 0.1
"""How far a win rate may lie from the length-controlled one before it is said."""
WIDE = 160
"""Characters of a line where no terminal says how many fit."""
Pair = tuple[int, int]
"""Numbers of two models."""


def judged(
    models: Sequence[str],
    firsts: Mapping[Pair, strengths.Array],
    style_EMF: strengths.Array,
    responses: int,
    *,
    seed: int,
) -> strengths.Row:
    """Win rates of every pair of models that was judged; and with three models or more one scale of all.

    Args:
        firsts: of each pair, [M] how likely the first one's response is the better one; NaN where it is not known.
        style_EMF: how much each response has of the features of `STYLE`.
        responses: to each prompt.
    """
    rows: list[strengths.Row] = []
    games: list[tuple[Any, ...]] = []
    for (one, other), first_M in firsts.items():
        known_M = ~np.isnan(first_M)
        outcome_M = (np.sign(first_M[known_M] - 0.5) + 1) / 2
        prompt_M = np.flatnonzero(known_M) // responses
        style_MF = style_EMF[[one, other]][:, known_M]
        rows.append({"one": models[one], "other": models[other], "unreadable": int((~known_M).sum())})
        rows[-1] |= _won(outcome_M, first_M[known_M], style_MF[0, :, 0] - style_MF[1, :, 0], prompt_M, seed)
        both_MF = style_MF.sum(0)
        share_MF = (style_MF[0] - style_MF[1]) / np.where(both_MF > 0, both_MF, 1)
        games.append(
            (np.full_like(prompt_M, one), np.full_like(prompt_M, other), outcome_M, prompt_M, share_MF)
        )
    found: strengths.Row = {"judged": _corrected(rows)}
    if len(models) > 2:
        found["scale"] = strengths.bradley_terry(
            strengths.Matches(*map(np.concatenate, zip(*games, strict=True))), models, measures.STYLE
        )
    return found


def _won(
    outcome_M: strengths.Array, first_M: strengths.Array, longer_M: strengths.Array, prompt_M: Any, seed: int
) -> strengths.Row:
    """A row of `judged`."""
    row: strengths.Row = {
        name: int((outcome_M == value).sum()) for name, value in (("won", 1), ("tied", 0.5), ("lost", 0))
    }
    if not len(outcome_M):
        return row | {"wins": {"refused": "no verdict could be read"}, "p": 1.0}
    number_M = np.unique(prompt_M, return_inverse=True)[1]
    rate_P = np.bincount(number_M, outcome_M) / np.bincount(number_M)
    row["wins"] = wins = bootstrap(rate_P, seed=seed, share=True)
    row["length_controlled"] = row["length"] = controlled = strengths.length_controlled(
        outcome_M, longer_M, number_M
    )
    if "refused" not in controlled:
        row["length_controlled"], row["length"] = controlled["win_rate"], controlled["length"]
        if abs(row["length_controlled"].value - wins.value) > APART:
            logger.warning(
                f"a win rate of {wins.value:.0%} is {row['length_controlled'].value:.0%} between responses of equal "
                "length"
            )
    return row | {"probability": float(first_M.mean()), "p": sign_flip_test(rate_P - 0.5, seed=seed)}


def higher(
    models: Sequence[str], score_EP: strengths.Array, pairs: Sequence[Pair], *, seed: int
) -> list[strengths.Row]:
    """By how much one model's responses score higher, prompt by prompt, and how often; NaN is no score."""
    rows = []
    for one, other in pairs:
        apart_P = score_EP[one] - score_EP[other]
        apart_P = apart_P[~np.isnan(apart_P)]
        if len(apart_P):
            wins = bootstrap((np.sign(apart_P) + 1) / 2, seed=seed, share=True)
            row = {"one": models[one], "other": models[other], "prompts": len(apart_P), "wins": wins}
            row |= {"difference": bootstrap(apart_P, seed=seed), "p": sign_flip_test(apart_P, seed=seed)}
            rows.append(row)
    return _corrected(rows)


def _corrected(rows: list[strengths.Row]) -> list[strengths.Row]:
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_corrected"] = corrected
    return rows


def print_results(results: strengths.Row) -> None:
    """Print the tables of what evaluation.json holds."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    for table in tables.tables_of(results):
        printed = _table(*map(spelled, (table.title, *table.headings)))
        for name, values in table.rows:
            printed.add_row(spelled(name), *map(tables.cell, values))
        console.print(printed)
    for why in dict.fromkeys(tables.refusals(results)):
        console.print(f"refused: {spelled(why)}")
    console.print(tables.CAPTION)


def _table(first: str, *headings: str) -> Table:
    table = Table(box=MARKDOWN)
    table.add_column(first, overflow="fold")
    for name in headings:
        table.add_column(name, justify="right", overflow="fold")
    return table
