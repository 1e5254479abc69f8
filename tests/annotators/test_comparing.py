"""Both orders are asked and averaged; what cannot be read never becomes a preference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusals import refused

from trueup.annotators import comparing
from trueup.annotators.comparing import ComparingAnnotator
from trueup.annotators.judge import Judgements, PairVerdict, Question, Unreadable, Verdict
from trueup.annotators.template import load_question
from trueup.errors import AnnotatorError
from trueup.feedback.records import Comparison, Discarded, Example, Message, Origin, Prompt, Response

BROKEN = Unreadable("the answer is neither label")


def shown(question: Question) -> tuple[str, str]:
    """The two responses of a question, in its order; a response is one line in these tests."""
    lines = question.text.splitlines()
    first, second = (lines[lines.index(f"Response {label}:") + 2] for label in question.labels)
    return first, second


@dataclass
class Scripted:
    """Says of each question what a function of its two responses says."""

    says: Callable[[str, str], float | Unreadable]
    name: str = "scripted"
    blocks: list[list[Question]] = field(default_factory=list)

    def ask(self, questions: Sequence[Question]) -> Judgements:
        self.blocks.append(list(questions))
        said = [self.says(*shown(question)) for question in questions]
        verdicts = [one if isinstance(one, Unreadable) else Verdict(one) for one in said]
        return Judgements(tuple(verdicts), {"requests": len(questions), "cost": 0.5})


def annotator(judge: Scripted, **options: object) -> ComparingAnnotator:
    return ComparingAnnotator(judge, load_question("helpfulness"), **options)  # type: ignore[arg-type]


def example(*responses: str, prompt: str = "Which?", row: int = 1) -> Example:
    return Example(Prompt(prompt, origin=Origin("a.jsonl", row)), tuple(map(Response, responses)))


probabilities = st.floats(0, 1)


@given(probabilities, probabilities)
def test_exchanging_the_responses_flips_the_probability_to_the_bit(forward: float, backward: float) -> None:
    one = PairVerdict(Verdict(forward), Verdict(backward)).first
    other = PairVerdict(Verdict(backward), Verdict(forward)).first
    assert one is not None and other is not None
    assert other == 1 - one and one == 1 - other
    assert one == pytest.approx((forward + 1 - backward) / 2, abs=1e-15)


@given(probabilities)
def test_a_judge_that_goes_by_the_place_alone_gives_a_half(first: float) -> None:
    assert PairVerdict(Verdict(first), Verdict(first)).first == 0.5


def test_the_verdict_on_a_pair_by_hand() -> None:
    """0.9 for the first in one order and 0.3 for the other response in the other: (0.9 + 0.7) / 2."""
    assert PairVerdict(Verdict(0.9), Verdict(0.3)).first == pytest.approx(0.8)
    assert PairVerdict(Verdict(0.2), Verdict(0.6)).first == pytest.approx(0.3)
    for one, other in ((BROKEN, Verdict(0.3)), (Verdict(1), BROKEN), (BROKEN, BROKEN)):
        assert PairVerdict(one, other).first is None and not PairVerdict(one, other).flipped
    pairs = ((0.9, 0.6), (0.1, 0.4), (0.9, 0.4), (0.5, 0.9))
    flipped = [PairVerdict(Verdict(one), Verdict(other)).flipped for one, other in pairs]
    assert flipped == [True, True, False, False]


def test_comparisons_of_two_responses_by_hand() -> None:
    judge = Scripted(lambda first, second: 0.9 if first == "good" else 0.3)
    found = annotator(judge).annotate([example("bad", "good")])
    assert isinstance(judged := found.examples[0], Example)
    assert [(one.better, one.worse) for one in judged.comparisons] == [(1, 0)]
    assert judged.comparisons[0].probability == pytest.approx(0.8)
    assert found.totals == {
        "verdicts": 2, "unreadable": 0, "first": pytest.approx(1.2), "pairs": 1, "dropped": 0, "ties": 0,
        "flipped": 0, "requests": 2, "cost": 0.5,
    }  # fmt: skip


def soft(first: str, second: str) -> float:
    """No simple function of the two, and none that is symmetric."""
    return (hash_of(first) * 7 + hash_of(second) * 3) % 1009 / 1009


def hash_of(text: str) -> int:
    return sum(ord(one) * 31**place for place, one in enumerate(text))


@given(st.lists(st.text("abcd", min_size=1, max_size=3), min_size=2, max_size=5), st.randoms())
def test_the_order_of_responses_changes_no_bit(words: list[str], random: object) -> None:
    """All pairs of K > 2, whatever the order they come in: the same probability for the same two texts."""

    def said(responses: Sequence[str]) -> dict[tuple[str, str], float]:
        judge = Scripted(soft)
        found = annotator(judge).annotate([example(*responses)]).examples[0]
        if isinstance(found, Discarded):
            return {}
        texts = [response.content for response in found.responses]
        asked.append(judge.blocks)
        return {(str(texts[one.better]), str(texts[one.worse])): one.probability for one in found.comparisons}

    asked: list[list[list[Question]]] = []
    mixed = list(words)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = said(words), said(mixed)
    assert one == other
    assert all(block == asked[0] for block in asked)
    count = len(set(words))
    assert len(one) <= count * (count - 1) / 2


def test_all_pairs_of_different_responses_are_compared_once() -> None:
    """The third says what the first says, and is left alone; earlier judgements go, the rest stays."""
    old = Example(
        Prompt("Which?", origin=Origin("a.jsonl", 7)),
        (Response("aaa", score=3.0, source="p", tokens=(4, 5)), Response("a", label=1.0), Response("aaa"),
         Response("aa", demonstration=True)),
        (Comparison(1, 0),),
    )  # fmt: skip
    judge = Scripted(lambda first, second: 1.0 if len(first) > len(second) else 0.0)
    new = annotator(judge).annotate([old]).examples[0]
    assert isinstance(new, Example)
    assert set(new.comparisons) == {Comparison(0, 1), Comparison(0, 3), Comparison(3, 1)}
    bare = (replace(old.responses[0], score=None), Response("a"), *old.responses[2:])
    assert new == replace(old, responses=bare, comparisons=new.comparisons)
    assert sum(map(len, judge.blocks)) == 6


def test_a_question_is_asked_once() -> None:
    judge = Scripted(lambda first, second: 0.75 if first < second else 0.5)
    given = [example("a", "b"), example("b", "a", row=2), example("a", "b", prompt="Who?")]
    found = annotator(judge).annotate(given)
    assert sum(map(len, judge.blocks)) == 4
    assert [one.comparisons[0].probability for one in found.kept] == [0.625] * 3
    assert found.totals["verdicts"] == 4 and found.totals["pairs"] == 3


def test_why_an_example_has_no_comparison() -> None:
    """A tie, a verdict that cannot be read, nothing to compare: each by its name, none of them a preference."""

    def says(first: str, second: str) -> float | Unreadable:
        if "tie" in (first, second):
            return 0.7
        return BROKEN if first == "broken" else 1.0

    same = Example(Prompt("p", origin=Origin("a.jsonl", 4)), (Response("x"), Response("x")))
    talk = Example(Prompt((Message("user", "p"),)), (Response((Message("assistant", "x"),)),) * 2)
    found = annotator(Scripted(says), max_unreadable=1).annotate(
        [example("tie", "a"), example("broken", "a", row=2), example("broken", "tie", row=3), same, talk]
    )
    assert found.examples == (
        Discarded("the annotator finds the responses equal", Origin("a.jsonl", 1)),
        Discarded("a verdict of the annotator cannot be read", Origin("a.jsonl", 2)),
        Discarded("the annotator finds the responses equal", Origin("a.jsonl", 3)),
        Discarded("fewer than two different responses", Origin("a.jsonl", 4)),
        Discarded("fewer than two different responses", None),
    )
    totals = found.totals
    assert (totals["ties"], totals["dropped"], totals["unreadable"], totals["flipped"]) == (2, 1, 1, 2)
    assert totals["first"] == pytest.approx(1.0 + 4 * 0.7)


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1, float("inf")])
def test_what_is_no_probability_cannot_be_read(value: float) -> None:
    found = annotator(Scripted(lambda first, second: value), max_unreadable=1).annotate([example("a", "b")])
    assert isinstance(found.examples[0], Discarded) and found.totals["unreadable"] == 2


def broken_share(count: int) -> Callable[[str, str], float | Unreadable]:
    """The first so many questions about responses of their own are broken, by two reasons."""

    def says(first: str, second: str) -> float | Unreadable:
        number = min(int(first), int(second))
        return 0.6 if number >= count else Unreadable("odd") if number % 2 else Unreadable("even")

    return says


def numbered(count: int, start: int = 0) -> list[Example]:
    return [example(str(n), "9999") for n in range(start, start + count)]


def test_too_many_unreadable_verdicts_stop_the_run() -> None:
    """10 pairs, 20 verdicts, 6 of them broken: 30 %."""
    with pytest.raises(AnnotatorError) as caught:
        annotator(Scripted(broken_share(3)), max_unreadable=0.25).annotate(numbered(10))
    assert str(caught.value) == (
        "scripted: 6 of 20 verdicts (30%) cannot be read, and no more than 25% may: even (4), odd (2). Choose another "
        "model or template, or raise annotator.max_unreadable"
    )
    assert caught.value.exit_code == 6
    annotator(Scripted(broken_share(3)), max_unreadable=0.3).annotate(numbered(10))
    annotator(Scripted(broken_share(9)), max_unreadable=0.0).annotate(numbered(9))  # too few to say


def test_unreadable_verdicts_add_up_over_rounds() -> None:
    strict = annotator(Scripted(broken_share(3)), max_unreadable=0.25)
    strict.annotate(numbered(5))
    with pytest.raises(AnnotatorError, match="6 of 20 verdicts"):
        strict.annotate(numbered(5, start=5))


def test_a_judge_that_cannot_be_read_is_not_asked_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "BLOCK", 30)
    judge = Scripted(lambda first, second: BROKEN)
    with pytest.raises(AnnotatorError, match=r"30 of 30 verdicts \(100%\)"):
        annotator(judge).annotate(numbered(100))
    assert sum(map(len, judge.blocks)) == 30


def test_the_instruction_reaches_the_judge(tmp_path: Path) -> None:
    judge = Scripted(lambda first, second: 1.0)
    annotator(judge, instruction="Prefer the green one.").annotate([example("a", "b")])
    assert all("\nPrefer the green one.\n" in question.text for question in judge.blocks[0])
    bare = tmp_path / "bare.jinja"
    bare.write_text("{{ first }}\n{{ second }}\nAnswer=")
    template = load_question(str(bare))
    ComparingAnnotator(judge, template)
    with refused(r"bare\.jinja: the template has no place for the instruction; write"):
        ComparingAnnotator(judge, template, instruction="Prefer the green one.")


def test_a_template_that_fails_on_an_example_names_it(tmp_path: Path) -> None:
    cuts = tmp_path / "cuts.jinja"
    cuts.write_text("{{ first[:2000] }}\n{{ second[:2000] }}\nAnswer=")
    made = ComparingAnnotator(Scripted(soft), load_question(str(cuts)))
    with refused(r"^a\.jsonl:5: .*cuts\.jinja: the template does not show first whole"):
        made.annotate([example("a" * 3000, "b", row=5)])
