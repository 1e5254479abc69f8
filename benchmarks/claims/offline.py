"""Conditional alignment against filtering, regression and PPO, and what each of them computes.

python benchmarks/claims/offline.py
"""

from __future__ import annotations

from statistics import median

import pages
from engine import ONLINE, START, Book, Claim, Compared, Found, Row, filled, main

OFFLINE = {"data": "world:rankings?count={count}&responses=2&seed={seed}"}
PPO = Row(
    {
        "method": "ppo", **ONLINE, "kl_target": 0.0, "batch_size": 64, "round_prompts": 64, "round_passes": 2,
        "count": 2048,
    },
    {**START, "kl_coef": 0.03},
)  # fmt: skip
CA = {"method": "ca", "condition": " score {reward}", **OFFLINE}
LONG = {"steps": 256}

ROWS = {
    "the start model": Row({"method": "start"}),
    "SFT on the better one": Row({"method": "sft", **OFFLINE}, START),
    "FA": Row({"method": "fa", **OFFLINE}, START),
    "RWR": Row({"method": "rwr", **OFFLINE}, {**START, "beta": 1.0}),
    "CA": Row(CA, {"learning_rate": 0.01}),
    "FA, four passes": Row({"method": "fa", **OFFLINE, **LONG}, START),
    "RWR, four passes": Row({"method": "rwr", **OFFLINE, **LONG}, {**START, "beta": 1.0}),
    "CA, four passes": Row({**CA, **LONG}, {"learning_rate": 0.01}),
    "PPO": PPO,
}


def costs(found: Found, book: Book) -> Found:
    """FLOPs of one run of each row, at its chosen settings."""
    flops = {}
    for name in list(ROWS)[1:]:
        own = filled(book.settings(name, book.place(name)), book.seeds[0], book.small)
        flops[name] = book.journal.run({**own, "count_flops": True}, book.seeds[0])["flops"]
    return {"flops": flops}


def costs_shown(found: Found) -> str:
    flops = found["flops"]
    seconds = {
        name: median(run["seconds"] for run in row["runs"]) for name, row in found["rows"].items() if name in flops
    }
    return pages.table(
        ["row", "GFLOPs", "share of PPO's", "CPU seconds, median", "share of PPO's"],
        (
            [
                name, f"{flops[name] / 1e9:.0f}", f"{100 * flops[name] / flops['PPO']:.0f} %", f"{seconds[name]:.1f}",
                f"{100 * seconds[name] / seconds['PPO']:.0f} %",
            ]
            for name in flops
        ),
    )  # fmt: skip


CLAIM = Claim(
    "offline",
    ROWS,
    (
        Compared("CA is better than FA", "CA, four passes", "FA, four passes"),
        Compared("CA is better than RWR", "CA, four passes", "RWR, four passes"),
        Compared("CA is as good as PPO (within 0.05)", "CA, four passes", "PPO", within=0.05),
        Compared("the best offline method is as good (within 0.05)", "RWR, four passes", "PPO", within=0.05),
        Compared("the same in one pass (within 0.05)", "RWR", "PPO", within=0.05),
        Compared("CA is better than the start", "CA, four passes", "the start model"),
    ),
    more=costs,
    more_shown=costs_shown,
)

if __name__ == "__main__":
    main(CLAIM)
