"""The report of a run: one file that says what was trained on what, how it went, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trueup import display, files, methods, metrics, words
from trueup.report import charts, page, run_data

REPORT = "report.html"
MEANINGS = {name: meaning for name, (_, _, meaning) in metrics.FIGURES.items() if meaning}
TABLE = files.table_beside(__file__, "run_page.toml")
Chart = tuple[str, Sequence[str], str]
MOST_CHARTS = 80
"""Of what no section has."""
MOST_SAMPLES, MOST_TEXT = 400, 600_000
"""Responses in the table, and their bytes as they stand in the page."""
PANELS = 3
UNSAID = ("first", "alike", "shared", "gold_right")


def write_report(
    folder: Path, status: Mapping[str, Any], output: Path | None = None, votes: Sequence[str] = ()
) -> Path:
    """Write the page of a run that stands as its status says, into its folder or as another file; `votes`: files with
    judgements of people. Raises InputError: there is no run, a file holds no votes, or the page cannot be written."""
    path = output or folder / REPORT
    page.write_page(path, "run_page.html.jinja", _values(run_data.RunData(folder, status), votes))
    return path


def report_at_end(folder: Path, status: Mapping[str, Any]) -> None:
    """Write the page of a run that is done or broke off; that it could not be is said, and costs nothing else."""
    try:
        words.logger.info(f"how it went: {write_report(folder, status)}")
    except Exception as error:  # whatever it is, the run and its own error count for more
        why = words.reason(error)
        words.logger.warning(f"the report was not written: {why}. Try again with: trueup report {folder}")


def _values(run: run_data.RunData, votes: Sequence[str]) -> dict[str, Any]:
    used: set[str] = set()
    sections = {title: list(_charts(run, chosen, used)) for title, chosen in TABLE["sections"].items()}
    note = "Up is better, right is further from the reference, in nats a response. The last point is the end."
    for title, points in reward_and_kl(run):
        series = [charts.Series("on the way", points, True, start=True)]
        sections["Reward and divergence"].append(charts.plot(title, series, x="KL", note=note))
    people = []
    if votes:
        from trueup.report import voters  # which loads numpy

        people = list(voters.of_votes(run, votes))
    others = [name for name in run.names if name not in used and any(value for _, value in run.points(name))]
    bare = dict.fromkeys(name.removeprefix(run_data.HELD_OUT) for name in others)
    rest = [(name, (name,), "") for name in list(bare)[:MOST_CHARTS]]
    every = run.samples()
    samples, left = _fitting(every)
    told = {place: page.shown(results) for place, results in run.evaluations.items()}
    evaluations = [(place.relative_to(run.folder), *one) for place, one in told.items() if one]
    not_ours = "is not as trueup evaluate writes it, and is left out"
    run.problems += [f"{place.name} {not_ours}" for place, one in told.items() if not one]
    return {
        "name": run.name, "run": run,
        "title": methods.METHODS[run.method].title if run.method in methods.METHODS else run.method,
        "state": TABLE["states"].get(str(run.status.get("state")), "has no status"),
        "warnings": [*map(str, run.status.get("warnings") or ()), *run.problems],
        "happened": list(_happened(run)), "about": list(_about(run)), "changes": _changes(run),
        "sections": sections, "rest": list(_charts(run, rest, set())), "panels": list(_panels(run, every)),
        "samples": samples, "samples_left": left, "people": people,
        "judge": page.Table("", (), [(name, [said]) for name, said in _judge(run)], words=True),
        "reliability": _reliability(run.calibration), "evaluations": evaluations,
        "config": run.config(), "log": "\n".join(run.log[-400:]),
    }  # fmt: skip


def _about(run: run_data.RunData) -> Iterator[tuple[str, str]]:
    settings = run.settings
    yield "method", run.method
    for name in ("model", "data", "prompts", "eval_data", "annotator"):
        if settings.get(name):
            yield name.replace("_", " "), plain(settings[name])
    yield from (("", line) for line in run.feedback[:8])
    if reference := run.record["method_settings"].get("reference"):
        yield "reference", f"{plain(reference)} {run.record.get('reference') or ''}".strip()
    what, rate, size = settings.get("lora"), settings.get("learning_rate"), settings.get("batch_size")
    yield "trained", f"{'an adapter' if what else 'every weight'}, learning rate {rate}, batches of {size}"
    flops = "" if run.flops is None else f", about {display.figure(run.flops)} FLOPs"
    yield "cost", f"{display.duration(run.total('seconds'))} in steps, {run.total('tokens'):,.0f} tokens{flops}"


def plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(one)}" for key, one in run_data.known(value).items())
    return words.listed(map(plain, value), 8) if isinstance(value, list) else str(value)


def _changes(run: run_data.RunData) -> page.Table:
    prefixes = ("", run_data.HELD_OUT) if any(name.startswith(run_data.HELD_OUT) for name in run.names) else ("",)
    rows = []
    for bare, meaning in MEANINGS.items():
        both = [run.points(f"{prefix}{bare}") for prefix in prefixes]
        if any(both):
            ends = [(display.figure(one[0][1]), display.figure(_end(one))) if one else ("", "") for one in both]
            rows.append((bare, [*sum(ends, ()), meaning]))
    headings = ("at first", "at the end", "held out, at first", "at the end")
    return page.Table("", [*headings[: 2 * len(prefixes)], "what it is"], rows, words=True)


def _end(points: Sequence[charts.Point]) -> float:
    last = [value for _, value in points[-min(50, max(1, len(points) // 10)) :]]
    return sum(last) / len(last)


def _charts(run: run_data.RunData, chosen: Sequence[Chart], used: set[str]) -> Iterator[Markup]:
    for title, names, note in chosen:
        every = [name for bare in names for name in (bare, f"{run_data.HELD_OUT}{bare}") if name in run.names]
        used |= set(every)
        points = [(name, run.points(name), name.startswith(run_data.HELD_OUT)) for name in every]
        series = [charts.Series(name, at, old and len(at) <= 40, start=not old) for name, at, old in points]
        if chart := charts.plot(title, series, note=note):
            yield chart


def reward_and_kl(run: run_data.RunData) -> Iterator[tuple[str, list[charts.Point]]]:
    """Of every score of samples, a title and points (divergence, score): means of neighbours where there are many."""
    for name in run.names:
        stem = name.removesuffix("score").removesuffix("win_rate").removesuffix("wins")
        own = (f"{stem}sequence_kl", f"{stem}kl")
        others = own if name.startswith(run_data.HELD_OUT) else (*own, "objective/kl", "kl")
        other = next((one for one in others if one in run.names), None)
        if stem == name or other is None:
            continue
        kl = dict(run.points(other))
        both = [(kl[step], score) for step, score in run.points(name) if step in kl]
        size = max(1, len(both) // 8)
        groups = [both[at : at + size] for at in range(0, len(both), size)]
        points = [(sum(x for x, _ in one) / len(one), sum(y for _, y in one) / len(one)) for one in groups]
        if len(points) > 1:
            yield f"{name} against {other}", points


def _happened(run: run_data.RunData) -> Iterator[str]:
    if len(away := run.points(f"{run_data.HELD_OUT}drift/chosen") or run.points("drift/chosen")) > 1:
        if _end(away) < 0:
            yield TABLE["below"].format(display.figure(-_end(away)), next(step for step, value in away if value < 0))
        else:
            yield "Chosen responses are at least as likely as under the reference, on average."
    for name in run.names:
        points, unit = run.points(name), name.rpartition("/")[2]
        of_length = unit in ("words", f"{run_data.HELD_OUT}words", f"{run_data.HELD_OUT}length")
        if of_length and len(points) > 1 and points[0][1] > 0:
            times = _end(points) / points[0][1]
            alone = " See whether what they gained in score is length alone." if times > 1.3 else ""
            ends = f"{name}: {display.figure(points[0][1])}, then {display.figure(_end(points))}"
            yield f"Responses are {display.figure(times)} times as long as at first ({ends}).{alone}"
    if len(score := run.points("online/score")) > 1:
        yield f"The mean score of samples went from {display.figure(score[0][1])} to {display.figure(_end(score))}."
    if held := run.points(f"{run_data.HELD_OUT}rewards/accuracies"):
        yield f"Of held-out pairs {held[-1][1]:.0%} are ordered rightly."


def _judge(run: run_data.RunData) -> Iterator[tuple[str, str]]:
    every: dict[str, Any] = {"": run.summed("annotator/")}
    for path, results in run.evaluations.items():
        cost = results["cost"] if isinstance(results.get("cost"), dict) else {}
        every |= {f"{path.parent.name}, {who}: ": one for who, one in cost.items()}
    for where, totals in every.items():
        told = totals.items() if isinstance(totals, dict) else ()
        numbers = {name: one for name, one in told if isinstance(one, int | float)}
        for name, value in numbers.items():
            if "/" not in name and name not in UNSAID:
                yield f"{where}{TABLE['judge'].get(name, name.replace('_', ' '))}", f"{value:,.10g}"
        for line in _jury(numbers):
            yield f"{where}{line.partition(': ')[0]}", line.partition(": ")[2]
        read = numbers.get("verdicts", 0) - numbers.get("unreadable", 0)
        if read > 0 and "first" in numbers:
            said = "position bias: how likely the response shown first is preferred, where 0.5 is fair"
            yield f"{where}{said}", f"{numbers['first'] / read:.3f}"


def _jury(totals: Mapping[str, float]) -> list[str]:
    if not any("/" in name for name in totals):
        return []
    from trueup.annotators.jury import jury_lines  # which loads numpy

    try:
        return list(jury_lines(totals))
    except (ValueError, ArithmeticError):  # totals that no jury has
        return []


def _reliability(found: Mapping[str, Any] | None) -> Markup:
    try:
        told = found or {"bins": None}
        bins = [[float(one[name] or 0) for name in ("said", "seen", "error")] for one in told["bins"]]
        right = float(told["accuracy"]["value"])
    except (KeyError, TypeError, ValueError):
        return Markup("")
    spread = [(x, x, y - error, y + error) for x, y, error in bins]
    seen = charts.Series("seen", [(x, y) for x, y, _ in bins], True, spread)
    even = charts.Series("as sure as it should be", [(0.5, 0.5), (1.0, 1.0)])
    note = f"Accuracy on held-out pairs {display.figure(right)}. How sure an order is, and how often it is right."
    return charts.plot("Calibration of the scores", [seen, even], x="said", note=note)


def _fitting(samples: Sequence[run_data.Sample]) -> tuple[list[run_data.Sample], int]:
    """As many as there is room for, last and first ones in turn, in their order; and how many are left out."""
    room, kept = MOST_TEXT, set[int]()
    for number in range(min(len(samples), MOST_SAMPLES)):
        at = number // 2 if number % 2 else len(samples) - 1 - number // 2
        room -= len(Markup.escape(samples[at].prompt + samples[at].response).encode()) + 200
        if room < 0:
            break
        kept.add(at)
    return [samples[at] for at in sorted(kept)], len(samples) - len(kept)


Side = tuple[str, run_data.Sample]


def _panels(run: run_data.RunData, every: Sequence[run_data.Sample]) -> Iterator[tuple[str, list[tuple[Side, Side]]]]:
    by_prompt: dict[str, list[run_data.Sample]] = {}
    for one in every:
        if one.evaluated:
            by_prompt.setdefault(one.prompt, []).append(one)
    compared: list[tuple[float, Side, Side]] = []
    for group in by_prompt.values():
        own = next((one for one in group if Path(one.source).name == run.folder.resolve().name), None)
        other = next((one for one in reversed(group) if own and one.source != own.source), None)
        if own and other and (worth := _worth(own, other)) is not None:
            compared.append((worth, (own.source, own), (other.source, other)))
    compared.sort(key=lambda one: -one[0])
    if compared:
        half = min(PANELS, (len(compared) + 1) // 2)
        yield "Where it gained most", [(a, b) for _, a, b in compared[:half]]
        yield "Where it lost most", [(a, b) for _, a, b in compared[::-1][:half]]
        return
    last = max((one.order for one in every), default=0)
    recent = {one for one in every if one.order >= 0.8 * last and one.score is not None}
    ranked = sorted(recent, key=lambda one: (-(one.score or 0), one.order, one.prompt, one.response))
    if size := min(PANELS, len(ranked) // 2):
        pairs = zip(ranked[:size], ranked[::-1][:size], strict=True)
        yield "Best and worst of the last samples", [(("best", a), ("worst", b)) for a, b in pairs]


def _worth(own: run_data.Sample, other: run_data.Sample) -> float | None:
    if own.score is not None and other.score is not None:
        return own.score - other.score
    return None if own.preferred is None else own.preferred - 0.5
