"""Best of n without training: of each prompt the one response that was judged best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trueup.feedback.groups import Discarded
from trueup.feedback.orders import Value, scores, wins
from trueup.feedback.records import Example


def best_of(example: Example) -> Example | Discarded:
    """The example with its best response alone, which keeps its score; of equals the first.

    Where there are comparisons instead of scores, the score is the mean probability of being preferred to each of the
    other responses, 1/2 where two were not told apart.
    """
    found = list(scores(example)) or shares(example)
    if not found:
        return Discarded("nothing says which response is best", example.origin)
    at, score = max(found, key=lambda value: value[1])
    return replace(example, responses=(replace(example.responses[at], score=score),), comparisons=())


def shares(example: Example) -> list[Value]:
    """How surely each response is preferred to the others, in [0, 1]; nothing without comparisons."""
    if not example.comparisons:
        return []
    found, others = wins(example.comparisons), len(example.responses) - 1
    return [
        (at, (sum(sure) + 0.5 * (others - len(sure))) / others)
        for at, sure in ((at, found.get(at, [])) for at in range(others + 1))
    ]


def best_of_each(examples: Sequence[Example]) -> tuple[list[Example], list[Discarded]]:
    """The best of each example, and the examples that have none."""
    made = [best_of(example) for example in examples]
    return (
        [one for one in made if isinstance(one, Example)],
        [one for one in made if isinstance(one, Discarded)],
    )
