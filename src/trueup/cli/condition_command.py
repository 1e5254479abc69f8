"""`trueup condition`: which reward a model of conditional alignment answers best to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.feedback.condition import Condition


def condition(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder of a model trained by `trueup train ca`.")
    ],
    prompts: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="What to ask: a file whose rows hold `prompt`, any file of feedback, or "
            "world:prompts?count=512&seed=1. May be given several times.",
        ),
    ],
    reward: Annotated[
        str,
        typer.Option(
            metavar="REWARD",
            help="What scores the answers: FILE.py:FUNCTION, called with prompt and response; or world:gold.",
        ),
    ],
    candidates: Annotated[
        str | None,
        typer.Option(
            metavar="R,R,...",
            help="Standardised rewards to ask for, beside the one it asks for now. Default: the highest of "
            "training, 2, 5 and 0.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ask the first N prompts only.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the answers; the same for every reward.")] = 0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Longest answer in tokens. Default: 128, or half of the model's positions if that is less.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep/--dry-run", help="Have the model ask for the best from now on, or change nothing."
        ),
    ] = True,
) -> None:
    """Ask a model of conditional alignment for several rewards, score its answers, and keep the best."""
    from trueup.annotators.annotator import load_scorer
    from trueup.display import shown
    from trueup.sources.by_name import WORLD, prompts_named
    from trueup.world.scorers import world_scorer

    now = _condition_of(model)
    scorer = world_scorer(reward) if reward.startswith(WORLD) else load_scorer(reward)
    rewards = None if candidates is None else _numbers(candidates)
    with shown():
        asked = prompts_named(prompts).prompts[:count]
    from trueup.evaluate import condition_sweep

    with shown():
        swept = condition_sweep.sweep_model(
            model, now, rewards, asked, scorer, seed=seed, max_new_tokens=max_new_tokens
        )
    best = swept.best.condition
    kept = keep and best != now and swept.reliable
    if kept:
        condition_sweep.keep(Path(model), now, best)
    if as_json:
        typer.echo(json.dumps({"model": model, **swept.as_json(), "kept": kept}, indent=1))
        return
    condition_sweep.print_table(swept)
    typer.echo(swept.verdict(model, keep=keep))


def _condition_of(model: str) -> Condition:
    """What the model asks for now."""
    from trueup.feedback.condition import FILE, read_condition
    from trueup.model_folder import check_model

    found = read_condition(Path(model))
    if found is None:
        inner = Path(model) / "model"
        if (inner / FILE).exists():
            raise InputError(f"{model} is the folder of a run; give its model, {inner}")
        if Path(model).is_dir():
            raise InputError(
                f"{model} has no {FILE}: it was not trained by conditional alignment, so there is no reward to ask it "
                "for. Train one by `trueup train ca`, and give its folder"
            )
    check_model(model, trust_remote_code=False)
    assert found is not None
    return found


def _numbers(text: str) -> list[float]:
    found: list[float] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                f"--candidates: {part.strip()!r} is not a finite number; give numbers with commas between, "
                "e.g. 0.5,1,2"
            )
        found.append(value)
    return found
