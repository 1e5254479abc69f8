"""Several judges as one: their decision by hand, what is measured of them against what was planted, and bad input."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.judge_answers import MARKED

from trueup.annotators import comparing
from trueup.annotators.annotator import Annotated, ScoringAnnotator
from trueup.annotators.comparing import ComparingAnnotator
from trueup.annotators.judge import Judgements, Question, Unreadable, Verdict
from trueup.annotators.jury import Judge, Jury, decide, gold_pairs, jury_lines, quality
from trueup.annotators.rubric import RubricScores, WeightedScores
from trueup.annotators.template import load_question
from trueup.errors import InputError
from trueup.feedback.canonical import example_from_row, example_to_row
from trueup.feedback.records import Comparison, Discarded, Example, Message, Origin, Prompt, Response
from trueup.settings.annotator_settings import JuryAnnotator, annotators_in, criterion_of
from trueup.settings.gathering_settings import AnnotateSettings
from trueup.settings.validation import validate

BROKEN = Unreadable("the answer is neither label")


class Scripted:
    """A judge that answers by a function of the two responses, in the order shown."""

    def __init__(self, says: Callable[[str, str], float | Unreadable], name: str) -> None:
        self.says, self.name = says, name

    def ask(self, questions: Sequence[Question]) -> Judgements:
        shown = [[text for _, text in MARKED.findall(one.text)][-2:] for one in questions]
        said = [self.says(*both) for both in shown]
        return Judgements(
            tuple(one if isinstance(one, Unreadable) else Verdict(one) for one in said), {"requests": len(said)}
        )


def jury(*says: Callable[[str, str], float | Unreadable], **more: object) -> Jury:
    judges = [
        Judge(
            f"J{number}",
            ComparingAnnotator(Scripted(one, f"J{number}"), load_question("helpfulness"), max_unreadable=1.0),
            waits=number % 2 == 0,
        )
        for number, one in enumerate(says)
    ]
    return Jury(tuple(judges), **more)  # type: ignore[arg-type]


def pairs(count: int, name: str = "p") -> list[Example]:
    """Pairs of which the first response, the one with the higher number, is the better one."""
    return [
        Example(Prompt(f"{name}{at}"), (Response(f"good 1 {name}{at}"), Response(f"poor 0 {name}{at}")))
        for at in range(count)
    ]


def dice(*parts: object) -> float:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


def noisy(name: str, error: float, bias: float = 0.0) -> Callable[[str, str], float]:
    """Wrong on a share of pairs, in both orders alike; and with a share of answers that are the first place."""

    def says(first: str, second: str) -> float:
        if dice("place", name, first, second) < bias:
            return 1.0
        wrong = dice(name, *sorted((first, second))) < error
        return float(first.startswith("good") != wrong)

    return says


def share_of(totals: Mapping[str, float], name: str, of: str) -> float:
    return totals[name] / totals[of]


@pytest.mark.parametrize(
    ("votes", "agreement", "first", "reason"),
    [
        ((0.9, 0.8, 0.1), 0.6, 0.6, ""),  # two of three, and the mean is on their side
        ((0.9, 0.8, 0.1), 0.7, None, comparing.UNDECIDED),
        ((0.55, 0.55, 0.0), 0.6, None, comparing.UNDECIDED),  # the mean is with one alone
        ((1.0, 0.0), 0.5, None, comparing.UNDECIDED),
        ((0.5, 0.5), 1.0, 0.5, comparing.TIE),
        ((0.8, 0.5), 0.75, 0.65, ""),  # a tie is for either by half
        ((0.8, 0.5), 0.76, None, comparing.UNDECIDED),
        ((0.2, None, 0.4), 0.8, 0.3, ""),  # so is one that cannot be read
        ((0.2, None, 0.4), 0.84, None, comparing.UNDECIDED),
        ((None, None), 0.0, None, comparing.UNREAD),
    ],
)
def test_a_decision_by_hand(
    votes: tuple[float | None, ...], agreement: float, first: float | None, reason: str
) -> None:
    found = decide(votes, agreement)
    assert found == (first if first is None else pytest.approx(first), reason)


@given(st.lists(st.floats(0.5, 1).map(lambda p: (p, 1 - p)) | st.floats(0.5, 1).map(lambda p: (1 - p, p)), max_size=5))
def test_exchanging_the_responses_changes_nothing_else(votes: list[tuple[float, float]]) -> None:
    (one, why), (other, too) = (decide([both[side] for both in votes], 0.6) for side in (0, 1))
    assert why == too
    assert (one is None) == (other is None) and (one is None or other == 1 - one)


def test_planted_agreement_and_errors_are_found() -> None:
    """Errors of 10, 20 and 30 %: how often two agree, how often each sides with the majority, and who is right."""
    errors = (0.1, 0.2, 0.3)
    asked = jury(*(noisy(str(error), error) for error in errors), gold=tuple(pairs(300, "g")), gold_share=0.1)
    made = [asked.annotate(pairs(100, f"p{part}-")) for part in range(20)]
    totals = {name: sum(one.totals.get(name, 0.0) for one in made) for name in made[0].totals}
    found = quality(totals)
    alike = fmean((1 - a) * (1 - b) + a * b for a, b in ((0.1, 0.2), (0.1, 0.3), (0.2, 0.3)))
    assert found["agreement"].low <= alike <= found["agreement"].high
    assert totals["pairs"] == 2000 and totals["gold"] == 200 and found["undecided"].value == 0
    majority = 0.9 * 0.8 * 0.7 + 0.9 * 0.8 * 0.3 + 0.9 * 0.2 * 0.7 + 0.1 * 0.8 * 0.7
    assert found["gold"].low <= majority <= found["gold"].high
    for number, error in enumerate(errors):
        told = found["judges"][f"J{number}"]
        assert told["gold"].low <= 1 - error <= told["gold"].high
        others = [1 - one for at, one in enumerate(errors) if at != number]
        at_least_one = [1 - (1 - p) * (1 - q) for p, q in (others, [1 - one for one in others])]
        sides = (1 - error) * at_least_one[0] + error * at_least_one[1]
        assert told["sides"].low <= sides <= told["sides"].high
        assert told["first"].value == 0.5 and told["flipped"].value == 0
    right = fmean(one.comparisons[0].better == 0 for part in made for one in part.kept)
    assert right == pytest.approx(majority, abs=0.03)


def test_a_liking_for_the_first_place_is_seen_and_cancels() -> None:
    """A judge who takes the first place half of the time says it in 3/4 of answers, and half the pairs flip or tie."""
    asked = jury(noisy("a", 0.0, bias=0.5), noisy("b", 0.0))
    made = asked.annotate(pairs(800))
    told = quality(made.totals)["judges"]
    assert told["J0"]["first"].low <= 0.75 <= told["J0"]["first"].high
    assert told["J1"]["first"].value == 0.5
    # shown second, the better one loses where the place is taken
    assert told["J0"]["flipped"].low <= 0.5 <= told["J0"]["flipped"].high and told["J1"]["flipped"].value == 0
    assert all(one.comparisons[0].better == 0 for one in made.kept) and len(made.kept) == 800
    # pairs that a judge could not read are none that it could contradict itself on
    unread = quality({"A/pairs": 455.0, "A/dropped": 355.0, "A/flipped": 89.0})
    assert unread["judges"]["A"]["flipped"].value == 0.89
    (line,) = [one for one in jury_lines(made.totals) if one.startswith("J0: ")]
    assert "gives the first place 7" in line and "contradicts itself in the other order on" in line


def test_scorers_sit_beside_judges_and_what_is_contested_is_left_undecided() -> None:
    longer = ScoringAnnotator(lambda prompts, responses: [float(len(one)) for one in responses], "longer")
    members = (*jury(noisy("a", 0.0)).judges, Judge("longer", longer, waits=False))
    agree = Example(Prompt("x"), (Response("poor"), Response("good and longer")))
    contested = Example(Prompt("y"), (Response("poor and longer"), Response("good")))
    several = Example(Prompt("z"), (Response("good"), Response("poor and long"), Response("good, longest of all")))
    made = Jury(members).annotate([agree, contested, several])
    first, second, third = made.examples
    assert isinstance(first, Example) and first.comparisons == (Comparison(1, 0),)
    assert second == Discarded(comparing.UNDECIDED)
    assert isinstance(third, Example) and third.comparisons == (
        Comparison(2, 0, 0.75), Comparison(2, 1),
    )  # fmt: skip
    assert (made.totals["pairs"], made.totals["undecided"]) == (5, 2)
    assert made.totals["J0/verdicts"] == made.totals["verdicts"] == 10 and made.totals["longer/scores"] == 7


def test_a_pair_without_a_readable_verdict_is_told_apart() -> None:
    made = jury(lambda *_: BROKEN, lambda *_: BROKEN).annotate(pairs(3))
    assert {one.reason for one in made.dropped} == {comparing.UNREAD} and made.totals["dropped"] == 3
    half = jury(lambda *_: BROKEN, noisy("a", 0.0)).annotate(pairs(3))
    assert len(half.kept) == 3 and half.totals["shared"] == 0 and quality(half.totals)["agreement"] is None


def test_gold_depends_on_what_is_judged_alone_and_is_no_part_of_it() -> None:
    """So a run that is resumed is judged, and counted, as one that was not interrupted."""

    def judge(count: int, gold: int, name: str = "p") -> Annotated:
        return jury(noisy("a", 0.3), noisy("b", 0.3), gold=tuple(pairs(gold, "g"))).annotate(pairs(count, name))

    assert judge(30, 9) == judge(30, 9)
    assert judge(30, 9).totals["gold"] == 3 and judge(30, 2).totals["gold"] == 2 and judge(1, 9).totals["gold"] == 1
    assert "gold" not in judge(0, 9).totals
    assert judge(30, 9).examples == judge(30, 0).examples


def test_responses_are_rated_by_all_who_can() -> None:
    high, low = jury(lambda *_: 0.9).judges[0], jury(lambda *_: 0.9, lambda *_: 0.2).judges[1]
    scorer = Judge("s", ScoringAnnotator(lambda prompts, responses: [0.0] * len(responses), "s"), waits=False)
    rows, totals = Jury((high, low, scorer)).rate(pairs(1), [["It is short."]])
    # each is asked with the labels both ways round, so that one who answers the same always is at 1/2
    assert rows == [[[pytest.approx(0.5), pytest.approx(0.5)]]]
    assert totals["J0/verdicts"] == totals["J1/verdicts"] == 4
    with pytest.raises(InputError, match="none rates single responses"):
        Jury((scorer, scorer)).rate(pairs(1), [["It is short."]])


def test_judges_are_named_by_text_or_by_settings_each_by_a_name_of_its_own() -> None:
    choice = JuryAnnotator(
        of=("openai?base_url=http://localhost:1/v1&model=J&concurrency=3", {"kind": "local", "model": "J"}, "a.py:f")  # type: ignore[arg-type]
    )
    assert list(annotators_in(choice)) == ["J", "J #2", "a.py:f"]
    assert vars(choice.of[0])["concurrency"] == 3 and choice.of[1].kind == "local"


def test_a_file_of_gold_has_pairs(tmp_path: Path) -> None:
    file = tmp_path / "gold.jsonl"
    row = {"prompt": "p", "responses": [{"content": "a", "score": 0}, {"content": "b", "score": 2}]}
    file.write_text(json.dumps(row) + "\n")
    (pair,) = gold_pairs(str(file))
    assert [one.content for one in pair.responses] == ["b", "a"]
    file.write_text(json.dumps({"prompt": "p", "responses": [{"content": "a"}, {"content": "b"}]}) + "\n")
    with pytest.raises(InputError, match="no pair in it has a better response"):
        gold_pairs(str(file))
    file.write_text("")
    with pytest.raises(InputError):
        gold_pairs(str(file))


def test_real_judgements_score_judges_that_go_by_length(shared: Callable[[str], Path]) -> None:
    """As gold; the counts are those of benchmarks/annotators/agreement.json, in which a person's tie is left out."""
    file = shared("data/open_instruct_human_eval/annotations_first575.jsonl")
    rows = json.loads((Path(__file__).parents[2] / "benchmarks/annotators/agreement.json").read_text())["rows"]
    expected = {row["annotator"]: row for row in rows}["the longer response"]
    gold = [one for one in gold_pairs(str(file)) if one.responses[0].content != one.responses[1].content]
    assert len(gold) == expected["compared"]

    def length(prompts: object, responses: Sequence[str], sign: int = 1) -> list[float]:
        return [float(sign * len(one)) for one in responses]

    scorers = {"longer": length, "shorter": lambda prompts, responses: length(prompts, responses, -1)}
    judges = tuple(Judge(name, ScoringAnnotator(one, name), waits=False) for name, one in scorers.items())
    made = Jury(judges, gold=tuple(gold), gold_share=1.0).annotate(pairs(len(gold)))
    found = quality(made.totals)["judges"]
    assert found["longer"]["gold"].value == pytest.approx(expected["agreement"]["value"])
    assert found["shorter"]["gold"].value == pytest.approx(1 - expected["agreement"]["value"])


