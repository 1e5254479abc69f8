"""What pages share: how they are put together and written, and the tables of an evaluation in them."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from trueup import __version__, errors, files, words
from trueup.report import charts

GENERATOR = '<meta name="generator" content="trueup '
"""By which a page is known for one of ours, that may be replaced."""
Z = 1.96
HEAD = 600
CAPTION = (
    "+- standard error, (to) 95 % interval, both over prompts; kl in nats a response; p corrected for all comparisons; "
    "100 points win 64 of 100; undecided and unreadable pairs count in no rate"
)
HELD_OUT = {
    "pairs right": "pairs accuracy", "sure, off by": "pairs expected_calibration_error", "best of n": "best_of_n",
    "labels right": "labels accuracy", "Brier of labels": "labels brier",
}  # fmt: skip
"""Columns of what was measured on held-out feedback, and where evaluation.json has them."""
HIDDEN = ("name", "one", "other", "step", "p", "length", "probability", "unreadable")


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured, by rows; cells are values as evaluation.json has them."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]
    bars: bool = False
    """Draw where intervals lie."""
    words: bool = False
    """The last column is a text."""

    def column(self, at: int) -> list[Any]:
        return [values[at] for _, values in self.rows]


def tables_of(results: Mapping[str, Any]) -> Iterator[Table]:
    models = list(map(_shown, results["models"]))
    measures = dict.fromkeys(name for row in models for name in row)
    of_models = [(name, [row.get(name) for row in models]) for name in measures]
    yield Table(f"{results['prompts']} prompts", [row["name"] for row in results["models"]], of_models)
    rewards = {f"implicit reward of {row['name']}": row.get("implicit_reward") for row in results["models"]}
    rewards["reward"] = results.get("reward_on_held_out")
    of_files = {f"{name}, {file}": one for name, own in rewards.items() for file, one in (own or {}).items()}
    measured = of_files.values()
    columns = {name: path for name, path in HELD_OUT.items() if any(_at(one, path) for one in measured)}
    if columns:
        cells = [(name, [_at(one, path) for path in columns.values()]) for name, one in of_files.items()]
        yield Table("held-out feedback", list(columns), cells)
    for who in ("judged", "rewarded"):
        if rows := results.get(who):
            told = {f"{row['one']} against {row['other']}": _shown(row) for row in rows}
            headings = list(dict.fromkeys(name for row in told.values() for name in row))
            cells = [(pair, [row.get(name) for name in headings]) for pair, row in told.items()]
            yield Table(who, headings, cells, bars=True)
    if scale := results.get("scale"):
        style = {f"({name})": one for name, one in scale.get("style", {}).items()}
        points = {"scale": scale} if "refused" in scale else scale["points"] | style
        yield Table("all together", ["points"], [(name, [one]) for name, one in points.items()], bars=True)


def _at(value: Any, path: str) -> Any:
    for name in path.split():
        value = (value or {}).get(name)
    return value


def refusals(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "refused" in value:
            yield value["refused"]
        value = list(value.values())
    for one in value if isinstance(value, list | tuple) else ():
        yield from refusals(one)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name.replace("_", " "): value for name, value in row.items() if name not in HIDDEN}
    shown |= shown.pop("ratings", {})
    shown.pop("implicit reward", None)
    return shown


def cell(value: Any) -> str:
    """A number with what is known of it, as tables show it; a text is itself."""
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = ".0f" if abs(value) >= 100 else ".2f" if abs(value) >= 0.01 or not value else ".1g"
        return f"{value:{digits}}"
    if not isinstance(value, dict):
        return str(value)
    if "refused" in value:
        return "refused"
    if "low" in value:
        return f"{cell(value['value'])} ({cell(value['low'])} to {cell(value['high'])})"
    return cell(value["value"]) + (f" +- {cell(value['error'])}" if value["error"] is not None else "")


def part(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    script = part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    charts.TEMPLATES.globals |= {
        "style": Markup(part("page.css")), "script": Markup(script), "digest": digest, "version": __version__,
        "cell": cell, "bar": _bar, "caption": CAPTION, "refusals": refusals,
    }  # fmt: skip
    return charts.TEMPLATES


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write a page whole, over one of ours if there is one. Raises InputError: something else is there, or it cannot be
    written."""
    try:
        if path.exists() and GENERATOR not in path.read_text("utf-8", "replace")[:HEAD]:
            raise errors.InputError(f"output {path} is there already and no page of trueup; give another --output")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = words.spelled(_environment().get_template(template).render(values))
        with files.replaced_file(path) as file:
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        raise errors.InputError(f"output {path}: {words.reason(error)}; give another --output") from error


def shown(results: Mapping[str, Any]) -> tuple[list[Table], list[Markup]] | None:
    try:
        return list(tables_of(results)), list(frontier(results))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _bar(value: Any, column: Sequence[Any]) -> Markup:
    known = [one for one in column if isinstance(one, Mapping) and "low" in one]
    if value not in known:
        return Markup("")
    middle = 0.5 if all(one["low"] >= 0 and one["high"] <= 1 for one in known) else 0.0
    most = max(abs(one[end] - middle) for one in known for end in ("low", "high"))
    return charts.interval(value["value"], value["low"], value["high"], middle, 0.5 if middle else most)


def frontier(results: Mapping[str, Any]) -> Iterator[Markup]:
    series, references = [], {model.get("reference") for model in results["models"]}
    for model in results["models"]:
        kl, reward = model.get("kl"), model.get("reward")
        if reward is None or ("refused" in kl if kl else model["name"] not in references):
            continue
        x, wide = (kl["value"], Z * (kl["error"] or 0)) if kl else (0.0, 0.0)
        y, high = reward["value"], Z * (reward["error"] or 0)
        spread = [(x - wide, x + wide, y - high, y + high)]
        series.append(charts.Series(model["name"], [(x, y)], True, spread))
    note, x_axis = "With 95 % intervals. The reference is at 0.", "KL from the reference, nats a response"
    if len(series) > 1 and any(one.points[0][0] for one in series):
        yield charts.plot("Reward against KL", series, x=x_axis, named=True, note=note)
