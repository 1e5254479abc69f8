"""How settings are searched, and by what they are chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

Place = dict[str, float]
SETTINGS_AT_MOST = 12
"""Settings that are tried for a row before the search ends where it is."""


def neighbour(value: float, by: int) -> float:
    """The value so many half decades away: 0.001, 0.003, 0.01, ..."""
    place = round(2 * math.log10(value)) + by
    return float(f"{(1, 3)[place % 2]}e{place // 2}")


def search(start: Mapping[str, float], score: Callable[[Place, float], float]) -> tuple[Place, bool]:
    """The place of which no neighbour has a better score, and whether the search came to its end.

    Args:
        score: of a place, given the best one so far; asked once a place.
    """
    known: dict[str, float] = {}

    def scored(place: Place) -> float:
        key = json.dumps(place, sort_keys=True)
        if key not in known:
            known[key] = score(place, max(known.values(), default=-math.inf))
        return known[key]

    best = {name: neighbour(value, 0) for name, value in start.items()}
    scored(best)
    while len(known) < SETTINGS_AT_MOST:
        near = [{**best, name: neighbour(best[name], by)} for name in best for by in (-1, 1)]
        top = max([best, *near], key=scored)
        if top == best:
            return best, True
        best = top
    return best, False


def cautious(values: Sequence[float]) -> float:
    """What settings are chosen by: the mean less the spread."""
    return fmean(values) - (stdev(values) if len(values) > 1 else 0.0)
