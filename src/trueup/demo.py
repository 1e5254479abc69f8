"""`trueup demo`: make a model, gather feedback, align it by every method, compare."""

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trueup import display, errors, files, methods, words
from trueup.batch.encode import Encoder, Limits
from trueup.estimates import Mean, mean
from trueup.evaluate.likelihoods import log_probs, log_ratios
from trueup.feedback import canonical, records
from trueup.models import causal, load
from trueup.references.choices import TrustRegion
from trueup.sampling.decoding import Decoder, draw
from trueup.settings.gathering_settings import SamplerSettings
from trueup.training.api import train
from trueup.world import generate, language
from trueup.world.model import MAX_LENGTH, world_model_path, written_by

PROMPTS = 2048
RESPONSES = 4
DEMONSTRATIONS = 512
NOISE = 0.05  # share of the annotator's judgements that are turned around
MAX_NEW_TOKENS = 40
HELD_OUT = 512


@dataclass(frozen=True, slots=True)
class Entry:
    method: Callable[[], methods.Method]
    feedback: tuple[str, ...]  # names of files made by `write_feedback`; none for what gathers its own while it trains
    settings: Mapping[str, Any] = field(default_factory=dict)


BATCH_SIZE = 32
SETTINGS: Mapping[str, Any] = {
    "batch_size": BATCH_SIZE, "steps": 2 * PROMPTS // BATCH_SIZE, "learning_rate": 1e-3
}  # fmt: skip

ONLINE: Mapping[str, Any] = {
    "source": "online", "prompts": f"world:prompts?count={2 * PROMPTS}&seed=1", "annotator.kind": "world",
    "annotator.noise": NOISE, "sampler.temperature": 1.0, "sampler.max_new_tokens": MAX_NEW_TOKENS,
    "sampler.responses": 2,
}  # fmt: skip
REGION = TrustRegion(alpha=0.6, every=32)  # the policy's own answers, judged while it trains, with the same annotator

PLAN: Mapping[str, Entry] = {
    "SFT": Entry(lambda: methods.sft(), ("demonstrations",), {"learning_rate": 2e-3, "steps": 64}),
    "DPO": Entry(lambda: methods.dpo(beta=0.1), ("rankings",)),
    "TR-DPO": Entry(lambda: methods.tr_dpo(beta=0.2, reference=REGION), ("rankings",)),
    "RRHF": Entry(lambda: methods.rrhf(), ("rankings",), {"learning_rate": 2e-3}),
    "CA": Entry(lambda: methods.ca(condition=" score {reward}"), ("rankings",), {"steps": 512}),
    "KTO": Entry(
        lambda: methods.kto(beta=3.0, desirable_weight=1.8), ("demonstrations", "points"), {"learning_rate": 3e-4}
    ),
    "ULMA": Entry(lambda: methods.ulma(beta=0.1), ("demonstrations", "points")),
    "OAIF": Entry(lambda: methods.oaif(beta=0.5), (), {**ONLINE, "learning_rate": 3e-3}),
    "PPO": Entry(
        lambda: methods.ppo(kl_coef=0.05, kl_target=0.0), (),
        {**ONLINE, "round_prompts": 2 * BATCH_SIZE, "round_passes": 2, "steps": 256},
    ),
}  # fmt: skip
"""Name in the table -> method, feedback, and settings that suit the world's small model.

Every policy starts from the same model; SFT comes first, as the others are compared with it.
"""
SEED, TEST_SEED = 1, 1_000_003  # of the feedback, and of the held-out prompts, far from it


class Policy:
    def __init__(self, folder: Path) -> None:
        self.loaded = loaded = load.load(str(folder), device=torch.device("cpu"))
        self.model = causal.CausalModel(loaded.network)
        self.encoder = Encoder(
            loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(MAX_LENGTH), condition=loaded.condition
        )

    def judge(self, prompts: Sequence[str], seed: int) -> list[records.Example]:
        """An answer to each prompt, with its gold reward as score."""
        with self.model.plain() as network:
            completions = draw(
                Decoder(network, self.loaded.end_ids),
                [self.encoder.prompt_ids(records.Prompt(prompt)) for prompt in prompts],
                settings=SamplerSettings(max_new_tokens=MAX_NEW_TOKENS),
                generator=torch.Generator().manual_seed(seed),
            )
        judged = []
        for prompt, one in zip(prompts, completions, strict=True):
            text = self.encoder.text(one.written)
            response = records.Response(text, score=language.gold(prompt, text), tokens=one.written)
            judged.append(records.Example(records.Prompt(prompt), (response,)))
        return judged

    def kl_from(self, start: "Policy", judged: Sequence[records.Example]) -> Mean:
        """KL(this || start) in nats an answer, on this policy's own; each is asked in its own words."""
        ours, theirs = (log_probs(one.model, one.encoder, judged) for one in (self, start))
        return mean([ratio for row in log_ratios(ours, theirs) for ratio in row or ()])


