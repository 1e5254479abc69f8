"""KTO on the same thumbs, sorted and shuffled: does the order of a file say anything of the model that comes out?

    python benchmarks/kto_order.py --output docs/results/kto_order.json

Of each run how often the implicit reward of a held-out desirable response is above that of an undesirable one (AUC);
and of one more that is trained in the order of the file, which no run is.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from scipy.stats import mannwhitneyu

import trueup
from trueup.demo import Policy
from trueup.evaluate.likelihoods import log_probs
from trueup.feedback.canonical import write_examples
from trueup.feedback.records import Example, Response
from trueup.sources import source as offline
from trueup.world.generate import examples
from trueup.world.model import world_model_path

PAIRS, HELD_OUT = 512, 512
SETTINGS: dict[str, Any] = {
    "model": "world", "batch_size": 16, "epochs": 1, "learning_rate": 3e-4, "beta": 0.5, "save_every": 10_000,
}  # fmt: skip


def unpaired(pairs: Iterable[Example], label: float) -> list[Example]:
    """The chosen or the rejected response of each pair, with a thumb."""
    found = []
    for pair in pairs:
        (compared,) = pair.comparisons
        content = pair.responses[compared.better if label else compared.worse].content
        found.append(Example(pair.prompt, (Response(content, label=label),)))
    return found


def nats(folder: Path, given: list[Example]) -> list[float]:
    policy = Policy(folder)
    return [sum(value for value, _ in row or ()) for row in log_probs(policy.model, policy.encoder, given)]


def main(
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each file.")] = 4,
) -> None:
    """Train on the sorted file and on shuffled ones."""
    torch.set_num_threads(1)
    made = examples("pairs", count=PAIRS + HELD_OUT, seed=7, noise=0.05)
    good, bad = (unpaired(made[PAIRS:], label) for label in (1.0, 0.0))
    before = [nats(world_model_path(), side) for side in (good, bad)]

    def trained(rows: list[Example], seed: int) -> float:
        with TemporaryDirectory() as scratch:
            data = Path(scratch) / "thumbs.jsonl"
            write_examples(data, rows)
            run = trueup.train("kto", data=data, output=Path(scratch) / "run", seed=seed, quiet=True, **SETTINGS)
            after = [nats(run.model, side) for side in (good, bad)]
        high, low = ([new - old for new, old in zip(*both, strict=True)] for both in zip(after, before, strict=True))
        return float(mannwhitneyu(high, low).statistic) / (len(high) * len(low))

    ordered = unpaired(made[:PAIRS], 1.0) + unpaired(made[:PAIRS], 0.0)  # all thumbs up before all thumbs down
    found = {
        "sorted": [trained(ordered, seed) for seed in range(seeds)],
        "shuffled": [trained(Random(seed).sample(ordered, len(ordered)), seed) for seed in range(seeds)],
    }
    with (
        mock.patch.object(offline, "order", lambda seed, epoch, size: tuple(range(size))),
        mock.patch.object(offline, "stratified", lambda places, strata: tuple(places)),
    ):
        unordered = trained(ordered, 0)
    means = {name: fmean(values) for name, values in found.items()}
    record = {
        "command": f"python benchmarks/kto_order.py --seeds {seeds}", "pairs": PAIRS, "settings": SETTINGS,
        "runs": found, "means": means, "difference": means["sorted"] - means["shuffled"],
        "standard error": (sum(stdev(values) ** 2 for values in found.values()) / seeds) ** 0.5,
        "in the order of the file": unordered,
    }  # fmt: skip
    print(json.dumps(record, indent=1))
    if output is not None:
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
