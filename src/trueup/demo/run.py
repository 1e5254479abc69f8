"""`trueup demo`: make a model, gather feedback, align it by every method, compare."""

import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trueup import methods
from trueup.demo.world_policy import MAX_NEW_TOKENS, NOISE, PROMPTS, RESPONSES, Judged, Policy, write_feedback
from trueup.display import duration, shown
from trueup.errors import InputError
from trueup.evaluate.estimates import Mean, WinRate, win_rate
from trueup.methods import Method
from trueup.references.choices import TrustRegion
from trueup.training.api import train
from trueup.world.generate import prompts
from trueup.world.model import world_model_path

logger = logging.getLogger(__name__)

HELD_OUT = 512
"""Prompts that every policy is judged on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the demo's table."""

    method: Callable[[], Method]
    feedback: tuple[str, ...]
    """Names of files made by `write_feedback`; none for what gathers its own while it trains."""
    settings: Mapping[str, Any] = field(default_factory=dict)


BATCH_SIZE = 32
SETTINGS: Mapping[str, Any] = {
    "batch_size": BATCH_SIZE,
    "steps": 2 * PROMPTS // BATCH_SIZE,
    "learning_rate": 1e-3,
}

ONLINE: Mapping[str, Any] = {
    "source": "online",
    "prompts": f"world:prompts?count={2 * PROMPTS}&seed=1",
    "annotator.kind": "world",
    "annotator.noise": NOISE,
    "sampler.temperature": 1.0,
    "sampler.max_new_tokens": MAX_NEW_TOKENS,
}
"""The policy's own answers, judged while it trains, with the same annotator."""

PLAN: Mapping[str, Entry] = {
    "SFT": Entry(lambda: methods.sft(), ("demonstrations",), {"learning_rate": 2e-3, "steps": 64}),
    "DPO": Entry(lambda: methods.dpo(beta=0.1), ("rankings",)),
    "TR-DPO": Entry(
        lambda: methods.tr_dpo(beta=0.2, reference=TrustRegion(alpha=0.6, every=32)), ("rankings",)
    ),
    "RRHF": Entry(lambda: methods.rrhf(), ("rankings",), {"learning_rate": 2e-3}),
    "CA": Entry(lambda: methods.ca(condition=" score {reward}"), ("rankings",), {"steps": 512}),
    "KTO": Entry(lambda: methods.kto(beta=1.0, desirable_weight=2.2), ("points",)),
    "ULMA": Entry(lambda: methods.ulma(beta=0.1), ("demonstrations", "points")),
    "OAIF": Entry(
        lambda: methods.oaif(beta=0.5), (), {**ONLINE, "sampler.responses": 2, "learning_rate": 3e-3}
    ),
    "PPO": Entry(
        lambda: methods.ppo(kl_coef=0.05, kl_target=0.0),
        (),
        {**ONLINE, "sampler.responses": 2, "round_prompts": 2 * BATCH_SIZE, "round_passes": 2, "steps": 256},
    ),
}
"""Name in the table -> method, feedback, and settings that suit the world's small model.

Every policy starts from the same model; SFT comes first, as the others are compared with it.
"""
TEST_SEED = 1_000_003
"""Seed of the held-out prompts, far from those of the feedback."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    before: Mean
    after: Mean
    kl: Mean
    wins: WinRate | None
    """Against SFT; None for SFT itself."""
    seconds: float


def run(
    output: str | Path | None = None, names: Sequence[str] = tuple(PLAN), *, quiet: bool = False
) -> list[Row]:
    """Run the demo and print its table.

    Args:
        output: folder for feedback, runs and results.json; it must not exist. None takes runs/demo, or the first
            of runs/demo-2, runs/demo-3, ... that is free.
        names: which rows of the table to make; SFT must come first.

    Raises:
        InputError: the folder exists.
    """
    began = time.monotonic()
    folder = Path(output) if output is not None else _free_folder()
    if folder.exists():
        raise InputError(f"{folder} exists already; remove it, or give another folder with --output")
    torch.set_num_threads(1)
    with shown(quiet=quiet):
        model = world_model_path()
        start = Policy(model)
        logger.info(f"gathering feedback on {RESPONSES} answers to each of {PROMPTS} prompts")
        feedback = write_feedback(folder / "feedback", start)
        held_out = prompts(HELD_OUT, TEST_SEED)
        before = start.judge(held_out, seed=0)
        rows: list[Row] = []
        sft: Judged | None = None
        for number, name in enumerate(names, 1):
            logger.info(f"{name} ({number} of {len(names)})")
            row, after = _align(PLAN[name], name, folder, model, feedback, start, before, sft, held_out)
            sft = sft or after
            rows.append(row)
    (folder / "results.json").write_text(json.dumps([_plain(row) for row in rows], indent=1) + "\n")
    console = Console(quiet=quiet)
    console.print(table(rows))
    console.print(
        f"{duration(time.monotonic() - began)} in all; runs and models are in {folder}", highlight=False
    )
    return rows


def _free_folder() -> Path:
    numbered = (Path(f"runs/demo-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([Path("runs/demo")], numbered) if not folder.exists())


def _align(
    entry: Entry,
    name: str,
    folder: Path,
    model: Path,
    feedback: dict[str, Path],
    start: Policy,
    before: Judged,
    sft: Judged | None,
    held_out: Sequence[str],
) -> tuple[Row, Judged]:
    began = time.monotonic()
    method = entry.method()
    files = [feedback[kind] for kind in entry.feedback] or None
    settings = {**SETTINGS, **entry.settings}
    result = train(method, model=model, data=files, output=folder / method.name, **settings)
    seconds = time.monotonic() - began
    policy = Policy(result.model)
    after = policy.judge(held_out, seed=1)
    wins = None if sft is None else win_rate(after.rewards, sft.rewards)
    return Row(name, before.gold, after.gold, policy.kl_from(start, after), wins, seconds), after


def table(rows: Sequence[Row]) -> Table:
    """The results for a terminal; errors are standard errors over prompts."""
    made = Table(
        title="Aligned in the built-in world",
        caption="gold reward, KL in nats an answer; +- one standard error",
    )
    made.add_column("method")
    for heading in ("gold before", "gold after", "KL from start", "wins against SFT", "seconds"):
        made.add_column(heading, justify="right")
    for row in rows:
        wins = (
            ""
            if row.wins is None
            else f"{100 * row.wins.rate.value:.0f} +- {100 * row.wins.rate.error:.0f} %"
        )
        numbers = (f"{m.value:.2f} +- {m.error:.2f}" for m in (row.before, row.after, row.kl))
        made.add_row(row.name, *numbers, wins, f"{row.seconds:.0f}")
    return made


def _plain(row: Row) -> dict[str, object]:
    means = {"gold_before": row.before, "gold_after": row.after, "kl": row.kl}
    if row.wins is not None:
        means["win_rate_against_sft"] = row.wins.rate
    numbers = {key: {"value": value.value, "standard_error": value.error} for key, value in means.items()}
    return {"method": row.name, **numbers, "seconds": round(row.seconds, 1)}
