"""One page about several runs: what they came to, at what price, and what differs between them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup import display, errors, words
from trueup.config.layers import flatten
from trueup.report import charts, page, run_data, run_page

OVERLAID = (
    "loss", "rewards/accuracies", "rewards/margins", "drift/chosen", "kl", "objective/kl", "online/score",
    "online/words", "online/distinct",
)  # fmt: skip
SAME = {"data_fingerprints": "trained on different feedback or prompts"}
SAME["model_identity"] = "begun with different models"
"""What of a record may differ, so that runs are not of the same thing."""
Evaluations = Mapping[str, Mapping[str, Any]]
UNLIKE = ("output", "run_name")


def write_comparison(runs: Sequence[run_data.RunData], evaluations: Sequence[str], output: Path) -> Path:
    """Write the page, with evaluations (an evaluation.json or its folder) beside those in the runs' folders.
    Raises InputError: an evaluation cannot be read, or the page not written."""
    plain = [run.name for run in runs]
    names = [run.name if plain.count(run.name) == 1 else str(run.folder) for run in runs]
    found = dict(_evaluations(runs, evaluations))
    told = {name: shown for name, one in found.items() if (shown := page.shown(one))}
    values = {
        "name": "Comparison: " + words.listed(names, 4),
        "names": names,
        "notes": list(_notes(runs, names, found)),
        "overview": page.Table("", names, list(_overview(runs))),
        "figures": page.Table("", names, list(_figures(runs))),
        "evaluations": [(name, [*tables, *_matrix(found[name])], plots) for name, (tables, plots) in told.items()],
        "charts": list(_charts(runs, names)),
        "differing": page.Table("", names, list(_differing(runs))),
    }
    page.write_page(output, "comparison.html.jinja", values)
    return output


def _evaluations(runs: Sequence[run_data.RunData], given: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    known: list[Any] = []
    every = {str(path): one for run in runs for path, one in run.evaluations.items()}
    for name in given:
        path = Path(name) / run_data.EVALUATION if Path(name).is_dir() else Path(name)
        try:
            every[str(path)] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            said = f"evaluation {path} cannot be read: {words.reason(error)}; give what trueup evaluate wrote"
            raise errors.InputError(said) from None
    for path_name, one in every.items():
        if page.shown(one) is None:
            raise errors.InputError(f"evaluation {path_name} is not as trueup evaluate writes it")
        if one not in known:
            known.append(one)
            yield path_name, one


def _notes(runs: Sequence[run_data.RunData], names: Sequence[str], found: Evaluations) -> Iterator[str]:
    for run, name in zip(runs, names, strict=True):
        if not run.done:
            state = run.status.get("state", "no status")
            yield f"{name} is not done ({state}): its figures go up to step {run.last}."
        for one in (*map(str, run.status.get("warnings") or ()), *run.problems):
            yield f"{name}: {one}"
    for key, said in SAME.items():
        if len({json.dumps(run.record.get(key), sort_keys=True) for run in runs}) > 1:
            yield f"The runs were {said}."
    evaluated = [run.settings for run in runs if any(name.startswith(run_data.HELD_OUT) for name in run.names)]
    held = [[one.get(name) for name in ("eval_data", "eval_fraction")] for one in evaluated]
    if any(one != held[0] for one in held):
        yield "The runs have different held-out feedback: their eval_ figures cannot be compared."
    on_prompts = [[one["prompts"], one.get("settings", {}).get("prompts")] for one in found.values()]
    if any(one != on_prompts[0] for one in on_prompts):
        yield "The evaluations are on different prompts: numbers of one cannot be compared with those of another."


def _overview(runs: Sequence[run_data.RunData]) -> Iterator[tuple[str, list[str]]]:
    yield "method", [run.method for run in runs]
    yield "model", [str(run.settings.get("model")) for run in runs]
    yield "state", [str(run.status.get("state", "unknown")) for run in runs]
    yield "steps", [f"{run.last:,}" for run in runs]
    yield "time in steps", [display.duration(run.total("seconds")) for run in runs]
    yield "tokens", [f"{run.total('tokens'):,.0f}" for run in runs]
    yield "FLOPs, about", ["-" if run.flops is None else display.figure(run.flops) for run in runs]
    costs = [run.summed("annotator/") for run in runs]
    for name in ("requests", "cost"):
        if any(name in one for one in costs):
            yield f"annotator, {name}", [f"{one[name]:,.10g}" if name in one else "-" for one in costs]


def _figures(runs: Sequence[run_data.RunData]) -> Iterator[tuple[str, list[str]]]:
    every = dict.fromkeys(name for run in runs for name in run.names)
    for name in sorted(every, key=lambda one: not one.startswith(run_data.HELD_OUT)):
        if name.startswith(run_data.HELD_OUT) or name in run_page.MEANINGS:
            yield name, [display.figure(one[-1][1]) if (one := run.points(name)) else "-" for run in runs]


def _matrix(results: Mapping[str, Any]) -> Iterator[page.Table]:
    who = next((who for who in ("judged", "rewarded") if results.get(who)), "")
    rates: dict[tuple[str, str], float] = {}
    for row in results.get(who, ()):
        if (value := (row.get("wins") or {}).get("value")) is not None:
            rates |= {(row["one"], row["other"]): value, (row["other"], row["one"]): 1 - value}
    names = [model["name"] for model in results["models"]]
    cell = Markup('<b class="m" style="--w:{0:.3f}">{0:.2f}</b>')
    shown = {pair: cell.format(one) for pair, one in rates.items()}
    rows = [(name, [shown.get((name, other), "") for other in names]) for name in names]
    if rates:
        yield page.Table(f"How often the model of a row wins against that of a column, {who}", names, rows)


def _charts(runs: Sequence[run_data.RunData], names: Sequence[str]) -> Iterator[Markup]:
    same_loss = len({run.method for run in runs}) == 1
    for metric in OVERLAID:
        if metric == "loss" and not same_loss:
            continue  # losses of different methods have nothing in common
        for name in (metric, f"{run_data.HELD_OUT}{metric}"):
            if sum(name in run.names for run in runs) > 1:
                series = [charts.Series(one, run.points(name)) for run, one in zip(runs, names, strict=True)]
                yield charts.plot(name, series)
    paths: dict[str, list[charts.Series]] = {}
    for run, one in zip(runs, names, strict=True):
        for title, points in run_page.reward_and_kl(run):
            paths.setdefault(title, []).append(charts.Series(one, points, dots=True))
    for title, series in paths.items():
        note = "From the model as it was given to the end; up is better, right is further from the reference."
        yield charts.plot(title, series, x="KL", named=True, note=note)


def _differing(runs: Sequence[run_data.RunData]) -> Iterator[tuple[str, list[str]]]:
    flat: list[dict[str, Any]] = [{"method": run.method} for run in runs]
    for one, run in zip(flat, runs, strict=True):
        versions = {"versions": run.record.get("versions", {})}
        one |= flatten({**run.settings, **run.record["method_settings"], **versions})
    for key in dict.fromkeys(name for one in flat for name in one):
        values = [one.get(key) for one in flat]
        if key not in UNLIKE and any(one != values[0] for one in values):
            yield key, ["-" if one in (None, [], "") else run_page.plain(one) for one in values]
