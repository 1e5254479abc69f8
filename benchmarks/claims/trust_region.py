"""References that move against the frozen one, tuned side by side, and over all of beta.

python benchmarks/claims/trust_region.py
"""

from __future__ import annotations

from typing import Any

from engine import Compared, Row, main
from frontier import Sweep, references, swept_claim
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


CLAIM = swept_claim(
    "trust_region",
    ROWS,
    tuple(
        Compared(f"{name}: {kind} is better than frozen", f"{name}, {reference}", f"{name}, frozen")
        for name in METHODS
        for kind, reference in zip(("soft", "hard"), list(BOTH)[1:], strict=True)
    ),
    SWEPT,
)

if __name__ == "__main__":
    main(CLAIM)
