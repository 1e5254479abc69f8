"""Pairs of responses put before a judge in both orders, and what it says of them; and single ones, by a criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

from trueup.annotators import annotator
from trueup.annotators.judge import Judge, PairVerdict, Question, Unreadable, Verdict
from trueup.annotators.template import LABELS, Template, answered, load_template, pose, transcript
from trueup.errors import naming
from trueup.feedback.records import Comparison, Discarded, Example, content_key
from trueup.settings.annotator_kinds import RATING, ComparingFunction

IDENTICAL = "fewer than two different responses"
TIE = "the annotator finds the responses equal"
UNREAD = "a verdict of the annotator cannot be read"
UNDECIDED = "the judges do not agree"
NO_SHARE = Unreadable("the probability is no number from 0 to 1")

BLOCK = 256  # questions asked before it is looked at how many of the answers could be read

RATED = ("prompt", "response", "instruction", "boundary", "labels")

Positions = tuple[int, int]
Said = Verdict | Unreadable


class ComparingAnnotator:
    """Compares every two different responses of an example by a judge, and is as sure as the judge is.
    Each pair is asked in both orders and the two probabilities are averaged, as in Lee et al. (2023,
    https://arxiv.org/abs/2309.00267) and Guo et al. (2024, https://arxiv.org/abs/2402.04792), so that a liking for one
    of the places cancels. A pair of which one verdict is unreadable is dropped, and so is a tie. Its totals: `verdicts`
    asked for, `unreadable` ones among them, `first`, the probability of the response shown first, over the readable
    ones (half of them, where no place is liked better); `pairs` compared, and of these the `dropped` ones, `ties`, and
    those `flipped`, where the orders prefer different responses; and the judge's own."""

    gives = "comparisons"

    def __init__(
        self, judge: Judge, template: Template, *, instruction: str | None = None, max_unreadable: float = 0.1
    ) -> None:
        template.check(instruction)
        self.judge, self.template, self.instruction = judge, template, instruction
        self._unusable = annotator.Unusable(max_unreadable, "verdicts", "read", "another model or template")

    @property
    def name(self) -> str:
        return self.judge.name

    def annotate(self, examples: Sequence[Example]) -> annotator.Annotated:
        return _annotated(self, examples, UNREAD)

    def pair_verdicts(
        self, examples: Sequence[Example], pairs: Sequence[Sequence[Positions]]
    ) -> tuple[list[list[PairVerdict]], Mapping[str, float]]:
        """What the judge says of given pairs of responses of each example, and the totals."""
        posed = [
            [(self._posed(example, one, other), self._posed(example, other, one)) for one, other in wanted]
            for example, wanted in zip(examples, pairs, strict=True)
        ]
        answers, totals = self._verdicts({question for both in posed for two in both for question in two})
        found = [[PairVerdict(answers[one], answers[other]) for one, other in both] for both in posed]
        return found, totals | _counted([verdict for verdicts in found for verdict in verdicts])

    def rate(
        self, examples: Sequence[Example], criteria: Sequence[Sequence[str]]
    ) -> tuple[list[list[list[float | None]]], Mapping[str, float]]:
        """How likely the judge finds that each response meets each criterion, asked by itself; and the totals.
        It is asked with the labels for yes and no in both orders, so that a liking for one of them cancels. Of each
        example, of each criterion, of each response, the mean of both in [0, 1]; None where one cannot be read."""
        template = load_template(RATING, setting="rate", known=(RATING,), variables=RATED, texts={})

        def posed(example: Example, place: int, criterion: str, labels: Sequence[str]) -> Question:
            response = answered(example.responses[place].content)
            texts = {"prompt": transcript(example.prompt), "response": response}
            return Question(template.render(texts, instruction=criterion, labels=labels)[0], LABELS)

        def both(one: Example, text: str) -> list[tuple[Question, Question]]:
            every = range(len(one.responses))
            return [(posed(one, at, text, LABELS), posed(one, at, text, LABELS[::-1])) for at in every]

        rows = [[both(one, text) for text in own] for one, own in zip(examples, criteria, strict=True)]
        flat = {question for own in rows for row in own for orders in row for question in orders}
        answers, totals = self._verdicts(flat)
        return [
            [[PairVerdict(answers[yes], answers[no]).first for yes, no in row] for row in own] for own in rows
        ], totals

    def _posed(self, example: Example, first: int, second: int) -> Question:
        one, other = example.responses[first].content, example.responses[second].content
        with naming(example.origin):
            return pose(self.template, example.prompt, one, other, instruction=self.instruction)

    def _verdicts(self, questions: set[Question]) -> tuple[dict[Question, Said], dict[str, float]]:
        """The answer to each question; the same questions are asked in the same order whatever order they come in."""
        answers: dict[Question, Said] = {}
        totals: list[Mapping[str, float]] = []
        ordered = sorted(questions, key=lambda question: question.text)
        for start in range(0, len(ordered), BLOCK):
            block = ordered[start : start + BLOCK]
            heard = self.judge.ask(block)
            bad = [isinstance(one, Verdict) and not 0 <= one.first <= 1 for one in heard.verdicts]
            verdicts = [NO_SHARE if no else one for no, one in zip(bad, heard.verdicts, strict=True)]
            answers |= dict(zip(block, verdicts, strict=True))
            readable = [verdict.first for verdict in verdicts if isinstance(verdict, Verdict)]
            own = {"verdicts": len(block), "unreadable": len(block) - len(readable), "first": sum(readable)}
            totals += [heard.totals, own]
            reasons = [one.reason if isinstance(one, Unreadable) else None for one in verdicts]
            self._unusable.add(self.name, reasons)
        return answers, annotator.summed(totals)


@dataclass(frozen=True, slots=True)
class FunctionComparisons:
    """Compares every two different responses by a user's function, in both orders as a judge is asked."""

    function: annotator.FunctionScorer
    name: str
    gives: ClassVar[str] = "comparisons"

    def annotate(self, examples: Sequence[Example]) -> annotator.Annotated:
        return _annotated(self, examples, annotator.NO_TEXT)

    def pair_verdicts(
        self, examples: Sequence[Example], pairs: Sequence[Sequence[Positions]]
    ) -> tuple[list[list[PairVerdict]], Mapping[str, float]]:
        """See `ComparingAnnotator.pair_verdicts`; what is no one text cannot be read."""
        found = [
            [PairVerdict(self._first(example, *both), self._first(example, *both[::-1])) for both in own]
            for example, own in zip(examples, pairs, strict=True)
        ]
        return found, _counted([one for several in found for one in several if one.first is not None])

    def _first(self, example: Example, one: int, other: int) -> Said:
        first, second = (annotator.single_text(example.responses[place].content) for place in (one, other))
        if first is None or second is None:
            return Unreadable(annotator.NO_TEXT)
        where = f"{example.origin}: " if example.origin else ""
        return Verdict(self.function.called(example.prompt.content, first, second, where=where, share=True))


def load_comparing_function(choice: ComparingFunction) -> FunctionComparisons:
    return FunctionComparisons(annotator.load_scorer(choice.function, annotator.COMPARED), choice.function)


def _annotated(
    judge: ComparingAnnotator | FunctionComparisons, examples: Sequence[Example], why: str
) -> annotator.Annotated:
    """Examples with what a judge says of every two responses; `why` there is nothing where that cannot be read."""
    pairs = [list(combinations(distinct(example), 2)) for example in examples]
    found, totals = judge.pair_verdicts(examples, pairs)
    firsts = [[both.first for both in several] for several in found]
    both = zip(examples, pairs, firsts, strict=True)
    return annotator.Annotated(tuple(compared(*one, why) for one in both), totals)


def distinct(example: Example) -> list[int]:
    """Positions of the responses, each that says the same as an earlier one left out."""
    firsts: dict[object, int] = {}
    for position, response in enumerate(example.responses):
        firsts.setdefault(content_key(response.content), position)
    return list(firsts.values())


def compared(
    example: Example, pairs: Sequence[Positions], firsts: Sequence[float | None], why: str = UNREAD
) -> Example | Discarded:
    """The example with new comparisons: how likely the first of each pair is the better, None where it is unknown."""
    comparisons: list[Comparison] = []
    for (one, other), first in zip(pairs, firsts, strict=True):
        if first is not None and first != 0.5:
            ordered = (one, other) if first > 0.5 else (other, one)
            comparisons.append(Comparison(*ordered, max(first, 1 - first)))
    if comparisons:
        bare = tuple(replace(response, score=None, label=None) for response in example.responses)
        return replace(example, responses=bare, comparisons=tuple(comparisons), votes=())
    return Discarded(why if None in firsts else TIE if pairs else IDENTICAL, example.origin)


def _counted(pair_verdicts: Sequence[PairVerdict]) -> dict[str, float]:
    return {
        "pairs": len(pair_verdicts),
        "dropped": sum(both.first is None for both in pair_verdicts),
        "ties": sum(both.first == 0.5 for both in pair_verdicts),
        "flipped": sum(both.flipped for both in pair_verdicts),
    }
