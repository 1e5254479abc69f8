"""Point-wise DPO and ULMA against SFT, unlikelihood, KTO, DPO and PPO; grades; better demonstrations.

python benchmarks/claims/pointwise.py
"""

from __future__ import annotations

from engine import START, Claim, Compared, Row, main
from oaif import NEAR, SEARCH
from offline import PPO

THUMBS = {"data": "world:points?count={count}&seed={seed}", "batch_size": 64}
GRADES = {"data": "world:scores?count={count}&seed={seed}", "batch_size": 64}
EXPERT = "world:demonstrations?count={count}&seed={seed}"
MIXED = {
    "data": [EXPERT, "world:points?count={count}&seed=9{seed}"],
    "count": 2048,
    "batch_size": 64,
}
GOOD = 0.7
"""Grade from which a response is imitated by ULMA: one of ten is better."""

ROWS = {
    "SFT on thumbs up": Row({"method": "fa", **THUMBS}, START),
    "unlikelihood": Row({"method": "unlikelihood", **THUMBS}, {**START, "weight": 1.0}),
    "KTO": Row({"method": "kto", **THUMBS, "desirable_weight": 1.2}, SEARCH),
    "point-wise DPO": Row({"method": "pointwise-dpo", **THUMBS}, SEARCH),
    "ULMA": Row({"method": "ulma", **THUMBS, "demonstration_from": 1.0}, SEARCH),
    "point-wise DPO, grades": Row({"method": "pointwise-dpo", "continuous": True, **GRADES}, {**START, "beta": 0.1}),
    "ULMA, grades": Row(
        {"method": "ulma", "continuous": True, **GRADES, "demonstration_from": GOOD},
        {**START, "beta": 0.1},
    ),
    "DPO": Row({"method": "dpo", **NEAR}, SEARCH),
    "PPO": PPO,
    "SFT on the expert's": Row({"method": "sft", "data": EXPERT}, START),
    "ULMA, the expert's": Row({"method": "ulma", **MIXED}, SEARCH),
}

BASELINES = ("SFT on thumbs up", "unlikelihood", "KTO", "point-wise DPO", "DPO", "PPO")
CLAIM = Claim(
    "pointwise",
    ROWS,
    (
        *(Compared(f"ULMA is better than {name}", "ULMA", name) for name in BASELINES),
        Compared("point-wise DPO is as good as DPO (within 0.05)", "point-wise DPO", "DPO", within=0.05),
        Compared("grades say more than thumbs: point-wise DPO", "point-wise DPO, grades", "point-wise DPO"),
        Compared("grades say more than thumbs: ULMA", "ULMA, grades", "ULMA"),
        Compared("better demonstrations help ULMA", "ULMA, the expert's", "ULMA"),
        Compared("where ULMA is better than SFT on them", "ULMA, the expert's", "SFT on the expert's"),
    ),
)

if __name__ == "__main__":
    main(CLAIM)
