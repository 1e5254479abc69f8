"""In which order a pass goes through the data: a function of the seed and the pass alone."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from functools import lru_cache


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, size: int) -> tuple[int, ...]:
    """A permutation of `range(size)` for one pass."""
    places = list(range(size))
    random.Random(f"trueup order {seed} {epoch}").shuffle(places)
    return tuple(places)


def stratified(places: Sequence[int], strata: Sequence[Hashable]) -> tuple[int, ...]:
    """A shuffled order, dealt out so that every stretch of it holds its share of every stratum.

    The j-th of the n places of a stratum goes to the fraction (j + 1/2) / n of the pass, so that a stretch of B of
    N places holds B n / N places of each stratum, give or take one.

    Args:
        places: a permutation; within a stratum its order is kept.
        strata: the stratum of each place, by place.
    """
    members: dict[Hashable, list[int]] = {}
    for place in places:
        members.setdefault(strata[place], []).append(place)
    dealt = [
        ((number + 0.5) / len(group), turn, place)
        for turn, group in enumerate(members.values())
        for number, place in enumerate(group)
    ]
    return tuple(place for _, _, place in sorted(dealt))
