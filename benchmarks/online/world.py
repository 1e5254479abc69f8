"""Online against offline feedback in the built-in world, at equal budgets, over several seeds.

    python benchmarks/online/world.py --seeds 1 2 3

Offline: pairs by the world's demonstrator, whom the start model was trained to imitate, or by its expert, a policy that
is further from it. Online: pairs of the policy's own responses. The same number of pairs, the same annotator (the gold
reward) and the same steps. Learning rate and beta are chosen on seed 0, among the same ones for each row of the table;
seed 0 is not reported. Policy gradients score two responses to each prompt where the others compare them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

import trueup
from trueup.demo import Policy
from trueup.estimates import mean
from trueup.feedback.records import scores_of
from trueup.methods import Method
from trueup.world.generate import prompts
from trueup.world.model import world_model_path

BATCH, HELD_OUT, TEST_SEED = 32, 512, 1_000_003
RATES = (3e-4, 1e-3, 3e-3)
BETAS = (0.1, 0.5)
KL = 0.05
OFFLINE = {"data": "world:pairs?count={count}&seed={seed}"}
EXPERT = {"data": "world:pairs?count={count}&seed={seed}&writer=expert"}
ONLINE = {
    "source": "online", "prompts": "world:prompts?count={count}&seed={seed}", "annotator": "world:gold",
    "sampler.responses": 2, "sampler.temperature": 1.0, "sampler.max_new_tokens": 40,
}  # fmt: skip

Made = tuple[Method, Mapping[str, Any]]
"""A method, and the settings that say where its feedback is from."""


@dataclass(frozen=True)
class Outcome:
    """Of one run, on held-out prompts."""

    gold: float
    tokens: float
    kl: float


def rows() -> dict[str, tuple[Callable[[float], Made], tuple[float, ...]]]:
    """By the row's name, what is run for a beta, and the betas to try."""
    objectives = {"dpo": trueup.methods.dpo, "ipo": trueup.methods.ipo, "slic": trueup.methods.slic}
    made: dict[str, tuple[Callable[[float], Made], tuple[float, ...]]] = {}
    for name, method in objectives.items():
        made[f"{name}, offline"] = (lambda beta, method=method: (method(beta=beta), OFFLINE), BETAS)
        made[f"{name}, offline, expert"] = (lambda beta, method=method: (method(beta=beta), EXPERT), BETAS)
        made[f"{name}, online"] = (
            lambda beta, name=name: (trueup.methods.oaif(objective=name, beta=beta), ONLINE), BETAS
        )  # fmt: skip
    made["ppo"] = (
        lambda beta: (
            trueup.methods.ppo(kl_coef=beta, kl_target=0.0),
            {**ONLINE, "round_prompts": 2 * BATCH, "round_passes": 2},
        ),
        (KL,),
    )
    made["reinforce"] = (lambda beta: (trueup.methods.reinforce(kl_coef=beta), ONLINE), (KL,))
    made["rloo"] = (lambda beta: (trueup.methods.rloo(kl_coef=beta), ONLINE), (KL,))
    return made


def run(made: Made, rate: float, seed: int, steps: int, folder: Path) -> Outcome:
    """Train once and judge."""
    method, settings = made
    count = BATCH * steps
    filled = {
        key: value.format(seed=seed, count=count) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    passes = int(filled.get("round_passes", 1))  # over the same prompts, so that they take as many steps more
    result = trueup.train(
        method, model="world", output=folder, seed=seed, batch_size=BATCH, learning_rate=rate, schedule="linear",
        steps=passes * steps, quiet=True, **filled,
    )  # fmt: skip
    start, policy = Policy(world_model_path()), Policy(result.model)
    judged = policy.judge(prompts(HELD_OUT, TEST_SEED), seed=1)
    ends = set(policy.loaded.end_ids)
    words = [sum(token not in ends for token in one.responses[0].tokens or ()) for one in judged]
    return Outcome(fmean(scores_of(judged)), fmean(words), policy.kl_from(start, judged).value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=128, help="batches of 32 prompts")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to try")
    parser.add_argument("--only", nargs="+", help="rows to make")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("world.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = mean(scores_of(Policy(world_model_path()).judge(prompts(HELD_OUT, TEST_SEED), seed=1)))
    found: dict[str, Any] = {"start": {"gold": start.value, "standard_error": start.error}}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (make, betas) in rows().items():
            if given.only and name not in given.only:
                continue
            folder = Path(scratch) / name
            tried = {
                (rate, beta): run(make(beta), rate, 0, given.steps, folder / f"{rate} {beta}")
                for rate in given.rates
                for beta in betas
            }
            rate, beta = max(tried, key=lambda one: tried[one].gold)
            made = [run(make(beta), rate, seed, given.steps, folder / f"seed {seed}") for seed in given.seeds]
            golds = [one.gold for one in made]
            found[name] = {
                "learning_rate": rate,
                "beta": beta,
                "tried_on_seed_0": {f"{one[0]:g}, {one[1]:g}": round(tried[one].gold, 4) for one in tried},
                "gold": {"mean": fmean(golds), "std_over_seeds": stdev(golds)},
                "tokens": fmean(one.tokens for one in made),
                "kl": fmean(one.kl for one in made),
                "runs": [asdict(one) for one in made],
            }
            print(
                f"{name:14} {rate:g}, {beta:g}: gold {fmean(golds):.3f} +- {stdev(golds):.3f} over seeds",
                flush=True,
            )
    before = json.loads(given.output.read_text()) if given.only and given.output.exists() else {}
    given.output.write_text(json.dumps(before | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
