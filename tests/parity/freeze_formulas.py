"""Freeze what the papers' formulas give: `python tests/parity/freeze_formulas.py` writes one file for each feedback.

Random batches, the loss of each example and of the step (formulas.py), and the derivative of the step's loss in every
token's log-probability by central differences. The standard library suffices.
"""

import copy
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from parity import formulas
from parity.formulas import Answer, Batch
from parity.frozen import FOLDER, write_cases

BATCHES = 20
STEP = 2e-4
"""In nats, of the differences."""


def rows(chance: random.Random, count: int) -> list[dict[str, list[float]]]:
    """Responses of 1 to 4 tokens; log-probabilities of four decimals."""

    def tokens(length: int) -> list[float]:
        return [round(chance.uniform(-4, -0.1), 4) for _ in range(length)]

    lengths = [chance.randint(1, 4) for _ in range(count)]
    return [{"policy": tokens(length), "reference": tokens(length)} for length in lengths]


def pairs(chance: random.Random) -> Batch:
    """Up to four pairs among a few rows, some of them unsure; a row may stand in several."""
    made = rows(chance, chance.randint(2, 5))
    pairs = []
    for _ in range(chance.randint(1, 4)):
        chosen, rejected = chance.sample(range(len(made)), 2)
        pairs.append([chosen, rejected, chance.choice([1.0, 1.0, round(chance.uniform(0.51, 0.99), 2)])])
    return {"rows": made, "pairs": pairs, "targets": [chance.randrange(len(made)) for _ in pairs]}


def points(chance: random.Random) -> Batch:
    """Responses with a thumb up or down, in every second batch with graded labels too."""
    made = rows(chance, chance.randint(1, 6))
    choices = [0.0, 1.0, *((round(chance.random(), 2) for _ in range(2)) if chance.random() < 0.5 else ())]
    labels = [chance.choice(choices) for _ in made]
    shown = [label == 1 and chance.random() < 0.5 for label in labels]
    others = rows(chance, chance.randint(1, 5))
    return {"rows": made, "labels": labels, "demonstrations": shown, "mismatched": others}


def rankings(chance: random.Random) -> Batch:
    """One to three groups; scores of one decimal, so that some are equal."""
    sizes = [chance.randint(2, 4) for _ in range(chance.randint(1, 3))]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return {
        "rows": rows(chance, sum(sizes)),
        "groups": [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)],
        "scores": [chance.randint(-3, 3) / 10 for _ in range(sum(sizes))],
        "prompts": [chance.randint(1, 6) for _ in sizes],
    }


def rewards(chance: random.Random) -> Batch:
    made = rows(chance, chance.randint(2, 5))
    return {"rows": made, "rewards": [round(chance.gauss(1, 3), 2) for _ in made]}


