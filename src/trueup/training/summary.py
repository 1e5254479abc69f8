"""What a finished run says of itself: how it went, from its own files, so that every sitting counts; how to load it."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from trueup import display, metrics, words
from trueup.annotators.jury import jury_lines
from trueup.endpoints.key import redact
from trueup.feedback.records import Content
from trueup.sources.log import RoundLog, metrics_of_rounds
from trueup.sources.online import OnlineSource
from trueup.training.loop import Run

SAMPLES, LONGEST = 3, 400  # of what a run sampled, in its card; in characters each


def summary(run: Run, seconds: float, *, resumed: bool) -> Iterator[str]:
    sitting = " in this sitting" if resumed else ""
    yield f"{run.parts.method.name}: {run.step} of {run.total} steps, {display.duration(seconds)}{sitting}"
    evaluated = [line for line in metrics.read_lines(run.parts.folder.metrics) if "eval_loss" in line]
    if evaluated:
        first, last = evaluated[0], evaluated[-1]
        names = [f"eval_{name}" for name in run.parts.method.figures if f"eval_{name}" in first]
        changes = [f"{metrics.label(name)} {_change(first[name], last.get(name, first[name]))}" for name in names]
        yield f"held out, {_change(first['step'], last['step'])} steps: {', '.join(changes)}"
    if run.best and run.best.values:
        yield f"best: {run.best.told()}"
    for name, of in (("kl", "the feedback"), ("objective/kl", "samples")):
        if name in run.latest:
            yield f"KL to the reference, of {of}: {display.figure(run.latest[name])} nats a response"
    yield from _of_rounds(run.parts.folder.path)


def _of_rounds(folder: Path) -> Iterator[str]:
    rounds = metrics_of_rounds(folder)
    if not rounds:
        return
    known = {name for one_round in rounds for name, one in one_round.items() if isinstance(one, float)}
    totals = {name: sum(one_round.get(name, 0.0) for one_round in rounds) for name in known}
    scores = [one_round["online/score"] for one_round in rounds if "online/score" in one_round]
    scored = f": score {_change(scores[0], scores[-1])}" if scores else ""
    yield f"sampled: {totals.get('online/responses', 0):,.0f} responses in {len(rounds):,} rounds{scored}"
    if gaps := [one_round for one_round in rounds if "online/gap" in one_round]:
        mean, kl = (display.figure(fmean(one[f"online/{name}"] for one in gaps)) for name in ("gap", "gap_kl"))
        most = display.figure(max(one["online/gap_max"] for one in gaps))
        yield f"log-probabilities, sampler against trainer: {mean} nats a token apart, at most {most}; KL {kl}"
    used = [
        f"{totals[f'annotator/{name}']:,.{places}f} {name}"
        for name, places in (("requests", 0), ("tokens", 0), ("cost", 4))
        if f"annotator/{name}" in totals
    ]
    if verdicts := totals.get("annotator/verdicts"):
        used.append(f"{totals.get('annotator/unreadable', 0):,.0f} of {verdicts:,.0f} verdicts unreadable")
    if used:
        yield f"annotator: {', '.join(used)}"
    prefix = "annotator/"
    yield from jury_lines(
        {name.removeprefix(prefix): value for name, value in totals.items() if name.startswith(prefix)}
    )


def _change(first: float, last: float) -> str:
    return display.figure(last) if first == last else f"{display.figure(first)} -> {display.figure(last)}"


def samples(run: Run) -> list[tuple[str, str]]:
    """The last prompts that the run sampled responses to while training, each with its first one; quoted."""
    log = run.source.log if isinstance(run.source, OnlineSource) else None
    if not isinstance(log, RoundLog):
        return []
    every = [one for number in sorted(log.rounds) for one in log.rounds[number].examples]
    return [(_quoted(one.prompt.content), _quoted(one.responses[0].content)) for one in every[-SAMPLES:]]


def _quoted(content: Content) -> str:
    said = content if isinstance(content, str) else content[-1].content if content else ""
    return words.shortened(redact(said), LONGEST)


def loading(folder: Path, *, scores: bool) -> str:
    adapter = (folder / "adapter_config.json").is_file()
    kind = "SequenceClassification" if scores else "CausalLM"
    package, name = ("peft", f"AutoPeftModelFor{kind}") if adapter else ("transformers", f"AutoModelFor{kind}")
    labels = ", num_labels=1" if adapter and scores else ""
    code = f"from {package} import {name} as M; M.from_pretrained({str(folder)!r}{labels})"
    return f"load it with: python -c {shlex.quote(code)}"
