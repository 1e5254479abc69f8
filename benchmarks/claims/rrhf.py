"""RRHF against PPO, SFT and best-of-n; where its responses come from; the ranking loss; reward hacking; accuracy.

python benchmarks/claims/rrhf.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import pages
from engine import ONLINE, START, Book, Claim, Compared, Found, Row, filled, main
from oaif import NEAR
from offline import PPO

from trueup.config.resolve import resolve
from trueup.training.plan import plan

OWN = {"prompts": ONLINE["prompts"], "annotator": "world:gold", "sampler.max_new_tokens": 40}
FOUR = {"method": "rrhf", "batch_size": 16}
"""Prompts of a step, each with four responses."""
PROVIDED = "world:rankings?count={count}&responses=%d&seed={seed}"
PROXY = {"annotator": "world:proxy"}


def rrhf(**given: Any) -> Row:
    choose = given.pop("choose", "gold")
    return Row({**FOUR, **given}, START, choose=choose)


def beams(decode: str, provided: int = 0, **given: Any) -> dict[str, Any]:
    """Responses by beam search, beside those of the data."""
    own = {**OWN, "sampler.decode": decode, "sampler.responses": 4 - provided, **given}
    return {**own, "data": PROVIDED % provided, "merge_prompts": True} if provided else own


SAMPLES = {**beams("sample"), "sampler.temperature": 1.0}
ONLINE_4 = {**ONLINE, "sampler.responses": 4}
BEAMS_ONLINE = {**beams("diverse-beam"), "source": "online", "round_prompts": 0}
PAIRS = {
    "data": "world:pairs?count=2048&seed={seed}", "eval_data": "world:pairs?count=512&seed=1000003",
    "allow_overlap": True,
}  # fmt: skip

ROWS = {
    "the start model": Row({"method": "start"}),
    "best of 4, untrained": Row({"method": "none", "best_of": 4}),
    "SFT on the best of 4": Row({"method": "sft", "batch_size": 16, "data": PROVIDED % 4}, START),
    "PPO": PPO,
    "P": rrhf(data=PROVIDED % 4),
    "D (IP-1)": rrhf(**beams("diverse-beam")),
    "DP": rrhf(**beams("diverse-beam", 2)),
    "BP": rrhf(**beams("beam", 2)),
    "samples": rrhf(**SAMPLES),
    "IP-2": rrhf(**BEAMS_ONLINE, count=512),
    "IP-3": rrhf(**BEAMS_ONLINE, count=336, steps=63),
    "OP-8": rrhf(**ONLINE_4, **{"sampler.resync": 8}),
    "DP, no ranking loss": rrhf(**beams("diverse-beam", 2), rank_weight=0.0),
    "samples, no ranking loss": rrhf(**SAMPLES, rank_weight=0.0),
    "OP-8, proxy": rrhf(**{**ONLINE_4, **PROXY, "sampler.resync": 8}, choose="proxy"),
    "OP-8 + KL, proxy": rrhf(**{**ONLINE_4, **PROXY, "sampler.resync": 8}, reward_kl=0.1, choose="proxy"),
    "a reward model": Row({"method": "reward-model", **PAIRS, "steps": 256, "learning_rate": 0.003}),
}

HELD = ("weights", "gradients", "optimizer", "reference")


def memory(found: Found, book: Book) -> Found:
    """What a run holds of models, as `trueup plan` counts it."""
    held = {}
    settings = {"RRHF": book.settings("P", {}), "PPO": PPO.settings, "DPO": {"method": "dpo", **NEAR}}
    for name, own in settings.items():
        with TemporaryDirectory() as scratch:
            given = filled(own, 1, 16)
            place = {"model": "world", "output": f"{scratch}/run", "threads": 1}
            lines = list(plan(resolve(given.pop("method"), overrides={**given, **place}), 0))
        sizes = {line.split()[0]: float(line.split()[1]) for line in lines if line.split()[0] in HELD}
        held[name] = sizes | {"sum": sum(sizes.values())}
    return {"megabytes": held}


def memory_shown(found: Found) -> str:
    held = found["megabytes"]
    return pages.table(
        ["MB held", *HELD, "sum", "against RRHF"],
        (
            [
                name,
                *(f"{one[part]:.1f}" for part in (*HELD, "sum")),
                f"{one['sum'] / held['RRHF']['sum']:.2f}",
            ]
            for name, one in held.items()
        ),
    )


CLAIM = Claim(
    "rrhf",
    ROWS,
    (
        Compared("RRHF is as good as PPO (within 0.05)", "DP", "PPO", within=0.05),
        Compared("RRHF is better than imitating the best", "P", "SFT on the best of 4"),
        Compared(
            "and as the best of 4 samples (within 0.05)",
            "DP",
            "best of 4, untrained",
            within=0.05,
        ),
        Compared("own responses are better than those of the data", "D (IP-1)", "P"),
        Compared("both are better than those of the data", "DP", "P"),
        Compared("diverse beams are as good as beams (within 0.05)", "DP", "BP", within=0.05),
        Compared("a second round of sampling helps", "IP-2", "D (IP-1)"),
        Compared("a third one helps", "IP-3", "IP-2"),
        Compared("fresh samples are better than those of the start", "OP-8", "samples"),
        Compared("the ranking loss helps, DP", "DP", "DP, no ranking loss"),
        Compared("the ranking loss helps, samples", "samples", "samples, no ranking loss"),
        Compared("the ranking loss makes a better judge of pairs", "DP", "DP, no ranking loss", "accuracy"),
        Compared("without KL an imperfect reward is gained more", "OP-8, proxy", "OP-8 + KL, proxy", "proxy"),
        Compared("and the true one less", "OP-8 + KL, proxy", "OP-8, proxy"),
        Compared("RRHF judges pairs better than its start model", "P", "the start model", "accuracy"),
        Compared("and worse than a reward model", "a reward model", "P", "accuracy"),
    ),
    columns=("gold", "kl", "words", "proxy", "accuracy"),
    more=memory,
    more_shown=memory_shown,
)

if __name__ == "__main__":
    main(CLAIM)
