"""Judgements kept piece by piece, and what is said of them all."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.gathering_work import work_at

from trueup.annotators.annotator import Annotated
from trueup.feedback.records import Comparison, Discarded, Example, Origin, Prompt, Response
from trueup.gathering import judging
from trueup.gathering.judging import agreement, judge, left_out, preferences, summary


class Counter:
    """Scores by length, and drops one example."""

    name, gives = "counter", "scores"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def annotate(self, examples: Sequence[Example]) -> Annotated:
        self.asked.append(len(examples))
        made: list[Example | Discarded] = []
        for example in examples:
            if example.prompt.content == "p4":
                made.append(Discarded("a tie", example.origin))
                continue
            scored = tuple(Response(one.content, len(str(one.content)) / 3) for one in example.responses)
            made.append(Example(example.prompt, scored, ()))
        return Annotated(tuple(made), {"requests": float(len(examples)), "cost": 0.25})


EXAMPLES = [
    Example(Prompt(f"p{number}", origin=Origin("a.jsonl", number)), (Response("a" * number), Response("\u2028")))
    for number in range(1, 8)
]


def test_examples_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "CHUNK", 3)
    counter = Counter()
    with work_at(tmp_path / "a") as work:
        found = judge(EXAMPLES, lambda _: counter, work)
    assert counter.asked == [3, 3, 1]
    assert [one.origin for one in found.examples] == [one.origin for one in EXAMPLES]
    assert found.dropped == (Discarded("a tie", Origin("a.jsonl", 4)),)
    assert [one.responses[0].score for one in found.kept] == [number / 3 for number in (1, 2, 3, 5, 6, 7)]
    assert found.totals == {"requests": 7.0, "cost": 0.75}


def test_what_was_left_out_is_named() -> None:
    dropped = [Discarded("a tie", Origin("a.jsonl", row)) for row in (4, 9, 11, 12)]
    assert left_out([*dropped, Discarded("no text")]) == (
        "5 examples left out: 4 for a tie (a.jsonl:4, a.jsonl:9, a.jsonl:11, ...), 1 for no text"
    )
    assert left_out([]) is None


def scored(*scores: float) -> Example:
    return Example(Prompt("p"), tuple(Response(f"r{at}", score) for at, score in enumerate(scores)))


def compared(*pairs: tuple[int, int, float], count: int = 3) -> Example:
    responses = tuple(Response(f"r{at}") for at in range(count))
    return Example(Prompt("p"), responses, tuple(Comparison(*pair) for pair in pairs))


def test_scores_in_words() -> None:
    found = Annotated((scored(1.0, 3.0), scored(2.0, 2.0, 4.0)), {"scores": 5.0})
    assert summary([compared(count=2), compared()], found) == [
        "5 scores: mean 2.4, standard deviation 1.02, from 1 to 4",
        "ties: 1 of 4 pairs of responses to one prompt have equal scores",
    ]


def test_comparisons_and_what_they_took_in_words() -> None:
    totals = {
        "verdicts": 12.0, "unreadable": 2.0, "first": 6.0, "pairs": 6.0, "dropped": 1.0, "ties": 1.0, "flipped": 2.0,
        "requests": 10.0, "cached": 2.0, "asked_again": 0.0, "tokens": 1234567.0, "estimated": 3.0, "cost": 0.125,
        "label_mass": 9.5,
    }  # fmt: skip
    found = Annotated((compared((0, 1, 0.75), (2, 1, 0.95)), Discarded("a tie", Origin("a", 2))), totals)
    assert summary([compared(), compared()], found) == [
        "2 comparisons: the preferred response has probability 0.85 on average",
        "of 6 pairs: 1 found equal, 1 dropped, as a verdict could not be read, 2 preferred the other way round in the "
        "other order",
        "12 verdicts, 2 of them unreadable",
        "position bias: the response shown first has probability 0.600 on average, where 0.5 is fair",
        "endpoint: 10 requests, 2 from the cache, 1,234,567 tokens, 3 requests whose tokens are estimates, 0.125 cost",
        "annotator: label_mass 9.5",
        "1 example left out: 1 for a tie (a:2)",
    ]


def test_agreement_with_what_was_said_before() -> None:
    """Of four pairs that both order, three the same way; one more was a tie."""
    before = [scored(1.0, 2.0, 3.0), compared((0, 1, 1.0)), compared((0, 1, 1.0))]
    after = [compared((1, 0, 0.9), (2, 0, 0.9)), scored(5.0, 1.0, 0.0), scored(0.0, 1.0, 2.0)]
    assert agreement(list(zip(before, after, strict=True))) == [
        "agrees with the judgements given on 0.750 +- 0.250 of 4 pairs that both order; 1 not ordered now"
    ]
    assert agreement([(compared(), scored(1.0, 2.0, 3.0))]) == []
    assert agreement([(scored(1.0, 2.0), scored(3.0, 4.0))]) == [
        "agrees with the judgements given on 1.000 of 1 pair that both order"
    ]


def test_preferences_are_those_that_training_by_pairs_uses() -> None:
    assert preferences(scored(1.0, 2.0)) == {("r1", "r0")}
    assert preferences(compared((0, 1, 0.7), (1, 0, 0.8))) == set()
    assert preferences(compared((0, 1, 0.7), (2, 1, 0.8))) == {("r0", "r1"), ("r2", "r1")}
