"""A reference that moves against the frozen one on text: a story model, people's judgements of answers to harmful and
harmless questions (Anthropic's HH), and a reward model of other judgements as gold.

python benchmarks/claims/real_text.py

Model and data are those of ../shared; without them nothing is run.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine import ROOT, Claim, Compared, Found, Row, main
from frontier import Sweep, frontiers, references, rows_of, shown

import trueup
from trueup.errors import TrueupError
from trueup.evaluate.evaluation import evaluate
from trueup.settings.gathering_settings import EvaluateSettings

SHARED = ROOT.parent / "shared"
MODEL = SHARED / "models/tinystories-656k-bf16"
JUDGEMENTS = SHARED / "data/hh_rlhf/harmless-base-test.jsonl.gz"
SHORT = 200
"""Characters of a prompt and of a response that policies are trained on; the reward model sees longer ones, too."""
HELD_OUT, POOL, PAIRS = 200, 768, 512
"""Prompts that policies answer; pairs of which each seed draws its own; and how many."""
TOKENS = 64

Pair = dict[str, str]


def judgements() -> list[Pair]:
    """Pairs of answers to the last thing that was said, one a prompt, in an order of their own."""
    mark = "\n\nAssistant:"
    found: dict[str, Pair] = {}
    with gzip.open(JUDGEMENTS, "rt") as file:
        for line in map(json.loads, file):
            both = [line[side].rpartition(mark) for side in ("chosen", "rejected")]
            (said, _, chosen), (as_said, _, rejected) = both
            if said == as_said and chosen.strip() != rejected.strip() and chosen.strip() and rejected.strip():
                prompt = said[said.rindex("\n\nHuman:") :].strip() + mark
                found.setdefault(prompt, {"prompt": prompt, "chosen": chosen, "rejected": rejected})
    rows = list(found.values())
    random.Random(0).shuffle(rows)
    return rows


class Text:
    """Makes the start model and the reward model once, and every run from them."""

    def __init__(self, folder: Path, small: int) -> None:
        self.folder, self.small = folder / "real-text", small

    def perform(self, settings: dict[str, Any], seed: int) -> Found:
        start = self._prepared()
        if settings["method"] == "start":
            return {**self.measured(start), **json.loads((self.folder / "judge.json").read_text())}
        own = dict(settings)
        with TemporaryDirectory() as scratch:
            pairs, began = Path(scratch) / "pairs.jsonl", time.process_time()
            pool = (self.folder / "pool.jsonl").read_text().splitlines(keepends=True)
            pairs.write_text("".join(random.Random(seed).sample(pool, PAIRS)))
            try:
                made = trueup.train(
                    own.pop("method"), model=str(start), output=Path(scratch) / "run", seed=seed, quiet=True,
                    threads=1, save_every=10**6, **{**own, "data": str(pairs)},
                )  # fmt: skip
            except TrueupError as error:
                return {"failed": str(error)}
            seconds = round(time.process_time() - began, 2)
            return {**self.measured(made.model), "seconds": seconds}

    def measured(self, model: Path) -> Found:
        """By the reward model, on one answer to each held-out prompt."""
        with TemporaryDirectory() as scratch:
            settings = {
                "models": [str(model)], "prompts": [str(self.folder / "held_out.jsonl")],
                "reference": str(self.folder / "start/model"), "output": scratch, "seed": 1,
                "count": HELD_OUT // self.small, "sampler": {"max_new_tokens": TOKENS},
                "reward": {"kind": "reward", "model": str(self.folder / "reward/model")},
            }  # fmt: skip
            found = evaluate(EvaluateSettings.model_validate(settings))
            assert found is not None
            (of,) = found["models"]
            said = map(json.loads, (Path(scratch) / "responses.jsonl").read_text().splitlines())
            golds = [one["responses"][0]["score"] for one in said]
        return {
            "gold": of["reward"]["value"], "kl": of["kl"]["value"], "words": of["words"]["value"],
            "golds": [round(one, 3) for one in golds],
        }  # fmt: skip

    def _prepared(self) -> Path:
        """The start model, which imitates both answers of the reward model's short pairs."""
        start = self.folder / "start/model"
        if not (self.folder / "judge.json").exists():
            rows = judgements()
            short = [row for row in rows if all(len(text) <= SHORT for text in row.values())]
            held_out, pool = short[:HELD_OUT], short[HELD_OUT : HELD_OUT + POOL]
            taken = {row["prompt"] for row in (*held_out, *pool)}
            others = [row for row in rows if row["prompt"] not in taken]
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self.folder / "pool.jsonl", pool)
            _write(self.folder / "held_out.jsonl", held_out)
            _write(self.folder / "others.jsonl", others)
            answers = [
                {"prompt": row["prompt"], "response": row[side]}
                for row in others for side in ("chosen", "rejected") if len(row[side]) <= SHORT
            ]  # fmt: skip
            _write(self.folder / "answers.jsonl", answers)
            self._train("sft", MODEL, "answers", "start", learning_rate=0.002, steps=192)
            seen = str(self.folder / "pool.jsonl")
            judge = self._train(
                "reward-model", start, "others", "reward", learning_rate=0.001, steps=96, eval_data=seen
            )
            spread = judge["eval_rewards/mean_square"] - judge["eval_rewards/mean"] ** 2
            told = {"accuracy": judge["eval_rewards/accuracies"], "judge_spread": spread**0.5}
            (self.folder / "judge.json").write_text(json.dumps(told))
        return start

    def _train(self, method: str, model: Path, data: str, name: str, *, steps: int, **own: Any) -> Mapping[str, float]:
        """Anew, where an earlier try was stopped."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return trueup.train(
            method, model=str(model), data=str(self.folder / f"{data}.jsonl"), output=self.folder / name, quiet=True,
            steps=steps // self.small, batch_size=16, threads=1, save_every=10**6, **own,
        ).evaluation  # fmt: skip


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pairs(rate: float) -> dict[str, Any]:
    """Settings of a run on a seed's pairs, which are named so that a line of the journal says what it is of."""
    return {"data": "hh-harmless-{seed}", "batch_size": 16, "steps": 32, "learning_rate": rate}


SOFT = references((0.6, 8))
FROZEN = "DPO, frozen, beta 0.3"
SWEPT = {"DPO": Sweep({"method": "dpo", **pairs(0.003)}, SOFT, (0.1, 0.3, 1.0))}
ROWS = {
    "the start model": Row({"method": "start", **pairs(0.001)}),
    "SFT on the preferred, lr 0.001": Row({"method": "sft", **pairs(0.001)}),
    **{
        f"DPO, frozen, beta {beta:g}, lr 0.001": Row({"method": "dpo", **pairs(0.001), "beta": beta})
        for beta in (0.03, 0.1, 0.3)
    },
    **rows_of(SWEPT),
}

CLAIM = Claim(
    "real_text",
    ROWS,
    (
        Compared("DPO on people's judgements pleases the judge", FROZEN, "the start model"),
        Compared("and more than imitating the preferred answers", FROZEN, "SFT on the preferred, lr 0.001"),
        Compared("soft is better than frozen, beta 0.3", FROZEN.replace("frozen", "soft 0.6 every 8"), FROZEN),
    ),
    more=lambda found, book: frontiers(SWEPT, book),
    more_shown=lambda found: shown(SWEPT, found),
    perform=lambda folder, small: Text(folder, small).perform,
)

if __name__ == "__main__":
    if MODEL.exists() and JUDGEMENTS.exists():
        main(CLAIM)
    else:
        print(f"nothing is run: {MODEL} or {JUDGEMENTS} is not there", file=sys.stderr)
