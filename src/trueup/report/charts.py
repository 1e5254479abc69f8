"""Charts as SVG in a page: the same figures give the same bytes, and a title and a description say them in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueup.display import figure

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 12, 34
MOST_POINTS = 240
"""Of a curve. A longer one is drawn as means of neighbours, with their least and greatest as a band behind."""
COLOURS = 8
TICKS = 4
Point = tuple[float, float]
Spread = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A curve, or points with what is known of them: `Series("loss", [(0, 0.69), (1, 0.68)])`."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    """Mark each point, as of what is measured seldom."""
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
    across, down = _Axis(xs, LEFT, WIDTH - RIGHT), _Axis(ys, HEIGHT - BOTTOM, TOP)
    parts = [
        *(_line("grid", LEFT, down(tick), WIDTH - RIGHT, down(tick)) for tick in down.ticks),
        *(_text(LEFT - 6, down(tick) + 4, "end", down.label(tick)) for tick in down.ticks),
        *(_text(across(tick), HEIGHT - BOTTOM + 15, "middle", across.label(tick)) for tick in across.ticks),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "middle", x),
    ]
    for place, one in enumerate(shown):
        if one.start and len(one.points) > 1:
            at = down(one.points[0][1])
            parts.append(_line(f"start l{place % COLOURS}", LEFT, at, WIDTH - RIGHT, at))
    parts += [part for at, one in enumerate(shown) for part in _shapes(one, at, across, down)]
    if named:
        parts += [_name(one, across, down) for one in shown]
    told = " ".join(one.words(x) for one in shown)
    key = Markup('<li><i class="c{}"></i><span dir="auto">{}</span> <b>{}</b></li>')
    keys = Markup("").join(key.format(at % COLOURS, one.name, _change(one)) for at, one in enumerate(shown))
    said = Markup("<p>{}</p>").format(note) if note else ""
    return Markup(
        "<figure><figcaption>{0}</figcaption>{1}"
        '<svg viewBox="0 0 {2} {3}" role="img"><title>{0}</title><desc>{4}</desc>{5}</svg>'
        '<ul class="legend">{6}</ul></figure>'
    ).format(title, said, WIDTH, HEIGHT, told, Markup("").join(parts), keys)


def interval(value: float, low: float, high: float, middle: float, most: float) -> Markup:
    """A small bar for a table: where a number lies, at most so far from a middle that is marked."""
    at = [round(60 + 56 * (one - middle) / (most or 1.0), 1) for one in (low, high, value)]
    words = f"{figure(value)}, between {figure(low)} and {figure(high)}"
    return Markup(
        '<svg class="bar" viewBox="0 0 120 16" role="img"><title>{}</title>{}<path class="l0" d="M{} 8H{}"/>'
        '<circle class="c0" cx="{}" cy="8" r="3.5"/></svg>'
    ).format(words, _line("grid", 60, 1, 60, 15), *at)


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


def _shapes(one: Series, place: int, across: _Axis, down: _Axis) -> list[Markup]:
    colour, parts = place % COLOURS, []
    means, low, high = thinned(one.points)
    line = [f"{across(x)},{down(y)}" for x, y in means]
    if len(means) < len(one.points):
        band = [f"{across(x)},{down(y)}" for x, y in (*low, *reversed(high))]
        parts.append(Markup('<polygon class="b{}" points="{}"/>').format(colour, " ".join(band)))
    for left, right, bottom, top in one.spread:
        x, y = across(left / 2 + right / 2), down(bottom / 2 + top / 2)
        parts.append(_line(f"l{colour} thin", across(left), y, across(right), y))
        parts.append(_line(f"l{colour} thin", x, down(bottom), x, down(top)))
    if len(means) > 1:
        dash = " dash" if place >= COLOURS else ""
        parts.append(Markup('<polyline class="l{}{}" points="{}"/>').format(colour, dash, " ".join(line)))
    if one.dots or len(means) == 1:
        dot = Markup('<circle class="c{}" cx="{}" cy="{}" r="3"/>')
        parts += [dot.format(colour, *point.split(",")) for point in line]
    return parts


def thinned(points: Sequence[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    """At most `MOST_POINTS` means of neighbours, their least and their greatest values."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    means, low, high = [], [], []
    for start in range(0, len(points), size):
        xs, ys = zip(*points[start : start + size], strict=True)
        x = sum(xs) / len(xs)
        means.append((x, sum(ys) / len(ys)))
        low.append((x, min(ys)))
        high.append((x, max(ys)))
    return means, low, high


def _name(one: Series, across: _Axis, down: _Axis) -> Markup:
    x, y = across(one.points[-1][0]), down(one.points[-1][1]) - 6
    said = one.name if len(one.name) <= 28 else f"{one.name[:12]}...{one.name[-13:]}"
    return _text(x - 7, y, "end", said) if x > (LEFT + WIDTH) / 2 else _text(x + 7, y, "start", said)


def _line(name: str, *ends: float) -> Markup:
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(name, *(round(one, 1) for one in ends))


def _text(x: float, y: float, anchor: str, said: str) -> Markup:
    text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
    return text.format(round(x, 1), round(y, 1), anchor, said)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else figure(value)


def _change(one: Series) -> str:
    first, last = figure(one.points[0][1]), figure(one.points[-1][1])
    return first if len(one.points) == 1 else f"{first} \N{RIGHTWARDS ARROW} {last}"
