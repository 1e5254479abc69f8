"""Views: what a kind of method uses of an example: `Example -> Group | Discarded`. A view only discards."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trueup.errors import InputError
from trueup.feedback import records
from trueup.feedback.records import Discarded, Example, Group, Origin, View, count
from trueup.words import counted

R = TypeVar("R")
Found = Group[R] | Discarded

SINGLE = "a single response cannot be ranked"
IDENTICAL = "identical pair"
CONTRADICTING = "comparisons contradict each other"
SCORES_EQUAL = "all scores equal"
LABELS_EQUAL = "all labels equal"
SCORES_ALONE = "scores are not labels; make labels of them with --scale where the method has it, or rank by scores"
UNSCORED = "no response has a reward"
NOT_ALL_SCORED = "a response without a score; comparisons and labels do not do here, give a reward that scores each"
ALONE = "a single response, which leaves no other to measure it against"


def pairs(example: Example) -> Found[records.PairRelation]:
    """Which response was preferred to which.
    Comparisons as given, without those of identical responses and those that contradict each other. Where there are
    none: every two responses with different scores; where there are no two scores, with different labels."""
    found = ordered_pairs(example)
    return found if isinstance(found, Discarded) else group_of_pairs(example, found)


def ordered_pairs(example: Example) -> list[tuple[int, int, float]] | Discarded:
    """(better, worse, probability) of the pairs that `pairs` finds, by the responses' positions in the example."""
    if example.comparisons:
        compared = records.distinct(example)
        found = [(one.better, one.worse, one.probability) for one in records.agreed(compared)]
        return found or Discarded(CONTRADICTING if compared else IDENTICAL, example.origin)
    given, equal = records.scores(example), SCORES_EQUAL
    if len(given) < 2:
        given, equal = records.labels(example), LABELS_EQUAL
    if len(given) < 2:
        return Discarded("nothing compares two responses", example.origin)
    ordered = [(better, worse) for better, high in given for worse, low in given if high > low]
    contents = [response.content for response in example.responses]
    found = [(better, worse, 1.0) for better, worse in ordered if contents[better] != contents[worse]]
    return found or Discarded(IDENTICAL if ordered else equal, example.origin)


def judged_pairs(example: Example) -> list[tuple[int, int]]:
    """(better, worse) of every pair that training by pairs would use, positions among the example's responses."""
    found = ordered_pairs(example)
    return [] if isinstance(found, Discarded) else [(better, worse) for better, worse, _ in found]


def group_of_pairs(example: Example, found: Sequence[tuple[int, int, float]]) -> Group[records.PairRelation]:
    used = sorted({position for better, worse, _ in found for position in (better, worse)})
    renumbered = tuple((used.index(better), used.index(worse), sure) for better, worse, sure in found)
    return group(example, used, records.PairRelation(renumbered))


def pairs_with_demonstration(example: Example) -> Found[records.DemonstratedPairRelation]:
    """As `pairs`, with the first response that is marked as a demonstration, to be imitated beside them."""
    paired = pairs(example)
    if isinstance(paired, Discarded):
        return paired
    marked = [response.content for response in example.responses if response.demonstration]
    if not marked:
        return Discarded("no demonstration beside the pairs", example.origin)
    responses, tokens = paired.responses, paired.tokens
    if marked[0] not in responses:
        responses, tokens = (*responses, marked[0]), (*tokens, None) if tokens else ()
    relation = records.DemonstratedPairRelation(paired.relation, responses.index(marked[0]))
    return Group(example.prompt, responses, relation, tokens)


def rankings(example: Example) -> Found[records.RankRelation]:
    """A score for each of at least two responses.
    The scores, if all have one. Otherwise comparisons, if they order the responses they compare: the score is how
    many of these a response beats, directly or through others. Otherwise labels, if all have one. Otherwise the
    responses that have a score, or else those that have a label."""
    total = len(example.responses)
    if total == 1:
        return Discarded(SINGLE, example.origin)
    scored, labelled = records.scores(example), records.labels(example)
    if len(scored) == total:
        return ranked(example, scored, SCORES_EQUAL)
    if example.comparisons:
        compared = records.distinct(example)
        if not compared:
            return Discarded(IDENTICAL, example.origin)
        below = records.beaten(compared)
        if any(position in under for position, under in below.items()):
            return Discarded(CONTRADICTING, example.origin)
        counted = [(position, float(len(below[position]))) for position in sorted(below)]
        # Two responses that nothing compares, directly or through others, must not get different scores.
        both = ((one, other) for one in counted for other in counted)
        if all((high > low) == (worse in below[better]) for (better, high), (worse, low) in both):
            return ranked(example, counted, CONTRADICTING)
    if len(labelled) == total or len(labelled) >= 2 > len(scored):
        return ranked(example, labelled, LABELS_EQUAL)
    if len(scored) >= 2:
        return ranked(example, scored, SCORES_EQUAL)
    reason = "comparisons leave the order open" if example.comparisons else "nothing ranks two responses"
    return Discarded(reason, example.origin)


