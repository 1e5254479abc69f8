"""References that move, from a start with seven times the parameters that is as good as the world's model.

python benchmarks/claims/trust_region_larger.py
"""

from __future__ import annotations

from typing import Any

from engine import Row, main
from frontier import Sweep, swept_claim
from trust_region import BETAS, BOTH, METHODS

IMITATES: dict[str, Any] = {
    "method": "sft", "model": "128x4", "data": "world:demonstrations?count={count}&seed=0&writer=demonstrator",
    "steps": 1200, "count": 1200 * 32, "learning_rate": 0.002, "schedule": "cosine", "adam_beta2": 0.98,
    "warmup_ratio": 0.02,
}  # fmt: skip
"""How the start is made: it imitates the demonstrator, as the world's model does."""
DPO = {**METHODS["DPO"], "start": IMITATES}
FROZEN = "DPO, frozen"
SWEPT = {"DPO, larger model": Sweep(DPO, BOTH, BETAS, FROZEN)}
ROWS = {
    "the start": Row({"method": "start", "start": IMITATES}),
    FROZEN: Row(DPO, {"learning_rate": 0.001, "beta": 1.0}),
}

CLAIM = swept_claim("trust_region_larger", ROWS, (), SWEPT)

if __name__ == "__main__":
    main(CLAIM)