class Raters:
    """Stands for judges: how likely a response meets a criterion is looked up."""

    judges = ()

    def __init__(self, known: Mapping[tuple[str, str], float | None]) -> None:
        self.known = known

    def rate(self, examples: Sequence[Example], criteria: Sequence[Sequence[str]]) -> object:
        return [
            [[self.known[text, str(said.content)] for said in one.responses] for text in own]
            for one, own in zip(examples, criteria, strict=True)
        ], {"verdicts": 4.0}


def test_a_rubric_adds_up_by_its_weights() -> None:
    """By hand: (2 * 0.5 + 1 * 1 - 1 * 0.25) / 4, and without the prompt's own criterion (2 * 0.5 + 1) / 3."""
    known = {
        ("A", "x"): 0.5, ("B", "x"): 1.0, ("bad", "x"): 0.25, ("A", "y"): 0.0, ("B", "y"): 0.5,
        ("bad", "y"): 1.0,
    }  # fmt: skip
    scorer = RubricScores(Raters(known), (("A", 2.0), ("B", 1.0)))  # type: ignore[arg-type]
    both = (Response("x"), Response("y", label=1.0))
    made = scorer.annotate([Example(Prompt("p", rubric=(("bad", -1.0),)), both), Example(Prompt("q"), both)])
    assert [[one.score for one in example.responses] for example in made.kept] == [[0.4375, -0.125], [2 / 3, 0.5 / 3]]
    assert made.totals == {"verdicts": 4.0, "met: A": 1.0, "met: B": 3.0, "scores": 4.0}