Case = tuple[Callable[..., Answer], dict[str, Any]]
BOTH: tuple[dict[str, Any], ...] = (
    {"beta": 0.1, "continuous": False, "per_token": False, "log_z": 0.0},
    {"beta": 1.0, "continuous": False, "per_token": True, "log_z": 0.3},
    {"beta": 0.1, "continuous": True, "per_token": True, "log_z": 0.0},
    {"beta": 0.5, "continuous": True, "per_token": False, "log_z": -0.2},
)
FILES: dict[str, tuple[Callable[[random.Random], Batch], tuple[Case, ...]]] = {
    "pairs": (
        pairs,
        (
            (formulas.dpo, {"beta": 0.1, "label_smoothing": 0.0}),
            (formulas.dpo, {"beta": 1.0, "label_smoothing": 0.2}),
            (formulas.robust_dpo, {"beta": 0.1, "label_smoothing": 0.1}),
            (formulas.robust_dpo, {"beta": 1.0, "label_smoothing": 0.3}),
            (formulas.ipo, {"beta": 0.1, "per_token": False}),
            (formulas.ipo, {"beta": 0.5, "per_token": True}),
            (formulas.slic, {"beta": 0.05}),
            (formulas.slic, {"beta": 0.5}),
            (formulas.slic_hf, {"margin": 1.0, "regularization": 0.1}),
            (formulas.slic_hf, {"margin": 3.0, "regularization": 0.5}),
            (formulas.bradley_terry, {"margin": 0.0, "centring": 0.0}),
            (formulas.bradley_terry, {"margin": 1.0, "centring": 0.01}),
            (formulas.paired_kto, {"beta": 0.1}),
            (formulas.paired_kto, {"beta": 1.0}),
        ),
    ),
    "points": (
        points,
        (
            *((formulas.pointwise_dpo, settings) for settings in BOTH),
            *((formulas.ulma, settings) for settings in BOTH),
            (formulas.ulma_of_authors, {"beta": 0.1, "continuous": False, "log_z": 0.0}),
            (formulas.ulma_of_authors, {"beta": 1.0, "continuous": True, "log_z": 0.3}),
            (formulas.kto, {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
            (formulas.kto, {"beta": 1.0, "desirable_weight": 1.33, "undesirable_weight": 0.5}),
            (formulas.unlikelihood, {"weight": 1.0}),
            (formulas.unlikelihood, {"weight": 0.3}),
            (formulas.unlikelihood_ascent, {"weight": 1.0}),
            (formulas.unlikelihood_ascent, {"weight": 0.3}),
            (formulas.unlikelihood_of_authors, {}),
        ),
    ),
    "rankings": (
        rankings,
        (
            (formulas.rrhf, {"rank_weight": 1.0, "sft_weight": 1.0}),
            (formulas.rrhf, {"rank_weight": 10.0, "sft_weight": 0.5}),
            (formulas.rrhf_of_authors, {"rank_weight": 1.0, "sft_weight": 1.0}),
            (formulas.rrhf_of_authors, {"rank_weight": 100.0, "sft_weight": 0.5}),
        ),
    ),
    "rewards": (
        rewards,
        (
            (formulas.sft, {"per_token": True}),
            (formulas.sft, {"per_token": False}),
            (formulas.rwr, {"beta": 1.0, "max_weight": 20.0, "per_token": True}),
            (formulas.rwr, {"beta": 0.3, "max_weight": 5.0, "per_token": False}),
        ),
    ),
}


def derivative(step_loss: Callable[[Batch], float], batch: Batch, row: int, token: int, size: float) -> float:
    """By the differences of four neighbours; exact up to size^4."""

    def moved(times: int) -> float:
        other = copy.deepcopy(batch)
        other["rows"][row]["policy"][token] += times * size
        return step_loss(other)

    return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * size)


def gradient(step_loss: Callable[[Batch], float], batch: Batch) -> list[list[float]]:
    """The derivative in every token of every row.

    Raises:
        ValueError: a token is so near a corner of a hinge that differences of two sizes disagree.
    """
    found = []
    for row, tokens in enumerate(batch["rows"]):
        values = [derivative(step_loss, batch, row, token, STEP) for token in range(len(tokens["policy"]))]
        for token, value in enumerate(values):
            if abs(value - derivative(step_loss, batch, row, token, 2 * STEP)) > 1e-7 * max(1, abs(value)):
                raise ValueError(f"row {row}, token {token}: a corner is near; take another seed")
        found.append([round(value, 9) for value in values])
    return found


def output(case: Case, number: int, batch: Batch) -> dict[str, Any]:
    formula, settings = case
    losses, step = formula(batch, **settings)
    return {
        "formula": formula.__name__,
        "settings": settings,
        "batch": number,
        "losses": losses,
        "step": step,
        "gradient": gradient(lambda given: formula(given, **settings)[1], batch),
    }


def freeze(folder: Path = FOLDER) -> None:
    """Write the files into a folder."""
    for seed, (name, (draw, cases)) in enumerate(FILES.items()):
        chance = random.Random(seed)
        batches = [draw(chance) for _ in range(BATCHES)]
        outputs = [output(case, number, batch) for case in cases for number, batch in enumerate(batches)]
        facts = {"made_by": "tests/parity/freeze_formulas.py", "seed": seed}
        write_cases(folder / f"{name}.json", facts, batches=batches, outputs=outputs)


if __name__ == "__main__":
    freeze()
