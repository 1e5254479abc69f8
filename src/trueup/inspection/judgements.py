"""What examples say of their responses, and where they repeat or contradict themselves or each other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from trueup.feedback import views
from trueup.feedback.groups import Discarded
from trueup.feedback.orders import beaten, distinct
from trueup.feedback.records import Example, content_key


@dataclass(frozen=True, slots=True)
class Clash:
    """Two examples that do not go together."""

    first: Example
    second: Example


def judged_pairs(example: Example) -> list[tuple[int, int]]:
    """(better, worse) of every pair that training by pairs would use, positions among the example's responses."""
    made = views.pairs(example)
    if isinstance(made, Discarded):
        return []
    places = {content_key(one.content): at for at, one in reversed(list(enumerate(example.responses)))}
    at = [places[content_key(content)] for content in made.responses]
    return [(at[better], at[worse]) for better, worse, _ in made.relation.pairs]


def duplicates(examples: Sequence[Example]) -> list[Clash]:
    """Examples that repeat an earlier one: the same prompt, responses and feedback, in whatever order."""
    first: dict[Hashable, Example] = {}
    found = []
    for example in examples:
        key = _whole_key(example)
        if key in first:
            found.append(Clash(first[key], example))
        first.setdefault(key, example)
    return found


def _whole_key(example: Example) -> Hashable:
    keys = [content_key(one.content) for one in example.responses]
    responses = [
        (key, one.score, one.label, one.demonstration)
        for key, one in zip(keys, example.responses, strict=True)
    ]
    comparisons = [(keys[one.better], keys[one.worse], one.probability) for one in example.comparisons]
    return example.prompt.key, tuple(sorted(responses, key=repr)), tuple(sorted(comparisons, key=repr))


def identical(example: Example) -> bool:
    """Whether two of the responses are the same."""
    keys = [content_key(one.content) for one in example.responses]
    return len(set(keys)) < len(keys)


def contradicts_itself(example: Example) -> bool:
    """Whether its comparisons go in a circle; the shortest is A over B and B over A."""
    return any(position in under for position, under in beaten(distinct(example)).items())


def opposite_pairs(examples: Sequence[Example]) -> list[Clash]:
    """Examples of one prompt of which one prefers A to B and a later one B to A; each later one once."""
    said: dict[object, Example] = {}
    found = []
    for example in examples:
        prompt, keys = example.prompt.key, [content_key(one.content) for one in example.responses]
        here = [(keys[better], keys[worse]) for better, worse in judged_pairs(example)]
        against = (said.get((prompt, worse, better)) for better, worse in here)
        if (earlier := next((one for one in against if one is not None), None)) is not None:
            found.append(Clash(earlier, example))
        for better, worse in here:
            said.setdefault((prompt, better, worse), example)
    return found


def opposite_labels(examples: Sequence[Example]) -> list[Clash]:
    """Examples that label a response above 0.5 where an earlier one, or they themselves, label it below, or the
    other way round."""
    said: dict[object, Example] = {}
    found = []
    for example in examples:
        prompt = example.prompt.key
        earlier: Example | None = None
        for one in example.responses:
            if one.label is None or one.label == 0.5:
                continue
            key = content_key(one.content)
            earlier = earlier or said.get((prompt, key, one.label < 0.5))
            said.setdefault((prompt, key, one.label > 0.5), example)
        if earlier is not None:
            found.append(Clash(earlier, example))
    return found


@dataclass(frozen=True, slots=True)
class Shared:
    """An evaluation prompt that is trained on."""

    evaluation: Example
    training: tuple[Example, ...]


def shared_prompts(training: Sequence[Example], evaluation: Sequence[Example]) -> list[Shared]:
    """Evaluation examples whose prompt is also one of the training data, and where there."""
    known: dict[object, list[Example]] = {}
    for example in training:
        known.setdefault(example.prompt.key, []).append(example)
    keyed = ((example, known.get(example.prompt.key)) for example in evaluation)
    return [Shared(example, tuple(same)) for example, same in keyed if same]
