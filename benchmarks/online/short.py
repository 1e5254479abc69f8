"""An annotator steered by an instruction: helpful, helpful and short, helpful and very short.

    python benchmarks/online/short.py --seeds 1 2 3

OAIF's control (Guo et al., 2024, section 4.6) in the built-in world: the same policy, prompts and settings, another
instruction. Lengths are words; gold and helpfulness are the world's, whatever the annotator was told.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

import trueup
from trueup.demo import Policy
from trueup.feedback.records import scores_of
from trueup.world.generate import prompts
from trueup.world.language import aspects
from trueup.world.model import world_model_path

BATCH, STEPS, HELD_OUT, TEST_SEED, RATE = 32, 128, 512, 1_000_003, 1e-3
INSTRUCTIONS = ("helpful", "helpful and short", "helpful and very short")


def judged(policy: Policy) -> dict[str, float]:
    """Means over held-out prompts."""
    held_out = prompts(HELD_OUT, TEST_SEED)
    made = policy.judge(held_out, seed=1)
    texts = [one.responses[0].content for one in made]
    seen = [aspects(prompt, text) for prompt, text in zip(held_out, texts, strict=True)]
    return {
        "gold": fmean(scores_of(made)),
        "helpfulness": fmean(one.helpfulness for one in seen),
        "words": fmean(len(text.split()) for text in texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("short.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {"start": judged(Policy(world_model_path()))}
    with tempfile.TemporaryDirectory() as scratch:
        for instruction in INSTRUCTIONS:
            found = []
            for seed in given.seeds:
                result = trueup.train(
                    trueup.methods.oaif(beta=0.1), model="world", output=Path(scratch) / f"{instruction} {seed}",
                    source="online", prompts=f"world:prompts?count={BATCH * STEPS}&seed={seed}", seed=seed,
                    annotator={"kind": "world", "reward": "gold", "instruction": instruction},
                    sampler={"responses": 2, "temperature": 1.0, "max_new_tokens": 40},
                    batch_size=BATCH, steps=STEPS, learning_rate=RATE, quiet=True,
                )  # fmt: skip
                found.append(judged(Policy(result.model)))
            rows[instruction] = {
                key: {
                    "mean": fmean(one[key] for one in found),
                    "std_over_seeds": stdev(one[key] for one in found),
                }
                for key in found[0]
            }
            print(
                instruction,
                {key: round(value["mean"], 3) for key, value in rows[instruction].items()},
                flush=True,
            )
    given.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
