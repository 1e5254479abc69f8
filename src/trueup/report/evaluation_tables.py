"""Tables of what evaluation.json holds, for the terminal and for pages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CAPTION = (
    "+- standard error, (to) 95 % interval, both over prompts; kl in nats a response; p corrected for all comparisons; "
    "100 points win 64 of 100; undecided and unreadable pairs count in no rate"
)
HIDDEN = ("name", "one", "other", "step", "p", "length", "probability", "unreadable")


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured, by rows; cells are values as evaluation.json has them."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]


def tables_of(results: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of an evaluation that have something in them."""
    models = list(map(_shown, results["models"]))
    measures = dict.fromkeys(name for row in models for name in row)
    yield Table(
        f"{results['prompts']} prompts",
        [row["name"] for row in results["models"]],
        [(name, [row.get(name) for row in models]) for name in measures],
    )
    for who in ("judged", "rewarded"):
        if rows := results.get(who):
            headings = list(dict.fromkeys(name for row in rows for name in _shown(row)))
            cells = [
                (f"{row['one']} against {row['other']}", [_shown(row).get(h) for h in headings])
                for row in rows
            ]
            yield Table(who, headings, cells)
    if scale := results.get("scale"):
        style = {f"({name})": one for name, one in scale.get("style", {}).items()}
        points = {"scale": scale} if "refused" in scale else scale["points"] | style
        yield Table("all together", ["points"], [(name, [one]) for name, one in points.items()])


def refusals(value: Any) -> Iterator[str]:
    """Why values are refused, wherever they stand."""
    if isinstance(value, Mapping):
        if "refused" in value:
            yield value["refused"]
        value = list(value.values())
    for one in value if isinstance(value, list | tuple) else ():
        yield from refusals(one)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a table shows of a row, by heading."""
    shown = {name.replace("_", " "): value for name, value in row.items() if name not in HIDDEN}
    shown |= shown.pop("ratings", {})
    if implicit := shown.pop("implicit reward", None):
        shown["implicit accuracy"] = implicit["all"].get("pairs", {}).get("accuracy")
    return shown


def cell(value: Any) -> str:
    """A number with what is known of it, as tables show it."""
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