def write_feedback(folder: Path, start: Policy) -> dict[str, Path]:
    """Write one canonical JSONL file for each kind of feedback: the start model's answers, judged, and an expert's.
    `rankings` scores four answers of the model to each prompt, `points` gives each of four a thumb,
    `demonstrations` are the expert's."""
    with start.model.plain() as network:
        writer = written_by(
            network, start.loaded.tokenizer, generate.prompts(PROMPTS, SEED), RESPONSES,
            max_new_tokens=MAX_NEW_TOKENS, generator=torch.Generator().manual_seed(SEED),
        )  # fmt: skip
    how = dict[str, Any](count=PROMPTS, seed=SEED, responses=RESPONSES, noise=NOISE, writer=writer)
    made = {kind: generate.examples(kind, **how) for kind in ("rankings", "points")}
    made["demonstrations"] = generate.examples("demonstrations", count=DEMONSTRATIONS, seed=SEED + 1)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{kind}.jsonl" for kind in made}
    for kind, content in made.items():
        canonical.write_examples(paths[kind], content)
    return paths


@dataclass(frozen=True, slots=True)
class MethodRow:
    name: str
    before: Mean
    after: Mean
    kl: Mean
    wins: Mean | None
    seconds: float


def run(
    output: str | Path | None = None, names: Sequence[str] = tuple(PLAN), *, quiet: bool = False
) -> list[MethodRow]:
    """Run the demo and print its table, the rows of `names`, of which SFT must come first.
    `output` must not exist; None takes runs/demo, or the first of runs/demo-2, ... that is free."""
    began = time.monotonic()
    numbered = (Path(f"runs/demo-{number}") for number in itertools.count(2))
    free = (one for one in itertools.chain([Path("runs/demo")], numbered) if not one.exists())
    folder = Path(output) if output is not None else next(free)
    if folder.exists():
        raise errors.InputError(f"{folder} exists already; remove it, or give another folder with --output")
    torch.set_num_threads(1)
    with display.shown(quiet=quiet):
        model = world_model_path()
        start = Policy(model)
        words.logger.info(f"gathering feedback on {RESPONSES} answers to each of {PROMPTS} prompts")
        feedback = write_feedback(folder / "feedback", start)
        held_out = generate.prompts(HELD_OUT, TEST_SEED)
        before = mean(records.scores_of(start.judge(held_out, seed=0)))
        rows: list[MethodRow] = []
        sft: list[float] = []
        for number, name in enumerate(names, 1):
            words.logger.info(f"{name} ({number} of {len(names)})")
            entry, started = PLAN[name], time.monotonic()
            method = entry.method()
            data = [feedback[kind] for kind in entry.feedback] or None
            own: dict[str, Any] = {**SETTINGS, **entry.settings}
            result = train(method, model=model, data=data, output=folder / method.name, **own)
            seconds = time.monotonic() - started
            policy = Policy(result.model)
            judged = policy.judge(held_out, seed=1)
            golds = records.scores_of(judged)
            sft = sft or golds
            both = zip(golds, sft, strict=True)
            won = [float(ours > theirs) + (ours == theirs) / 2 for ours, theirs in both]
            wins = mean(won) if rows else None
            rows.append(MethodRow(name, before, mean(golds), policy.kl_from(start, judged), wins, seconds))
    with files.replaced_file(folder / "results.json") as file:
        file.write(json.dumps([_plain(row) for row in rows], indent=1).encode() + b"\n")
    console = Console(quiet=quiet, emoji=False)
    console.print(table(rows))
    took = display.duration(time.monotonic() - began)
    console.print(f"{took} in all; runs and models are in {folder}", highlight=False)
    return rows


def table(rows: Sequence[MethodRow]) -> Table:
    """The results for a terminal; errors are standard errors over prompts."""
    caption = "gold reward, KL in nats an answer; +- one standard error"
    made = Table(title="Aligned in the built-in world", caption=caption)
    made.add_column("method")
    for heading in ("gold before", "gold after", "KL from start", "wins against SFT", "seconds"):
        made.add_column(heading, justify="right")
    for row in rows:
        wins = f"{100 * row.wins.value:.0f} +- {100 * row.wins.error:.0f} %" if row.wins else ""
        numbers = (one.shown(2) for one in (row.before, row.after, row.kl))
        made.add_row(row.name, *numbers, wins, f"{row.seconds:.0f}")
    return made


def _plain(row: MethodRow) -> dict[str, object]:
    means = {"gold_before": row.before, "gold_after": row.after, "kl": row.kl}
    if row.wins is not None:
        means["win_rate_against_sft"] = row.wins
    numbers = {name: value.as_json() for name, value in means.items()}
    return {"method": row.name, **numbers, "seconds": round(row.seconds, 1)}
