"""`trueup condition`: which reward a model of conditional alignment answers best to."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from trueup.annotators.annotator import Scorer
    from trueup.evaluate.condition_sweep import Sweep
    from trueup.evaluate.estimates import Mean
    from trueup.feedback.condition import Condition
    from trueup.feedback.records import Prompt


logger = logging.getLogger(__name__)


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
    now = _condition_of(model)
    scorer = _scorer(reward)
    rewards = None if candidates is None else _numbers(candidates)
    asked = _prompts(prompts, count)
    swept = _sweep(model, now, rewards, asked, scorer, seed=seed, max_new_tokens=max_new_tokens)
    best = swept.best.condition
    kept = keep and best != now and swept.reliable
    if kept:
        from trueup.evaluate.condition_sweep import keep as write

        write(Path(model), now, best)
    if as_json:
        typer.echo(json.dumps(_plain(model, swept, kept), indent=1))
        return
    from rich.console import Console

    Console(highlight=False).print(_table(swept))
    typer.echo(_verdict(model, swept, keep))


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


def _scorer(name: str) -> Scorer:
    if name.startswith("world:"):
        from trueup.world.scorers import world_scorer

        return world_scorer(name)
    from trueup.annotators.annotator import load_scorer

    return load_scorer(name)


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


def _prompts(names: list[str], count: int | None) -> list[Prompt]:
    from trueup.display import shown
    from trueup.sources.by_name import prompts_named

    with shown():
        return list(prompts_named(names).prompts[:count])


def _sweep(
    model: str,
    now: Condition,
    rewards: list[float] | None,
    asked: list[Prompt],
    scorer: Scorer,
    *,
    seed: int,
    max_new_tokens: int | None,
) -> Sweep:
    """Load the model, settle what to try, and try it."""
    from trueup import display
    from trueup.batch.condition_check import unknown_words
    from trueup.evaluate.condition_sweep import conditions, sweep, usual_rewards
    from trueup.models.load import load
    from trueup.models.prepare import SMALL, num_parameters, pick_device

    loaded = load(model, device=pick_device("auto"))
    tried = []
    for one in conditions(now, usual_rewards(now) if rewards is None else rewards):
        unknown = unknown_words(one.words(), loaded.tokenizer)
        if unknown and rewards is not None and one != now:
            raise InputError(
                f"--candidates: {one.reward:g} is written {one.words()!r}, and the model's tokenizer has only its "
                f"unknown token for {', '.join(map(repr, unknown))}; leave it out"
            )
        if not unknown or one == now:
            tried.append(one)
    if num_parameters(loaded.network) * len(asked) < SMALL:
        import torch

        torch.set_num_threads(1)
    with display.shown():
        swept = sweep(loaded, asked, scorer, tried, seed=seed, max_new_tokens=max_new_tokens)
        if swept.left_out:
            logger.warning(
                f"{swept.left_out} of {len(asked)} prompts are too long for the model and were left out"
            )
    return swept


def _table(swept: Sweep) -> Table:
    """The trials for a terminal, from the lowest reward to the highest; errors are standard errors over prompts."""
    from rich.box import MARKDOWN
    from rich.table import Table

    made = Table(box=MARKDOWN, caption="+- one standard error; length in tokens; now: asked for so far")
    made.add_column("asked for", justify="right")
    made.add_column("written as", no_wrap=True)
    made.add_column("mean reward", justify="right", no_wrap=True)
    made.add_column("length", justify="right", no_wrap=True)
    made.add_column("", no_wrap=True)
    for trial in sorted(swept.trials, key=lambda trial: trial.condition.reward):
        marks = ["best"] * (trial == swept.best) + ["now"] * (trial == swept.trials[0])
        made.add_row(
            f"{trial.condition.reward:.4g}",
            repr(trial.condition.words()),
            _shown(trial.score, 3),
            _shown(trial.length, 1),
            ", ".join(marks),
            style="bold" if trial == swept.best else None,
        )
    return made


def _verdict(model: str, swept: Sweep, keep: bool) -> str:
    best, now = swept.best, swept.trials[0]
    if best == now:
        return f"the model asks for the best already: {now.condition.reward:.4g}"
    gain = f"better than {now.condition.reward:.4g} by {_shown(swept.gain, 3)}"
    if keep and not swept.reliable:
        return (
            f"{best.condition.reward:.4g} is {gain}, less than twice its standard error:\n"
            "nothing was written; more prompts tell more"
        )
    if keep:
        return f"{model} asks for {best.condition.reward:.4g} from now on: {gain}"
    return f"{best.condition.reward:.4g} is {gain}; nothing was written"


def _shown(mean: Mean, digits: int) -> str:
    error = "" if math.isnan(mean.error) else f" +- {mean.error:.{digits}f}"
    return f"{mean.value:.{digits}f}{error}"


def _plain(model: str, swept: Sweep, kept: bool) -> dict[str, Any]:
    def numbers(mean: Mean) -> dict[str, float | None]:
        return {"value": mean.value, "standard_error": None if math.isnan(mean.error) else mean.error}

    trials = [
        {
            "reward": trial.condition.reward,
            "words": trial.condition.words(),
            "score": numbers(trial.score),
            "length": numbers(trial.length),
            "ended": trial.ended,
        }
        for trial in swept.trials
    ]
    return {
        "model": model,
        "prompts": len(swept.trials[0].scores),
        "asked_until_now": swept.trials[0].condition.reward,
        "best": swept.best.condition.reward,
        "gain": numbers(swept.gain),
        "kept": kept,
        "trials": trials,
    }
