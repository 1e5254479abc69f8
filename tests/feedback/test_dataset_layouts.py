"""The layouts of single public data sets: every field by value."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.dataset_rows import (
    DROP,
    FINE,
    GSM,
    HELPSTEER,
    HELPSTEER2,
    HELPSTEER3,
    NECTAR,
    OPEN,
    ROWS,
    SHP,
    SUMMARIES,
    SUMMARY,
    TRUTHFUL,
    ULTRAFEEDBACK,
    UNIEVAL,
    UNUSED,
    Row,
    asked,
    changed,
    made,
    prediction,
    said,
)

from trueup.feedback import views
from trueup.feedback.groups import Discarded, Group, PairRelation, RankRelation
from trueup.feedback.layouts.known import DATA_SETS, LAYOUTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Message, Response

Write = Callable[..., Path]
Convert = Callable[..., Example]


@pytest.mark.parametrize("name", ROWS)
def test_is_recognised_and_says_what_is_not_used(write: Write, name: str) -> None:
    (report,) = read_feedback([write(ROWS[name])]).files
    assert (report.layout, list(report.unused_keys)) == (name, UNUSED[name])


@pytest.mark.parametrize("name", ROWS)
def test_no_other_layout_takes_the_row(name: str) -> None:
    """So that the order in which layouts are tried does not matter for these."""
    taken = [layout.name for layout in LAYOUTS if layout.recognises(ROWS[name])]
    assert taken == [name]


def test_every_data_set_is_tested() -> None:
    assert sorted(layout.name for layout in DATA_SETS) == sorted(ROWS)


def test_ultrafeedback(convert: Convert) -> None:
    example = convert(**ULTRAFEEDBACK)
    responses = (said("Apple.", score=8.5, source="gpt-4"), said("Brick.", score=2.0, source="alpaca-7b"))
    assert made(example) == (asked("Name a fruit."), responses, ())


@pytest.mark.parametrize(
    ("changes", "scores"),
    [
        # One completion without an overall score: no completion uses it, the scales differ.
        ([(("completions", 1, "overall_score"), None)], [3.0, 4.5]),
        ([(("completions", 0, "overall_score"), DROP)], [3.0, 4.5]),
        # Then the mean of the aspects that are rated in both: honesty and helpfulness.
        ([(("completions", 0, key), None) for key in ("overall_score", "fine-grained_score")], [3.5, 5.0]),
    ],
)
def test_ultrafeedback_takes_the_first_score_all_have(
    convert: Convert, changes: list[tuple[tuple[str | int, ...], object]], scores: list[float]
) -> None:
    row = ULTRAFEEDBACK
    for path, value in changes:
        row = changed(row, path, value)
    assert [one.score for one in convert(**row).responses] == scores


def test_ultrafeedback_binarized(convert: Convert) -> None:
    """As HuggingFaceH4 publishes it: pairs."""
    sides = {
        side: [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": content}]
        for side, content in (("chosen", "Apple."), ("rejected", "Brick."))
    }
    example = convert(
        prompt="Name a fruit.",
        prompt_id="a1",
        **sides,
        messages=sides["chosen"],
        score_chosen=8.5,
        score_rejected=2,
    )
    responses = (said("Apple.", score=8.5), said("Brick.", score=2.0))
    assert made(example) == (asked("Name a fruit."), responses, (Comparison(0, 1),))


def test_nectar_rank_one_is_the_best(convert: Convert) -> None:
    example = convert(**NECTAR)
    assert made(example) == (
        "\n\nHuman: Name a fruit.\n\nAssistant:",
        (
            Response(" Brick.", score=-3.0, source="a"),
            Response(" Apple.", score=-1.0, source="b"),
            Response(" Pear.", score=-1.0, source="c"),
        ),
        (),
    )
    ranked, paired = views.rankings(example), views.pairs(example)
    assert isinstance(ranked, Group) and isinstance(ranked.relation, RankRelation)
    assert ranked.relation.scores == (-3.0, -1.0, -1.0)
    assert isinstance(paired, Group) and isinstance(paired.relation, PairRelation)
    # Both best answers beat the worst; between themselves they tie.
    assert sorted(pair[:2] for pair in paired.relation.pairs) == [(1, 0), (2, 0)]


@pytest.mark.parametrize(("label", "comparison"), [(1, Comparison(0, 1)), (0, Comparison(1, 0))])
def test_shp(convert: Convert, label: int, comparison: Comparison) -> None:
    example = convert(**changed(SHP, ("labels",), label))
    responses = (said("With a knife.", score=12.0), said("With care.", score=30.0))
    assert made(example) == (asked("How to peel it?"), responses, (comparison,))


def test_shp_without_votes(convert: Convert) -> None:
    row = changed(changed(SHP, ("score_A",), DROP), ("score_B",), None)
    assert [one.score for one in convert(**row).responses] == [None, None]


def test_helpsteer(convert: Convert) -> None:
    assert made(convert(**HELPSTEER)) == (asked("c#"), (said("A language.", score=3.0),), ())


STRENGTHS = [(-3, 0), (-1, 0), (1, 1), (3, 1)]


@pytest.mark.parametrize(("strength", "better"), STRENGTHS)
def test_helpsteer2_preferences(convert: Convert, strength: int, better: int) -> None:
    example = convert(**changed(HELPSTEER2, ("preference_strength",), strength))
    comparisons = (Comparison(better, 1 - better),)
    assert made(example) == (asked("c#"), (said("A language."), said("A note.")), comparisons)


@pytest.mark.parametrize("row", [HELPSTEER, HELPSTEER2], ids=["ratings", "preferences"])
def test_helpsteer_prompts_of_several_turns(convert: Convert, row: Row) -> None:
    prompt = "Hi\n\n<extra_id_1>Assistant\nHello\nyou\n<extra_id_1>User\nWhat is <extra_id_1>?\n"
    assert convert(**{**row, "prompt": prompt}).prompt.content == (
        Message("user", "Hi\n"),
        Message("assistant", "Hello\nyou"),
        Message("user", "What is <extra_id_1>?\n"),
    )


@pytest.mark.parametrize(("strength", "better"), STRENGTHS)
def test_helpsteer3_preferences(convert: Convert, strength: int, better: int) -> None:
    example = convert(**changed(HELPSTEER3, ("overall_preference",), strength))
    prompt = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "c#?"))
    comparisons = (Comparison(better, 1 - better),)
    assert made(example) == (prompt, (said("A note."), said("A language.")), comparisons)


POST = "SUBREDDIT: r/AskDocs\n\nTITLE: Knee\n\nPOST: It {hurts}.\n\nTL;DR:"


@pytest.mark.parametrize("choice", [0, 1])
def test_comparisons_of_summaries(convert: Convert, choice: int) -> None:
    responses = (Response(" My knee hurts.", source="sup1"), Response(" Knee.", source="ref"))
    example = convert(**changed(SUMMARIES, ("choice",), choice))
    assert made(example) == (POST, responses, (Comparison(choice, 1 - choice),))


@pytest.mark.parametrize("row", [SUMMARIES, SUMMARY], ids=["comparisons", "ratings"])
def test_summaries_of_news(convert: Convert, row: Row) -> None:
    row = {**row, "info": {"id": "a1", "title": "Fox", "article": "A fox ran.", "post": None}}
    assert convert(**row).prompt.content == "Article:\nA fox ran.\n\nTL;DR:\n"


def test_ratings_of_summaries(convert: Convert) -> None:
    assert made(convert(**SUMMARY)) == (POST, (Response(" Knee.", score=6.0, source="ref"),), ())


FINE_PROMPT = asked(
    "question: Who wrote it? context: wikipage: Book text: Book is a book. Ann wrote it. "
    "wikipage: Ann text: Ann writes."
)
FOUR = tuple(said(prediction(number)) for number in (1, 2, 3, 4))


def test_fine_grained_rlhf(convert: Convert) -> None:
    """The pairs are 12, 13, 14, 23, 24, 34, of which 13 and 34 tie."""
    won = (Comparison(0, 1), Comparison(3, 0), Comparison(2, 1), Comparison(1, 3))
    responses = (*FOUR, said("Ann Lee.", demonstration=True))
    assert made(convert(**FINE)) == (FINE_PROMPT, responses, won)


def test_fine_grained_rlhf_without_passages_and_feedback(convert: Convert) -> None:
    row = changed(changed(FINE, ("passages",), DROP), ("feedback",), DROP)
    example = convert(**row)
    assert (example.prompt.content, example.responses) == (asked("Who wrote it?"), FOUR)
    assert convert(**{**FINE, "passages": [], "feedback": {}}).responses == FOUR


def test_fine_grained_rlhf_correction_that_is_a_prediction(convert: Convert) -> None:
    row = changed(FINE, ("feedback", "corrected-prediction"), prediction(2) + "\n")
    expected = (FOUR[0], said(prediction(2), demonstration=True), *FOUR[2:])
    assert convert(**row).responses == expected


def test_fine_grained_rlhf_of_which_nothing_was_left(convert: Convert) -> None:
    """Annotators cut all of some predictions."""
    assert convert(**changed(FINE, ("feedback", "corrected-prediction"), " ")).responses == FOUR


def test_fine_grained_rlhf_all_ties_with_a_correction(convert: Convert) -> None:
    example = convert(**changed(FINE, ("preference",), [0] * 6))
    assert (len(example.responses), example.comparisons) == (5, ())


@pytest.mark.parametrize(
    ("preference", "comparisons"),
    [
        ("a-is-better", (Comparison(0, 1),)),
        ("a-is-clearly-better", (Comparison(0, 1),)),
        ("a-is-slightly-better", (Comparison(0, 1),)),
        ("b-is-slightly-better", (Comparison(1, 0),)),
        ("b-is-clearly-better", (Comparison(1, 0),)),
        ("b-is-better", (Comparison(1, 0),)),
    ],
)
def test_open_instruct(convert: Convert, preference: str, comparisons: tuple[Comparison, ...]) -> None:
    example = convert(**{**OPEN, "preference": preference})
    responses = (said("Brick.", label=0.0, source="tulu"), said("Apple.", label=1.0, source="chatgpt"))
    assert made(example) == (asked("Name a fruit.\n"), responses, comparisons)


def test_open_instruct_ties_compare_nothing_though_one_side_alone_is_acceptable(convert: Convert) -> None:
    example = convert(**{**OPEN, "preference": "tie"})
    assert [(one.label, one.score) for one in example.responses] == [(0.0, 0.0), (1.0, 0.0)]
    assert example.comparisons == ()
    assert isinstance(views.pairs(example), Discarded) and isinstance(views.rankings(example), Discarded)
    group = views.points(example)
    assert isinstance(group, Group) and len(group.responses) == 2
    alike = convert(**{**OPEN, "preference": "tie", "completion_a_is_acceptable": "yes"})
    assert [(one.label, one.score) for one in alike.responses] == [(1.0, None), (1.0, None)]


def test_open_instruct_one_label_makes_a_tie_useful(convert: Convert) -> None:
    example = convert(**{**OPEN, "preference": "tie", "completion_a_is_acceptable": None})
    assert [one.label for one in example.responses] == [None, 1.0]


def test_truthful_qa(convert: Convert) -> None:
    """An answer stands once on each side; one that is on both sides stands twice."""
    responses = (
        said("4", label=1.0),
        said("Four", label=1.0, demonstration=True),
        said("Unknown", label=1.0),
        said("5", label=0.0),
        said("Unknown", label=0.0),
    )
    assert made(convert(**TRUTHFUL)) == (asked("What is 2 + 2?"), responses, ())


def test_truthful_qa_best_answer_of_its_own(convert: Convert) -> None:
    example = convert(
        **{**TRUTHFUL, "Best Answer": "It is 4", "Correct Answers": "4", "Incorrect Answers": "5"}
    )
    responses = (
        said("4", label=1.0),
        said("It is 4", label=1.0, demonstration=True),
        said("5", label=0.0),
    )
    assert example.responses == responses


def test_gsm8k_solutions(convert: Convert) -> None:
    responses = (
        said("A: 5", label=0.0, source="6b_finetuning"),
        said("It is 4\nA: 4", label=1.0, source="mine"),
        said("A: 4", label=1.0, demonstration=True),
    )
    assert made(convert(**GSM)) == (asked("2 + 2?"), responses, ())


def test_gsm8k_solution_that_is_the_ground_truth(convert: Convert) -> None:
    row = changed(GSM, ("mine", "solution"), "A: 4")
    responses = (
        said("A: 5", label=0.0, source="6b_finetuning"),
        said("A: 4", label=1.0, source="mine", demonstration=True),
    )
    assert convert(**row).responses == responses


@pytest.mark.parametrize(
    ("context", "before"),
    [("apples are fruit .\n", "apples are fruit .\n\n"), ("_nofact\n", ""), (" ", ""), (None, "")],
)
def test_unieval(convert: Convert, context: str | None, before: str) -> None:
    example = convert(**{**UNIEVAL, "context": context})
    response = Response("how are you ?", score=4.5, source="New Human Generated")
    assert made(example) == (before + "hi .\n hello . \n\n", (response,), ())
