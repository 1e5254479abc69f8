"""References that move against the frozen one, tuned side by side, and over all of beta.

python benchmarks/claims/trust_region.py
"""

from __future__ import annotations

from typing import Any

import pages
from engine import Claim, Compared, Found, Row, main
from frontier import Sweep, frontiers, references, rows_of, shown
from oaif import FAR, NEAR, SEARCH
from pointwise import ROWS as POINTWISE

BETAS = (0.3, 1.0, 3.0, 10.0)
METHODS: dict[str, dict[str, Any]] = {
    "DPO": {"method": "dpo", **NEAR},
    "IPO": {"method": "ipo", **NEAR},
    "KTO": dict(POINTWISE["KTO"].settings),
}
BOTH = references((0.6, 16), (1.0, 16))
FURTHER = references((0.6, 16), (1.0, 16), (0.6, 4), (1.0, 4), (0.2, 4))
LONGER = references((0.6, 16), (1.0, 64))
PROXY = {"method": "dpo", "data": f"{NEAR['data']}&reward=proxy"}

SWEPT = {
    "DPO": Sweep(METHODS["DPO"], FURTHER, BETAS, "DPO, frozen"),
    "IPO": Sweep(METHODS["IPO"], BOTH, (0.03, 0.1, 0.3, 1.0), "IPO, frozen"),
    "KTO": Sweep(METHODS["KTO"], BOTH, BETAS, "KTO, frozen"),
    "DPO, proxy": Sweep(PROXY, BOTH, BETAS, "DPO, frozen"),
    "DPO, expert's pairs": Sweep({"method": "dpo", **FAR}, BOTH, BETAS, "DPO, frozen"),
    "DPO, 256 steps": Sweep({**METHODS["DPO"], "steps": 256}, LONGER, BETAS, "DPO, frozen"),
}
ROWS = {
    f"{name}, {reference}": Row({**settings, **moves}, SEARCH)
    for name, settings in METHODS.items()
    for reference, moves in BOTH.items()
}


def more_shown(found: Found) -> str:
    return f"{shown(SWEPT, found)}Every run that was swept:\n\n{pages.row_table(CLAIM, found, CLAIM.apart)}\n"


CLAIM = Claim(
    "trust_region",
    {**ROWS, **rows_of(SWEPT)},
    tuple(
        Compared(f"{name}: {kind} is better than frozen", f"{name}, {reference}", f"{name}, frozen")
        for name in METHODS
        for kind, reference in zip(("soft", "hard"), list(BOTH)[1:], strict=True)
    ),
    columns=("gold", "kl", "words", "proxy"),
    apart=tuple(rows_of(SWEPT)),
    more=lambda found, book: frontiers(SWEPT, book),
    more_shown=more_shown,
)

if __name__ == "__main__":
    main(CLAIM)
