"""Conditions in which beta is swept for several references, and whose frontier of reward and KL is the higher one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pages
from engine import Book, Claim, Compared, Found, Row
from verdicts import spread, verdict

References = Mapping[str, Mapping[str, Any]]
Point = tuple[float, float]
"""KL from the start, and gold."""


def references(*places: tuple[float, int]) -> References:
    """The frozen one, and those that move, of alpha and every, by name."""
    named: dict[str, dict[str, Any]] = {"frozen": {}}
    for alpha, every in places:
        name = f"hard every {every}" if alpha == 1 else f"soft {alpha:g} every {every}"
        named[name] = {
            "reference.kind": "trust-region", "reference.alpha": alpha, "reference.every": every,
        }  # fmt: skip
    return named


@dataclass(frozen=True, slots=True)
class Sweep:
    """A condition."""

    settings: Mapping[str, Any]
    references: References
    betas: Sequence[float]
    like: str | None = None
    """The row whose learning rate it takes."""

    def name(self, condition: str, reference: str, beta: float) -> str:
        return f"{condition}, {reference}, beta {beta:g}"


Swept = Mapping[str, Sweep]


def swept_claim(name: str, rows: Mapping[str, Row], compared: Sequence[Compared], swept: Swept) -> Claim:
    """A claim with its rows, and conditions whose frontiers it shows apart."""
    apart = rows_of(swept)

    def more_shown(found: Found) -> str:
        return f"{shown(swept, found)}Every run that was swept:\n\n{pages.row_table(claim, found, claim.apart)}\n"

    claim = Claim(
        name, {**rows, **apart}, compared, ("gold", "kl", "words", "proxy"), tuple(apart),
        lambda found, book: frontiers(swept, book), more_shown,
    )  # fmt: skip
    return claim


def rows_of(swept: Swept) -> dict[str, Row]:
    return {
        sweep.name(condition, reference, beta): Row({**sweep.settings, **moves, "beta": beta}, like=sweep.like)
        for condition, sweep in swept.items()
        for reference, moves in sweep.references.items()
        for beta in sweep.betas
    }


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other one has as much gold as, at a lower KL."""
    best: list[Point] = []
    for kl, gold in sorted(points):
        if not best or gold > best[-1][1]:
            best.append((kl, gold))
    return best


def above(ones: Sequence[Point], others: Sequence[Point]) -> float:
    """How much gold the frontier of the ones has over that of the others at the same KL.

    Between its points a frontier is a line in the logarithm of KL; after its last one it stays where it is, as nobody
    has to go further. The mean is over that logarithm, from the first KL that both reach to the last point of either.
    """
    one, other = frontier(ones), frontier(others)
    low = max(one[0][0], other[0][0])
    places = np.linspace(np.log(low), np.log(max(low, one[-1][0], other[-1][0])), 101)
    golds = [np.interp(places, np.log([kl for kl, _ in own]), [gold for _, gold in own]) for own in (one, other)]
    return float(np.mean(golds[0] - golds[1]))


def frontiers(swept: Swept, book: Book) -> Found:
    """Of every reference KL and gold at every beta, and gold against the frozen one's at the same KL."""
    lines = []
    for condition, sweep in swept.items():
        runs = {
            reference: [book.runs(sweep.name(condition, reference, beta)) for beta in sweep.betas]
            for reference in sweep.references
        }
        points = {
            reference: [[(run["kl"], run["gold"]) for run in of_seed] for of_seed in zip(*rows, strict=True)]
            for reference, rows in runs.items()
        }
        for reference, rows in runs.items():
            means = [
                {"beta": beta, "kl": fmean(run["kl"] for run in own), "gold": [run["gold"] for run in own]}
                for beta, own in zip(sweep.betas, rows, strict=True)
            ]
            line: Found = {"of": condition, "reference": reference, "points": means}
            if reference != "frozen":
                both = zip(points[reference], points["frozen"], strict=True)
                differences = [one for one in (above(*pair) for pair in both) if one is not None]
                line |= {
                    "differences": differences,
                    "verdict": "not decided: too few seeds have a KL in common",
                }
                if len(differences) > 1:
                    found = spread(differences)
                    line |= asdict(found) | {"verdict": verdict(found, None)}
            lines.append(line)
    return {"frontiers": lines}


def shown(swept: Swept, found: Found) -> str:
    """A table a condition."""
    text = ""
    for condition, sweep in swept.items():
        rows = []
        for one in found["frontiers"]:
            if one["of"] == condition:
                cells = [f"{fmean(point['gold']):.3f} at {point['kl']:.2f}" for point in one["points"]]
                told = ""
                if "low" in one:
                    bounds = pages.between(one["low"], one["high"], sign=True)
                    told = f"{pages.number(one['mean'], sign=True)} ({bounds})"
                rows.append([one["reference"], *cells, told, one.get("verdict", "")])
        header = [
            condition,
            *(f"beta {beta:g}" for beta in sweep.betas),
            "at the same KL",
            "that it is above",
        ]
        text += pages.table(header, rows) + "\n"
    return text
