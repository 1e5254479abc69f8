"""References that move in runs four times as long, in which no pair comes twice.

python benchmarks/claims/trust_region_fresh.py
"""

from __future__ import annotations

from engine import Row, main
from frontier import Sweep, references, swept_claim
from oaif import SEARCH
from trust_region import BETAS, METHODS

MOVING = references((0.6, 16), (0.6, 64), (1.0, 64))
SWEPT = {
    "DPO, 256 steps of fresh pairs": Sweep(
        {**METHODS["DPO"], "steps": 256, "count": 256 * 32}, MOVING, BETAS, "DPO, frozen"
    )
}


CLAIM = swept_claim("trust_region_fresh", {"DPO, frozen": Row(METHODS["DPO"], SEARCH)}, (), SWEPT)

if __name__ == "__main__":
    main(CLAIM)
