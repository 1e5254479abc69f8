"""Random batches for the papers' formulas, and the derivatives of a formula by central differences."""

import copy
import random
from collections.abc import Callable

from support.formulas import Batch

STEP = 2e-4  # in nats, of the differences


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
    targets = [chance.randrange(len(made)) for _ in pairs]
    others = random.Random(str(made))  # of numbers of its own: those above stay what they were
    weights = [round(others.uniform(0.2, 1.6), 2) for _ in made]
    return {"rows": made, "pairs": pairs, "targets": targets, "weights": weights}


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
