"""Online against offline feedback, for DPO, IPO and SLiC; weaker annotators; control by instruction.

python benchmarks/claims/oaif.py
"""

from __future__ import annotations

from typing import Any

from engine import ONLINE, START, Claim, Compared, Row, main
from offline import PPO

NEAR = {"data": "world:pairs?count={count}&seed={seed}"}
FAR = {"data": "world:pairs?count={count}&seed={seed}&writer=expert"}
SEARCH = {**START, "beta": 0.3}
NAMES = {"dpo": "DPO", "ipo": "IPO", "slic": "SLiC"}


def reward_model(**given: str) -> dict[str, Any]:
    data = "&".join([NEAR["data"], *(f"{name}={value}" for name, value in given.items())])
    return {"method": "reward-model", "data": data, "learning_rate": 0.003, "steps": 128}


ROWS = {"the start model": Row({"method": "start"})}
for key, name in NAMES.items():
    ROWS[f"{name}, offline"] = Row({"method": key, **NEAR}, SEARCH)
    ROWS[f"{name}, online"] = Row({"method": "oaif", "objective": key, **ONLINE}, SEARCH)
ROWS |= {
    "DPO, offline, expert's pairs": Row({"method": "dpo", **FAR}, SEARCH),
    "PPO": PPO,
    "RLHF": Row({**PPO.settings, "reward_from": reward_model()}, PPO.search),
    "RLAIF, 1 in 10 wrong": Row({**PPO.settings, "reward_from": reward_model(noise="0.1")}, PPO.search),
    "DPO, offline, 3 in 10 wrong": Row({"method": "dpo", "data": f"{NEAR['data']}&noise=0.3"}, like="DPO, offline"),
    **{
        f"DPO, online, {tenths} in 10 wrong": Row(
            {"method": "oaif", "objective": "dpo", **ONLINE, "annotator.noise": tenths / 10}, like="DPO, online"
        )
        for tenths in (1, 3)
    },
    **{
        f"DPO, online, {told}": Row(
            {"method": "oaif", "objective": "dpo", **ONLINE, "annotator.instruction": told}, like="DPO, online"
        )
        for told in ("helpful and short", "helpful and very short")
    },
}  # fmt: skip

WEAK, SHORT, VERY_SHORT = (
    "DPO, online, " + one for one in ("3 in 10 wrong", "helpful and short", "helpful and very short")
)
CLAIM = Claim(
    "oaif",
    ROWS,
    (
        *(
            Compared(f"{name}: online is better than offline", f"{name}, online", f"{name}, offline")
            for name in NAMES.values()
        ),
        Compared("DPO: online is better than a far policy's pairs", "DPO, online", "DPO, offline, expert's pairs"),
        Compared("a far policy's pairs are worse than a near one's", "DPO, offline", "DPO, offline, expert's pairs"),
        Compared("online DPO is better than RLHF", "DPO, online", "RLHF"),
        Compared("and of an AI than RLAIF", "DPO, online, 1 in 10 wrong", "RLAIF, 1 in 10 wrong"),
        Compared("of a weak annotator, online is better than offline", WEAK, "DPO, offline, 3 in 10 wrong"),
        Compared("a weak annotator still improves the policy", WEAK, "the start model"),
        Compared("told to prefer the short, responses are shorter", SHORT, "DPO, online", "less words"),
        Compared("the very short, shorter still", VERY_SHORT, SHORT, "less words"),
        Compared("which are still better than the start", VERY_SHORT, "the start model"),
    ),
)

if __name__ == "__main__":
    main(CLAIM)
