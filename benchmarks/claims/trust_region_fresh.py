"""References that move in runs four times as long, in which no pair comes twice.

python benchmarks/claims/trust_region_fresh.py
"""

from __future__ import annotations

import pages
from engine import Claim, Found, Row, main
from frontier import Sweep, frontiers, references, rows_of, shown
from oaif import SEARCH
from trust_region import BETAS, METHODS

MOVING = references((0.6, 16), (0.6, 64), (1.0, 64))
SWEPT = {
    "DPO, 256 steps of fresh pairs": Sweep(
        {**METHODS["DPO"], "steps": 256, "count": 256 * 32}, MOVING, BETAS, "DPO, frozen"
    )
}


def more_shown(found: Found) -> str:
    return f"{shown(SWEPT, found)}Every run that was swept:\n\n{pages.row_table(CLAIM, found, CLAIM.apart)}\n"


CLAIM = Claim(
    "trust_region_fresh",
    {"DPO, frozen": Row(METHODS["DPO"], SEARCH), **rows_of(SWEPT)},
    (),
    columns=("gold", "kl", "words", "proxy"),
    apart=tuple(rows_of(SWEPT)),
    more=lambda found, book: frontiers(SWEPT, book),
    more_shown=more_shown,
)

if __name__ == "__main__":
    main(CLAIM)