def ranked(example: Example, values: Sequence[records.Value], equal: str) -> Found[records.RankRelation]:
    if len({value for _, value in values}) < 2:
        return Discarded(equal, example.origin)
    used = [position for position, _ in values]
    if all(example.responses[position].content == example.responses[used[0]].content for position in used):
        return Discarded("all responses identical", example.origin)
    return group(example, used, records.RankRelation(tuple(value for _, value in values)))


def points_with_demonstrations(example: Example) -> Found[records.PointRelation]:
    return points(example, mark=True)


def points(example: Example, *, mark: bool = False) -> Found[records.PointRelation]:
    """A label in [0, 1] per response; a demonstration without a label has the label 1; `mark` marks those.
    Where there is neither, comparisons: 1 for the chosen and 0 for the rejected response, or the probability and its
    rest; the mean of several. One that was both chosen and rejected is left out."""
    found = dict(records.labels(example))
    for position, response in enumerate(example.responses):
        if response.demonstration:
            found.setdefault(position, 1.0)
    if not found and example.comparisons:
        if not records.distinct(example):
            return Discarded(IDENTICAL, example.origin)
        found = dict(records.clear_wins(example))
        if not found:
            return Discarded("every response is both chosen and rejected", example.origin)
    if not found:
        reason = SCORES_ALONE if records.scores(example) else "nothing labels a response"
        return Discarded(reason, example.origin)
    used = sorted(found)
    marks = tuple(mark and example.responses[position].demonstration for position in used)
    return group(example, used, records.PointRelation(tuple(found[position] for position in used), marks))


def demonstrations(example: Example) -> Found[records.DemonstrationRelation]:
    """Responses to imitate: those marked as demonstrations.
    Where there are none: those chosen and never rejected; or those labelled 1; or the first with the best score."""
    used = [position for position, response in enumerate(example.responses) if response.demonstration]
    reason = "nothing says which response to imitate"
    if not used and example.comparisons:
        compared = records.distinct(example)
        used = sorted(position for position, sure in records.wins(compared).items() if min(sure) > 0.5)
        reason = "every response lost a comparison" if compared else IDENTICAL
    elif not used and records.labels(example):
        used = [position for position, label in records.labels(example) if label == 1]
        reason = "no response labelled 1"
    elif not used and records.scores(example):
        used = [max(records.scores(example), key=lambda value: value[1])[0]]
    if not used:
        return Discarded(reason, example.origin)
    return group(example, used, records.DemonstrationRelation())


# Of responses by their scores, which a transform has put on one scale: those to imitate, and how much.


def filtered_demonstrations(example: Example, *, threshold: float) -> Found[records.DemonstrationRelation]:
    scores = records.scores(example)
    used = [at for at, score in scores if score > threshold]
    if not used:
        return Discarded("no response is above the threshold" if scores else UNSCORED, example.origin)
    return group(example, used, records.DemonstrationRelation())


def best_demonstrations(example: Example) -> Found[records.DemonstrationRelation]:
    if not records.scores(example):
        return Discarded(UNSCORED, example.origin)
    at, _ = max(records.scores(example), key=lambda value: value[1])
    return group(example, [at], records.DemonstrationRelation())


def weighted_demonstrations(example: Example) -> Found[records.WeightRelation]:
    found = [(at, score) for at, score in records.scores(example) if score > 0]
    if not found:
        return Discarded(UNSCORED, example.origin)
    return group(example, [at for at, _ in found], records.WeightRelation(tuple(score for _, score in found)))


def graded_pairs(example: Example) -> Found[records.GradedPairRelation]:
    """As `pairs`, with how much better the chosen response of each was scored than the rejected one."""
    found = ordered_pairs(example)
    if isinstance(found, Discarded):
        return found
    known = dict(records.scores(example))
    sides = [(known.get(better), known.get(worse)) for better, worse, _ in found]
    gaps = tuple(0.0 if high is None or low is None else max(0.0, high - low) for high, low in sides)
    made = group_of_pairs(example, found)
    return Group(made.prompt, made.responses, records.GradedPairRelation(made.relation, gaps), made.tokens)


def scored(example: Example, *, least: int = 1) -> Found[records.RankRelation]:
    """All of at least `least` responses with their scores, identical ones too: they are draws of a policy."""
    found = records.scores(example)
    if len(found) < max(least, len(example.responses)):
        return Discarded(NOT_ALL_SCORED if len(found) < len(example.responses) else ALONE, example.origin)
    return group(example, [at for at, _ in found], records.RankRelation(tuple(score for _, score in found)))


