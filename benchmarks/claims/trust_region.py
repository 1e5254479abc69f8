"""References that move against the frozen one, tuned side by side, and over all of beta.

python benchmarks/claims/trust_region.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np
import pages
from engine import Book, Claim, Compared, Found, Row, main
from oaif import NEAR, SEARCH
from pointwise import ROWS as POINTWISE
from verdicts import spread, verdict

BETAS = (0.3, 1.0, 3.0)
METHODS: dict[str, Any] = {"DPO": {"method": "dpo", **NEAR}, "KTO": POINTWISE["KTO"].settings}


def moving(alpha: float, every: int) -> dict[str, Any]:
    return {"reference.kind": "trust-region", "reference.alpha": alpha, "reference.every": every}


FROZEN: dict[str, Any] = {}
REFERENCES = {"frozen": FROZEN, "soft 0.6 every 16": moving(0.6, 16), "hard every 16": moving(1.0, 16)}
SWEPT: dict[str, tuple[dict[str, Any], str, dict[str, dict[str, Any]]]] = {
    "DPO": (METHODS["DPO"], "DPO, frozen", REFERENCES),
}
"""What is swept over beta: settings, the row whose learning rate it takes, and the references."""

ROWS = {
    f"{name}, {reference}": Row({**settings, **moves}, SEARCH)
    for name, settings in METHODS.items()
    for reference, moves in REFERENCES.items()
}
ROWS |= {
    f"{name}, {reference}, beta {beta:g}": Row({**settings, **moves, "beta": beta}, like=like)
    for name, (settings, like, references) in SWEPT.items()
    for reference, moves in references.items()
    for beta in BETAS
}

Point = tuple[float, float]
"""KL from the start, and gold."""


def above(points: Sequence[Point], frontier: Sequence[Point]) -> float | None:
    """How much gold points have over a frontier at the same KL, on average over those that lie within its reach.

    Between the frontier's own points gold is a line in the logarithm of KL.
    """
    kls, golds = zip(*sorted(frontier), strict=True)
    within = [(kl, gold) for kl, gold in points if kls[0] <= kl <= kls[-1]]
    if not within:
        return None
    return fmean(gold - float(np.interp(np.log(kl), np.log(kls), golds)) for kl, gold in within)


def frontiers(found: Found, book: Book) -> Found:
    """Of every reference that is swept over beta: KL and gold, and gold against the frozen one's at the same KL."""
    lines = []
    for name, (_, _, references) in SWEPT.items():
        swept = {
            reference: [book.runs(f"{name}, {reference}, beta {beta:g}") for beta in BETAS]
            for reference in references
        }
        by_seed = {
            reference: [[(run["kl"], run["gold"]) for run in runs] for runs in zip(*rows, strict=True)]
            for reference, rows in swept.items()
        }
        for reference, rows in swept.items():
            means = [
                {"beta": beta, "kl": fmean(run["kl"] for run in runs), "gold": [run["gold"] for run in runs]}
                for beta, runs in zip(BETAS, rows, strict=True)
            ]
            line: Found = {"of": name, "reference": reference, "points": means}
            if reference != "frozen":
                own = [above(*both) for both in zip(by_seed[reference], by_seed["frozen"], strict=True)]
                differences = [one for one in own if one is not None]
                line |= {"differences": differences, "verdict": "not decided: no KL in common"}
                if len(differences) > 1:
                    line |= asdict(spread(differences)) | {"verdict": verdict(spread(differences), None)}
            lines.append(line)
    return {"frontiers": lines}


def frontiers_shown(found: Found) -> str:
    """A table a condition."""
    text = ""
    for name in SWEPT:
        lines = [one for one in found["frontiers"] if one["of"] == name]
        rows = []
        for one in lines:
            cells = [f"{fmean(point['gold']):.3f} at {point['kl']:.2f}" for point in one["points"]]
            told = ["", ""]
            if one["reference"] != "frozen":
                told = [one["verdict"]] * 2
                if "low" in one:
                    told[0] = f"{one['mean']:+.3f} ({pages.between(one['low'], one['high'], sign=True)})"
            rows.append([one["reference"], *cells, *told])
        header = [name, *(f"beta {beta:g}" for beta in BETAS), "at the same KL", "that it is above"]
        text += pages.table(header, rows) + "\n"
    return text + "Every run that was swept:\n\n" + pages.row_table(CLAIM, found, CLAIM.apart) + "\n"


CLAIM = Claim(
    "trust_region",
    ROWS,
    tuple(
        Compared(f"{name}: {kind} is better than frozen", f"{name}, {reference}", f"{name}, frozen")
        for name in METHODS
        for kind, reference in zip(("soft", "hard"), list(REFERENCES)[1:], strict=True)
    ),
    apart=tuple(name for name in ROWS if ", beta " in name),
    more=frontiers,
    more_shown=frontiers_shown,
)

if __name__ == "__main__":
    main(CLAIM)
