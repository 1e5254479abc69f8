"""What the programs of the claims share: runs in the built-in world, a journal, how settings are chosen, statistics.

A claim is a table of rows. A row is a configuration of `trueup.train`, and the settings that are searched for it. The
search goes over half decades (0.001, 0.003, 0.01, ...): from the setting at hand to the best of its neighbours, until
no neighbour is better, so that no end of a grid is ever chosen. What is compared is the mean less the standard
deviation over three seeds, which are not reported. The chosen setting is then run on the reported seeds, which give
the data, the sampling and the order; rows are compared seed by seed.

Every run is a line of the journal, under all that decides it: a program that is killed goes on where it was, and runs
that several claims need are made once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from tuning import Place, cautious, search
from verdicts import spread, verdict, wins

import trueup
from trueup.demo import TEST_SEED, Policy
from trueup.errors import TrueupError
from trueup.evaluate.likelihoods import log_probs
from trueup.feedback.records import Example, scores_of
from trueup.models.tokenizer import quiet_library
from trueup.world.generate import examples, prompts
from trueup.world.language import proxy
from trueup.world.model import make_tokenizer, world_config, world_model_path

ROOT = Path(__file__).parents[2]
TUNING = (11, 12, 13)
HOPELESS = 0.02
"""A setting that is so much worse than the best on the first tuning seed is not run on the other two."""
BASE: Mapping[str, Any] = {
    "batch_size": 32, "steps": 64, "schedule": "linear", "warmup_ratio": 0.0, "weight_decay": 0.0, "adam_beta2": 0.999,
}  # fmt: skip
ONLINE: Mapping[str, Any] = {
    "source": "online", "prompts": "world:prompts?count={count}&seed={seed}", "annotator": "world:gold",
    "sampler.responses": 2, "sampler.temperature": 1.0, "sampler.max_new_tokens": 40,
}  # fmt: skip
START: Mapping[str, Any] = {"learning_rate": 0.003}
MEASURES = {"gold": 3, "kl": 2, "words": 1, "proxy": 3, "accuracy": 3, "seconds": 1}
"""Of a run, and how many digits of each are shown."""

Found = dict[str, Any]
Perform = Callable[[dict[str, Any], int], Found]
"""Of settings and a seed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A configuration, and what is searched for it."""

    settings: Mapping[str, Any]
    """Of `trueup.train`, by name, over `BASE`. {seed} and {count}, by default batch_size * steps, are filled in.
    Beside them: `best_of`, without training; `reward_from`, the settings of a reward model that is trained first;
    `start`, those of the model that runs start from, itself trained from `untrained` weights, if not the world's."""
    search: Mapping[str, float] = field(default_factory=dict)
    """The settings that are searched, and where the search begins."""
    like: str | None = None
    """The row whose chosen settings this one takes, where it has none of its own."""
    choose: str = "gold"
    """The measure by which settings are chosen."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A sentence of a claim: that one row is better than another, or as good."""

    sentence: str
    one: str
    other: str
    by: str = "gold"
    """A measure, of which more is better; `less words` of which less is."""
    within: float | None = None
    """A difference below which both are as good; None where the one has to be better."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The rows that put a paper's claims to the test; what the page says of them is in `NAME.txt`."""

    name: str
    rows: Mapping[str, Row]
    compared: Sequence[Compared]
    columns: Sequence[str] = ("gold", "kl", "words")
    """The measures that the page shows of each row, every run of the first."""
    apart: Sequence[str] = ()
    """Rows that `more_shown` shows."""
    more: Callable[[Found, Book], Found] = lambda found, book: {}
    """Further figures, put into the result."""
    more_shown: Callable[[Found], str] = lambda found: ""
    """Further tables, of the result."""
    perform: Callable[[Path, int], Perform] = lambda folder, small: World(folder, 512 // small).perform
    """What makes a run and measures it, given a folder for what runs share and what a quick version divides by."""


def filled(settings: Mapping[str, Any], seed: int, small: int = 1) -> dict[str, Any]:
    """Settings of one run."""
    own = {**BASE, **settings}
    own["steps"] = max(2, own["steps"] // small)
    count = max(own["batch_size"], int(own.pop("count", own["batch_size"] * BASE["steps"])) // small)

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(one) for one in value]
        if isinstance(value, Mapping):
            return filled(value, seed, small)
        return value.replace("{seed}", str(seed)).replace("{count}", str(count)) if isinstance(value, str) else value

    return {name: fill(value) for name, value in own.items()}


class Journal:
    """Runs that were made, a line each; a line that was cut off by a kill is made again."""

    def __init__(self, path: Path, perform: Perform) -> None:
        self.path, self.perform = path, perform
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        end = text.rfind("\n") + 1
        if end < len(text):
            path.write_text(text[:end])
        lines = map(json.loads, text[:end].splitlines())
        self.runs: dict[str, Found] = {self._key(one["settings"], one["seed"]): one["found"] for one in lines}

    def run(self, settings: dict[str, Any], seed: int) -> Found:
        key = self._key(settings, seed)
        if key not in self.runs:
            found = {**self.perform(settings, seed), "commit": commit()}
            with self.path.open("a") as file:
                file.write(json.dumps({"settings": settings, "seed": seed, "found": found}) + "\n")
            self.runs[key] = found
        return self.runs[key]

    @staticmethod
    def _key(settings: dict[str, Any], seed: int) -> str:
        return json.dumps([settings, seed], sort_keys=True)


@cache
def commit() -> str:
    """The last one that changed the library; what was run with it is in the journal."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%H", "--", "src"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


@dataclass(slots=True)
class Book:
    """The rows of a claim, with what was chosen for them."""

    journal: Journal
    rows: Mapping[str, Row]
    seeds: Sequence[int]
    small: int = 1
    """Of a quick version: steps and data are divided by this, and nothing is searched."""
    chosen: dict[str, Place] = field(default_factory=dict)
    tried: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ended: dict[str, bool] = field(default_factory=dict)

    def settings(self, name: str, place: Mapping[str, float]) -> dict[str, Any]:
        row = self.rows[name]
        inherited = self.place(row.like) if row.like else {}
        return {**inherited, **row.settings, **place}

    def place(self, name: str) -> Place:
        """The settings that are chosen for a row."""
        row = self.rows[name]
        if name not in self.chosen:
            tried: list[dict[str, Any]] = []

            def score(place: Place, best: float) -> float:
                values: list[float] = []
                for seed in TUNING:
                    own = filled(self.settings(name, place), seed, self.small)
                    values.append(self.journal.run(own, seed).get(row.choose, -math.inf))
                    if values[0] < best - HOPELESS:
                        break
                tried.append({"at": place, "values": values, "score": cautious(values)})
                return cautious(values) if len(values) > 1 else -math.inf

            if self.small > 1 or not row.search:
                self.chosen[name], self.ended[name] = dict(row.search), True
            else:
                self.chosen[name], self.ended[name] = search(row.search, score)
            self.tried[name] = tried
        return self.chosen[name]

    def runs(self, name: str) -> list[Found]:
        """Of the reported seeds."""
        settings = self.settings(name, self.place(name))
        return [self.journal.run(filled(settings, seed, self.small), seed) for seed in self.seeds]


def flops_of(work: Callable[[], object]) -> int:
    """Of every product of matrices, attention in the sampler included."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def counted(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    counter = FlopCounterMode(display=False, custom_mapping={attention: counted})
    with counter:
        work()
    return int(counter.get_total_flops())


@cache
def start_model(folder: Path) -> Policy:
    return Policy(folder)


def untrained(shape: str, folder: Path) -> Path:
    """Write a model of the world's words with weights as they are drawn: 128x4 has 4 layers of width 128."""
    hidden, layers = map(int, shape.split("x"))
    tokenizer = make_tokenizer()
    config = world_config(tokenizer)
    wider = hidden / config.hidden_size
    config.update({
        "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": int(config.intermediate_size * wider),
        "head_dim": hidden // config.num_attention_heads, "initializer_range": config.initializer_range / wider**0.5,
    })  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
    with quiet_library():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def held_out_pairs(count: int) -> tuple[Example, ...]:
    return examples("pairs", count=count, seed=TEST_SEED)


@dataclass(slots=True)
class World:
    """Runs `trueup.train` and measures what came of it on held-out prompts and pairs."""

    folder: Path
    """Of what several runs share: reward models, and starts that are not the world's model."""
    held_out: int = 512

    def perform(self, settings: dict[str, Any], seed: int) -> Found:
        own = dict(settings)
        beside = ("method", "best_of", "reward_from", "start")
        method, best_of, before, other = (own.pop(one, None) for one in beside)
        model = self._trained(other, 0) if other else world_model_path()
        start = start_model(model)
        if method == "start":
            return self.measured(start, start)
        if best_of:
            sampled = [start.judge(prompts(self.held_out, TEST_SEED), seed=100 * seed + n) for n in range(best_of)]
            golds = [max(one) for one in zip(*map(scores_of, sampled), strict=True)]
            return {"gold": fmean(golds), "golds": [round(one, 3) for one in golds]}
        if before:
            own["annotator"] = f"reward:{self._trained(before, seed)}"
        counting = own.pop("count_flops", False)
        with TemporaryDirectory() as scratch:
            began, results = time.process_time(), []

            def train() -> None:
                results.append(
                    trueup.train(
                        method, model=model, output=Path(scratch) / "run", seed=seed, quiet=True, threads=1,
                        save_every=10**6, **own,
                    )
                )  # fmt: skip

            try:
                if counting:
                    return {"flops": flops_of(train)}
                train()
            except TrueupError as error:
                return {"failed": str(error)}
            seconds = time.process_time() - began
            if "eval_data" in own:  # a reward model
                return {"accuracy": results[0].evaluation["eval_rewards/accuracies"], "seconds": seconds}
            return {
                **self.measured(Policy(results[0].model), start, briefly=seed in TUNING),
                "seconds": round(seconds, 2),
            }

    def measured(self, policy: Policy, start: Policy, *, briefly: bool = False) -> Found:
        """Everything; `briefly` what settings are chosen by."""
        judged = policy.judge(prompts(self.held_out, TEST_SEED), seed=1)
        texts = [(str(one.prompt.content), one.responses[0].content) for one in judged]
        golds = scores_of(judged)
        found = {"gold": fmean(golds), "proxy": fmean(proxy(*one) for one in texts)}
        if briefly:
            return found
        pairs = held_out_pairs(self.held_out)
        likely = [
            [value / length for value, length in row or ()] for row in log_probs(policy.model, policy.encoder, pairs)
        ]
        right = [
            row[of.better] > row[of.worse] for row, pair in zip(likely, pairs, strict=True) for of in pair.comparisons
        ]
        return found | {
            "kl": policy.kl_from(start, judged).value,
            "words": fmean(len(text.split()) for _, text in texts),
            "accuracy": fmean(right),
            "golds": [round(one, 3) for one in golds],
        }

    def _trained(self, settings: dict[str, Any], seed: int) -> Path:
        """A model that several runs need; its `model` is the shape of `untrained` weights, or left out the world's."""
        name = hashlib.sha256(json.dumps([settings, seed], sort_keys=True).encode()).hexdigest()[:16]
        folder = self.folder / "reward-models" / name
        if not (folder / "model").exists():
            own = dict(settings)
            shape = own.pop("model", None)
            model = untrained(shape, folder.with_name(f"{name}-untrained")) if shape else "world"
            trueup.train(own.pop("method"), model=model, output=folder, seed=seed, quiet=True, threads=1, **own)
        return folder / "model"


def compared(what: Compared, book: Book) -> Found:
    ones, others = book.runs(what.one), book.runs(what.other)
    by = what.by.removeprefix("less ")
    sign = -1 if by != what.by else 1
    differences = [sign * (one[by] - other[by]) for one, other in zip(ones, others, strict=True)]
    found = spread(differences)
    return {
        "sentence": what.sentence, "one": what.one, "other": what.other, "by": what.by, "within": what.within,
        "differences": differences, "mean": found.mean, "low": found.low, "high": found.high,
        "wins": wins(ones, others), "verdict": verdict(found, what.within),
    }  # fmt: skip


def result_of(claim: Claim, book: Book) -> Found:
    rows = {}
    for name, row in claim.rows.items():
        runs = book.runs(name)
        kept = [{key: value for key, value in run.items() if key not in ("golds", "commit")} for run in runs]
        rows[name] = {
            "settings": {**BASE, **row.settings}, "chosen": book.place(name), "like": row.like,
            "search_ended": book.ended[name], "tried": book.tried[name],
            "runs": [{"seed": seed, **run} for seed, run in zip(book.seeds, kept, strict=True)],
        }  # fmt: skip
        golds = " ".join(f"{run['gold']:.3f}" for run in runs if "gold" in run)
        print(f"{claim.name}: {name}: {book.place(name)}: {golds}", flush=True)
    found: Found = {
        "command": shlex.join(["python", f"benchmarks/claims/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {
            "torch": torch.__version__, "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "commits": sorted({run["commit"] for name in rows for run in book.runs(name)}),
        "hardware": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1},
        "seeds": list(book.seeds), "tuning_seeds": list(TUNING), "rows": rows,
    }  # fmt: skip
    found["compared"] = [compared(one, book) for one in claim.compared]
    return found | claim.more(found, book)


def main(claim: Claim) -> None:
    """Run a claim, write its result, its page and the index."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many are reported")
    parser.add_argument("--journal", type=Path, default=ROOT / "runs/claims/journal.jsonl")
    parser.add_argument("--quick", type=Path, metavar="FOLDER", help="a small version, whose result goes there")
    parser.add_argument("--page", action="store_true", help="write the page alone, from the result")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("trueup").setLevel(logging.ERROR)
    path = (given.quick or Path(__file__).parent) / f"{claim.name}.json"
    if not given.page:
        journal = given.quick / "journal.jsonl" if given.quick else given.journal
        small, seeds = (8, 2) if given.quick else (1, given.seeds)
        perform = claim.perform(journal.parent, small)
        book = Book(Journal(journal, perform), claim.rows, range(1, seeds + 1), small)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result_of(claim, book), indent=1) + "\n")
    import pages  # which takes its types from here

    pages.write(claim, json.loads(path.read_text()), path.parent, given.quick or ROOT / "docs/claims")
