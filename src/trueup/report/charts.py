"""Charts as SVG in a page: the same figures give the same bytes, and a title and a description say them in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trueup.display import figure

TEMPLATES = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).with_name("templates")))
TEMPLATES.trim_blocks = TEMPLATES.lstrip_blocks = True
TEMPLATES.undefined = StrictUndefined
TEMPLATES.globals["figure"] = figure
LEFT, RIGHT, TOP, BOTTOM = 50, 330, 12, 156
"""Of the frame, as the template has it too."""
MOST_POINTS = 240
"""Of a curve. A longer one is drawn as means of neighbours, with their least and greatest as a band behind."""
TICKS = 4
Point = tuple[float, float]
Spread = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A curve, or points with what is known of them: `Series("loss", [(0, 0.69), (1, 0.68)])`."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    spread: Sequence[Spread] = ()
    start: bool = False

    def words(self, x: str) -> str:
        ys = [point[1] for point in self.points]
        first, last = (f"{figure(y)} at {x} {_number(at)}" for at, y in (self.points[0], self.points[-1]))
        more = f", {last}, least {figure(min(ys))}, greatest {figure(max(ys))}" if len(ys) > 1 else ""
        return f"{self.name}: {first}{more}."


def plot(title: str, series: Sequence[Series], *, x: str = "step", named: bool = False, note: str = "") -> Markup:
    """A figure with its legend, of the series that have points; `named` writes names beside last points."""
    shown = [one for one in series if one.points]
    if not shown:
        return Markup("")
    wide = [one for several in shown for one in several.spread]
    xs = [x for one in shown for x, _ in one.points] + [end for one in wide for end in one[:2]]
    ys = [y for one in shown for _, y in one.points] + [end for one in wide for end in one[2:]]
    values: dict[str, Any] = {
        "title": title,
        "note": note,
        "x": x,
        "named": named,
        "told": " ".join(one.words(x) for one in shown),
    }
    values |= {"across": _Axis(xs, LEFT, RIGHT), "down": _Axis(ys, BOTTOM, TOP)}
    heights, above = dict[str, float](), 0.0
    for height, name in sorted((values["down"](one.points[-1][1]) - 6, one.name) for one in shown):
        heights[name] = above = max(height, above + 11)  # no name over another
    values["heights"] = heights
    every = [(one, *thinned(one.points)) for one in shown]
    return Markup(TEMPLATES.get_template("chart.html.jinja").render(values, shown=every))


def interval(value: float, low: float, high: float, middle: float, most: float) -> Markup:
    at = [round(60 + 56 * (one - middle) / (most or 1.0), 1) for one in (low, high, value)]
    words = f"{figure(value)}, between {figure(low)} and {figure(high)}"
    return Markup(
        '<svg class="bar" viewBox="0 0 120 16" role="img"><title>{}</title><path class="grid" d="M60 1L60 15"/>'
        '<path class="l0" d="M{} 8H{}"/><circle class="c0" cx="{}" cy="8" r="3.5"/></svg>'
    ).format(words, *at)


class _Axis:
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end
        raw = high / TICKS - low / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        self.step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * 0.999)
        first, last = math.ceil(low / self.step - 1e-9), math.floor(high / self.step + 1e-9)
        self.ticks = [number * self.step for number in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return round(self.start + share * (self.end - self.start), 1)

    def label(self, tick: float) -> str:
        return f"{tick:,.0f}" if self.step >= 1 and abs(tick) < 1e6 else figure(tick + 0.0)


def thinned(points: Sequence[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    means, low, high = [], [], []
    for start in range(0, len(points), size):
        xs, ys = zip(*points[start : start + size], strict=True)
        x = sum(xs) / len(xs)
        means.append((x, sum(ys) / len(ys)))
        low.append((x, min(ys)))
        high.append((x, max(ys)))
    return means, low, high


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else figure(value)
