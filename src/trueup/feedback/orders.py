"""How the responses of one example stand to each other, and what makes an example useless or at odds with itself."""

from collections.abc import Iterable, Sequence

from trueup.feedback.records import Comparison, Example
from trueup.feedback.turns import says_nothing, switched_off
from trueup.words import counted

Value = tuple[int, float]
"""The position of a response, and what is known of it."""


def distinct(example: Example) -> list[Comparison]:
    contents = [response.content for response in example.responses]
    return [one for one in example.comparisons if contents[one.better] != contents[one.worse]]


def agreed(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons without those that are also there the other way round."""
    said = {(one.better, one.worse) for one in comparisons}
    return [one for one in comparisons if (one.worse, one.better) not in said]


def beaten(comparisons: Sequence[Comparison]) -> dict[int, set[int]]:
    """For each response that stands in a comparison, all those that it beats, directly or through others."""
    below: dict[int, set[int]] = {}
    for one in comparisons:
        below.setdefault(one.better, set()).add(one.worse)
        below.setdefault(one.worse, set())
    changed = True
    while changed:
        changed = False
        for under in below.values():
            reached = under.union(*(below[position] for position in under))
            changed = changed or len(reached) > len(under)
            under |= reached
    return below


def wins(comparisons: Sequence[Comparison]) -> dict[int, list[float]]:
    """For each response that stands in a comparison, how surely it was preferred in each of them."""
    found: dict[int, list[float]] = {}
    for one in comparisons:
        found.setdefault(one.better, []).append(one.probability)
        found.setdefault(one.worse, []).append(1 - one.probability)
    return found


def clear_wins(example: Example) -> list[Value]:
    """Of responses always chosen or always rejected: 1 or 0, or the mean of the probabilities or their rests."""
    found = wins(distinct(example))
    clear = {at: sure for at, sure in found.items() if min(sure) > 0.5 or max(sure) < 0.5}
    return [(at, sum(sure) / len(sure)) for at, sure in sorted(clear.items())]


def scores(example: Example) -> list[Value]:
    return [(at, one.score) for at, one in enumerate(example.responses) if one.score is not None]


def labels(example: Example) -> list[Value]:
    return [(at, one.label) for at, one in enumerate(example.responses) if one.label is not None]


def unusable_because(example: Example) -> str | None:
    """Why nothing can be learned from an example, as a clause; None where something can."""
    if any(says_nothing(response.content) for response in example.responses):
        return "a response is empty"
    if example.prompt.content == ():
        return "no turn stands before the response"
    if any(switched_off(response.content) for response in example.responses):
        return "the response is switched off in the loss"
    return None


def contradicts_scores(example: Example) -> bool:
    """Whether a comparison, not contradicted by another, prefers the response with the lower score or label."""
    responses = example.responses
    pairs = [(responses[one.better], responses[one.worse]) for one in agreed(distinct(example))]
    said = [(better.score, worse.score) for better, worse in pairs]
    said += [(better.label, worse.label) for better, worse in pairs]
    return any(high is not None and low is not None and high < low for high, low in said)


def agreement_of_people(examples: Iterable[Example]) -> str | None:
    """For people: who voted on how many pairs, and how far they agree, each by what they first said."""
    said: dict[tuple[int, ...], dict[str, object]] = {}
    for at, example in enumerate(examples):
        for vote in example.votes:
            sides = {"first": vote.first, "second": vote.second}
            winner = sides.get(vote.preferred)
            category = vote.preferred if winner is None else winner == min(sides.values())
            said.setdefault((at, *sorted(sides.values())), {}).setdefault(vote.annotator, category)
    if not said:
        return None
    from trueup.estimates import krippendorff_alpha  # which loads numpy

    names = {name for own in said.values() for name in own}
    shared = [list(own.values()) for own in said.values() if len(own) > 1]
    alpha = krippendorff_alpha(shared)
    known = "" if alpha != alpha else f", Krippendorff's alpha {alpha:.2f}"
    people = "1 person" if len(names) == 1 else f"{len(names)} people"
    return f"votes of {people} on {counted(len(said), 'pair')}, {len(shared)} judged by several{known}"