def group(example: Example, used: Sequence[int], relation: R) -> Group[R]:
    contents = tuple(example.responses[position].content for position in used)
    tokens = tuple(example.responses[position].tokens for position in used)
    return Group(example.prompt, contents, relation, tokens if any(tokens) else ())


def units_of(group: Group[R]) -> dict[str, int]:
    match group.relation:
        case records.PairRelation(pairs) | records.GradedPairRelation(records.PairRelation(pairs)):
            return {"pairs": len(pairs)}
        case records.DemonstratedPairRelation(records.PairRelation(pairs)):
            return {"pairs": len(pairs), "demonstrations": 1}
        case records.RankRelation():
            return {"rankings": 1}
        case records.PointRelation(labels, marks):
            units = {"points": len(labels) - sum(marks), "demonstrations": sum(marks)}
            return {noun: number for noun, number in units.items() if number}
        case records.WeightRelation(weights):
            return {"weighted responses": len(weights)}
        case records.DemonstrationRelation():
            return {"demonstrations": len(group.responses)}
    return {}


@dataclass(slots=True)
class Viewed(Generic[R]):
    view: str
    groups: list[Group[R]] = field(default_factory=list)
    discarded: dict[str, list[Origin | None]] = field(default_factory=dict)
    units: Counter[str] = field(default_factory=Counter)
    """What the groups amount to: `{"pairs": 4650}`."""
    responses_left_out: int = 0
    comparisons_left_out: int = 0
    """How many comparisons of these examples a view of pairs does not use."""

    @property
    def examples(self) -> int:
        return len(self.groups) + sum(map(len, self.discarded.values()))

    @property
    def responses(self) -> int:
        return sum(len(group.responses) for group in self.groups)

    def lines(self) -> list[str]:
        made = [counted(len(self.groups), "group"), counted(self.responses, "response")]
        made += [counted(number, noun.removesuffix("s")) for noun, number in self.units.items()]
        lost = [f"{len(where)} for {reason}{places(where)}" for reason, where in self.discarded.items()]
        gave = f"{self.view}: {counted(self.examples, 'example')} gave {', '.join(made)}"
        lines = [gave + (f"; discarded: {', '.join(lost)}" if lost else "")]
        left = {"response": self.responses_left_out, "comparison": self.comparisons_left_out}
        if named := " and ".join(counted(number, noun) for noun, number in left.items() if number):
            lines.append(f"{self.view}: {named} of these examples not used")
        return lines


def apply(view: View[R], examples: Iterable[Example]) -> Viewed[R]:
    """Run a view over examples, in order; InputError where it finds nothing to use in any of them."""
    made = look(view, seen := list(examples))
    if made.groups:
        return made
    if not seen:
        raise InputError(f"there are no examples to make {made.view} of; give at least one file with rows")
    files = dict.fromkeys(example.origin.file for example in seen if example.origin is not None)
    where = f" of {', '.join(files)}" if files else ""
    why = ", ".join(f"{len(found)} for {reason}" for reason, found in made.discarded.items())
    prompts = {example.prompt.key for example in seen}
    merge = "put the responses to one prompt together with --merge-prompts true, where the method has it, "
    instead = merge if SINGLE in made.discarded and len(prompts) < len(seen) else ""
    hold = f"the {counted(len(seen), 'example')}{where} hold {count(seen).words()}"
    instead += "give other feedback, or choose a method that uses this kind (`trueup methods`)"
    raise InputError(f"{hold}, and no {made.view} can be made of that (discarded: {why}); {instead}")


def look(view: View[R], examples: Sequence[Example]) -> Viewed[R]:
    function = getattr(view, "func", view)  # of a partial
    name = str(getattr(function, "__name__", type(function).__name__)).replace("_", " ")
    viewed: Viewed[R] = Viewed(name)
    for example in examples:
        made = view(example)
        if isinstance(made, Discarded):
            viewed.discarded.setdefault(made.reason, []).append(made.origin)
            continue
        viewed.groups.append(made)
        amount = units_of(made)
        viewed.units.update(amount)
        viewed.responses_left_out += len(example.responses) - len(made.responses)
        if "pairs" in amount and example.comparisons:
            viewed.comparisons_left_out += len(example.comparisons) - amount["pairs"]
    return viewed


def places(where: Iterable[Origin | None], limit: int = 3) -> str:
    known = [str(origin) for origin in where if origin is not None]
    return f" ({', '.join([*known[:limit], *(['...'] if len(known) > limit else [])])})" if known else ""