def test_what_has_no_criterion_or_no_readable_rating_is_left_out() -> None:
    scorer = RubricScores(Raters({("A", "x"): 0.5, ("A", "y"): None}), ())  # type: ignore[arg-type]
    own = Prompt("p", rubric=(("A", 1.0),))
    made = scorer.annotate([Example(own, (Response("x"), Response("y"))), Example(Prompt("q"), (Response("x"),))])
    assert [one.reason for one in made.dropped] == [comparing.UNREAD, "no criterion to score it by"]
    assert made.totals["scores"] == 0


def test_scores_of_several_add_up_by_their_weights() -> None:
    """By hand: 1 * 4 - 0.5 * 2 and 1 * 1 - 0.5 * 3; an example that one cannot score is left out."""
    scorers = tuple(
        Judge(name, ScoringAnnotator(lambda _, texts, at=at: [float(one[at]) for one in texts], name), False)
        for at, name in enumerate(("helpful", "long"))
    )
    both = (Response("42", label=1.0), Response("13"))
    turns = (Response((Message("assistant", "4"), Message("assistant", "2"))),)
    made = WeightedScores(scorers, (1.0, -0.5)).annotate([Example(Prompt("p"), both), Example(Prompt("q"), turns)])
    assert [one.score for one in made.kept[0].responses] == [3.0, -0.5] and len(made.dropped) == 1
    assert made.totals == {"scores": 2.0, "score of helpful": 5.0, "score of long": 5.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": [1]}, "weights are 1 and of names 2; give one for each"),
        ({"weights": [1, 0]}, "weights hold a 0, with which a score says nothing"),
        ({"weights": [1, "nan"]}, "must be a finite number"),
        ({"of": ["world:gold", "world:gold"]}, "of names 'gold' twice with the same settings"),
        ({"of": ["world:gold", "openai?base_url=http://h/v1&model=J"]}, "openai, which compares; give annotators"),
        ({"of": []}, "at least"),
    ],
)  # fmt: skip
def test_weights_that_add_nothing_up_are_refused(given: Mapping[str, object], message: str) -> None:
    layer = {"kind": "weighted", "of": ["world:gold", "world:proxy"], **given}
    with pytest.raises(InputError, match=message):
        validate(AnnotateSettings, {"data": ["a"], "output": "b", "annotator": layer}, where="trueup annotate")


def test_criteria_and_their_weights_are_read_and_written() -> None:
    assert [criterion_of(one) for one in ("A=2", "A = b.", "x=-0.5")] == [("A", 2.0), ("A = b.", 1.0), ("x", -0.5)]
    for weight in ("0", "nan", "inf"):
        with pytest.raises(InputError, match="says nothing"):
            criterion_of(f"A={weight}")
    row = {
        "prompt": "p", "responses": [{"content": "a"}],
        "rubric": ["It is short.", {"criterion": "It rhymes.", "weight": -2.0}],
    }  # fmt: skip
    example = example_from_row(row, Origin("a.jsonl", 1))
    assert example.prompt.rubric == (("It is short.", 1.0), ("It rhymes.", -2.0))
    assert example_to_row(example) == row and example.prompt.key != Prompt("p").key
    with pytest.raises(InputError, match="weighs 0 says nothing"):
        example_from_row({**row, "rubric": [{"criterion": "x", "weight": 0}]}, Origin("a.jsonl", 1))
