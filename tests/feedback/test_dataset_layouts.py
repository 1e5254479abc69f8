"""The layouts of single public data sets: every field by value, every fault by its message."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.groups import Discarded, Group, PairRelation, RankRelation
from trueup.feedback.layouts import data_sets
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Message, Response

Write = Callable[..., Path]
Convert = Callable[..., Example]
Row = dict[str, Any]


def ratings(**given: object) -> Row:
    """Annotations of UltraFeedback."""
    return {aspect: {"Rating": rating, "Rationale": "So."} for aspect, rating in given.items()}


def prediction(number: int) -> str:
    """What FineGrainedRLHF's systems said."""
    return f"Answer {number}."


ULTRAFEEDBACK: Row = {
    "source": "sharegpt",
    "instruction": "Name a fruit.",
    "models": ["gpt-4", "alpaca-7b"],
    "completions": [
        {
            "model": "gpt-4",
            "principle": "helpfulness",
            "custom_system_prompt": "Be kind.",
            "response": "Apple.",
            "critique": "Good.",
            "overall_score": 8.5,
            "fine-grained_score": 3,
            "annotations": ratings(
                honesty="3", helpfulness="4", truthfulness="N/A", instruction_following="1"
            ),
        },
        {
            "model": "alpaca-7b",
            "response": "Brick.",
            "overall_score": 2,
            "fine-grained_score": 4.5,
            "annotations": ratings(honesty="5", helpfulness=5, truthfulness="1", instruction_following="N/A"),
        },
    ],
}
NECTAR: Row = {
    "prompt": "\n\nHuman: Name a fruit.\n\nAssistant: ",
    "answers": [
        {"answer": "Brick.", "model": "a", "rank": 3.0},
        {"answer": "Apple.", "model": "b", "rank": 1},
        {"answer": "Pear.", "model": "c", "rank": 1},
    ],
    "turns": 1,
    "num_response": 3,
    "source": ["sharegpt"],
    "good_natured": True,
}
SHP: Row = {
    "post_id": "qt3nxl",
    "history": "How to peel it?",
    "human_ref_A": "With a knife.",
    "human_ref_B": "With care.",
    "labels": 0,
    "score_A": 12,
    "score_B": 30,
    "score_ratio": 2.5,
}
HELPSTEER: Row = {
    "prompt": "c#",
    "response": "A language.",
    "helpfulness": 3,
    "correctness": 4,
    "coherence": 4,
    "complexity": 2,
    "verbosity": 1,
}
HELPSTEER2: Row = {
    "split": "train",
    "prompt": "c#",
    "response_1": "A language.",
    "response_2": "A note.",
    "preference_strength": -2,
    "preference_statement": "Response 1 is better.",
}
HELPSTEER3: Row = {
    "domain": "general",
    "context": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "c#?"},
    ],
    "response1": "A note.",
    "response2": "A language.",
    "overall_preference": 1,
    "individual_preference": [{"score": 1}],
}
INFO: Row = {"id": "t3", "post": "It {hurts}.", "title": "Knee", "subreddit": "AskDocs", "site": None}
SUMMARIES: Row = {
    "info": INFO,
    "summaries": [
        {"text": " My knee hurts.", "policy": "sup1", "note": "ok"},
        {"text": " Knee.", "policy": "ref", "note": None},
    ],
    "choice": 1,
    "worker": "w",
    "extra": {"confidence": 8},
}
SUMMARY: Row = {
    "info": INFO,
    "summary": {"text": " Knee.", "policy": "ref", "axes": {"overall": 6, "coverage": 2}},
    "split": "test",
}
FINE: Row = {
    "question": "Who wrote it?",
    "passages": [["Book", "Book is a book.", "Ann wrote it."], ["Ann", "Ann writes."]],
    "gold": "Ann did.",
    **{f"prediction {number}": prediction(number) for number in (1, 2, 3, 4)},
    "feedback": {"errors": [], "missing-info": [], "corrected-prediction": "Ann Lee. "},
    "preference": [1, 0, 2, 2, 1, 0],
}
OPEN: Row = {
    "id": 213.0,
    "prompt": "Name a fruit.\n",
    "model_a": "tulu",
    "model_b": "chatgpt",
    "completion_a": "Brick.",
    "completion_b": "Apple.",
    "completion_a_is_acceptable": "no",
    "completion_b_is_acceptable": "yes",
    "preference": "b-is-slightly-better",
    "comment": None,
}
TRUTHFUL: Row = {
    "Type": "Adversarial",
    "Question": "What is 2 + 2?",
    "Best Answer": "Four",
    "Correct Answers": "4; Four ;4; Unknown;",
    "Incorrect Answers": "5; Unknown",
    "Source": "https://example.org",
}
GSM: Row = {
    "question": "2 + 2?",
    "ground_truth": "A: 4",
    "6b_finetuning": {"is_correct": False, "solution": "A: 5"},
    "mine": {"is_correct": True, "solution": "It is 4\nA: 4"},
    "note": "odd",
}
UNIEVAL: Row = {
    "source": "hi .\n hello . \n\n",
    "system_id": "New Human Generated",
    "system_output": "how are you ?",
    "context": "apples are fruit .\n",
    "scores": {"coherence": 3.0, "overall": 4.5},
}

ROWS: dict[str, Row] = {
    "UltraFeedback": ULTRAFEEDBACK,
    "Nectar": NECTAR,
    "SHP": SHP,
    "HelpSteer": HELPSTEER,
    "HelpSteer2 preferences": HELPSTEER2,
    "HelpSteer3 preferences": HELPSTEER3,
    "comparisons of summaries": SUMMARIES,
    "ratings of summaries": SUMMARY,
    "FineGrainedRLHF": FINE,
    "open-instruct human evaluation": OPEN,
    "TruthfulQA": TRUTHFUL,
    "GSM8K solutions": GSM,
    "UniEval ratings": UNIEVAL,
}
UNUSED = {
    "UltraFeedback": ["source", "models"],
    "Nectar": ["turns", "num_response", "source", "good_natured"],
    "SHP": ["post_id", "score_ratio"],
    "HelpSteer": ["correctness", "coherence", "complexity", "verbosity"],
    "HelpSteer2 preferences": ["split", "preference_statement"],
    "HelpSteer3 preferences": ["domain", "individual_preference"],
    "comparisons of summaries": ["worker", "extra"],
    "ratings of summaries": ["split"],
    "FineGrainedRLHF": ["gold"],
    "open-instruct human evaluation": ["id", "comment"],
    "TruthfulQA": ["Type", "Source"],
    "GSM8K solutions": ["note"],
    "UniEval ratings": [],
}


def asked(text: str) -> tuple[Message, ...]:
    """A prompt of one turn."""
    return (Message("user", text),)


def said(text: str, **rest: Any) -> Response:
    """A response of one turn."""
    return Response((Message("assistant", text),), **rest)


def made(example: Example) -> tuple[object, ...]:
    """An example without its origin."""
    return example.prompt, example.responses, example.comparisons


def changed(row: Row, path: tuple[str | int, ...], value: object) -> Row:
    """A copy of the row with one value set, or one key removed where the value is `DROP`."""
    new = copy.deepcopy(row)
    at: Any = new
    for step in path[:-1]:
        at = at[step]
    if value is DROP:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return new


DROP = object()


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
    assert [layout.name for layout in data_sets.LAYOUTS] == list(ROWS)


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
    assert convert(**{**row, "prompt": prompt}).prompt == (
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
    assert convert(**row).prompt == "Article:\nA fox ran.\n\nTL;DR:\n"


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
    assert (example.prompt, example.responses) == (asked("Who wrote it?"), FOUR)
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


USELESS: list[tuple[Row, str]] = [
    (changed(HELPSTEER2, ("preference_strength",), 0), "the two responses tie"),
    (changed(HELPSTEER3, ("overall_preference",), 0), "the two responses tie"),
    (
        {key: value for key, value in {**OPEN, "preference": "tie"}.items() if "acceptable" not in key},
        "the two responses tie",
    ),
    ({**FINE, "preference": [0] * 6, "feedback": None}, "all responses tie"),
    ({**ULTRAFEEDBACK, "completions": []}, "the list of completions is empty"),
    (
        {**ULTRAFEEDBACK, "completions": [{"response": "a", "overall_score": 1}, {"response": "b"}]},
        "no kind of score is given to all completions",
    ),
    (changed(SUMMARY, ("summary", "axes", "overall"), None), "the summary has no overall score"),
    (changed(SUMMARY, ("summary", "axes", "overall"), DROP), "the summary has no overall score"),
    ({**HELPSTEER3, "context": []}, "no turn stands before the response"),
    (changed(NECTAR, ("answers", 0, "answer"), ""), "a response is empty"),
    (
        {**TRUTHFUL, "Best Answer": "", "Correct Answers": ";", "Incorrect Answers": " "},
        "there is no answer",
    ),
]


@pytest.mark.parametrize(("row", "reason"), USELESS, ids=range(len(USELESS)))
def test_useless_rows_are_counted_not_fatal(write: Write, row: Row, reason: str) -> None:
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    feedback = read_feedback([useful, write(row, row)])
    assert len(feedback.examples) == 1
    assert feedback.files[1].unusable == {reason: (1, 2)}


def test_an_empty_list_of_answers_after_others(write: Write) -> None:
    (report,) = read_feedback([write(NECTAR, {**NECTAR, "answers": []})]).files
    assert report.unusable == {"the list of answers is empty": (2,)}


FAULTS: list[tuple[Row, tuple[str | int, ...], object, str]] = [
    (ULTRAFEEDBACK, ("instruction",), None, "instruction: found null, expected text"),
    (ULTRAFEEDBACK, ("completions", 1), "x", r"completions\[1\]: found text 'x', expected an object"),
    (ULTRAFEEDBACK, ("completions", 1, "response"), DROP, r"completions\[1\].response: the key is missing"),
    (ULTRAFEEDBACK, ("completions", 0, "response"), 3, r"completions\[0\].response: found the number 3, exp"),
    (
        ULTRAFEEDBACK,
        ("completions", 0, "model"),
        3,
        r"completions\[0\].model: found the number 3, expected text",
    ),
    (
        ULTRAFEEDBACK,
        ("completions", 0, "overall_score"),
        "8",
        r"completions\[0\].overall_score: found text '8'",
    ),
    (NECTAR, ("prompt",), ["x"], "prompt: found a list of 1, expected text"),
    (NECTAR, ("answers", 1), None, r"answers\[1\]: found null, expected an object"),
    (
        NECTAR,
        ("answers", 2, "rank"),
        DROP,
        r"answers\[2\].rank: the key is missing; the row has answer, model",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        "first",
        r"answers\[0\].rank: found text 'first', expected a finite number",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        0,
        r"answers\[0\].rank: found the number 0, expected a whole .* least 1$",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        1.5,
        r"answers\[0\].rank: found the number 1.5, expected a whole number",
    ),
    (NECTAR, ("answers", 0, "answer"), None, r"answers\[0\].answer: found null, expected text"),
    (SHP, ("labels",), 2, "labels: found the number 2, expected a whole number from 0 to 1"),
    (SHP, ("labels",), True, "labels: found true, expected a finite number"),
    (SHP, ("history",), None, "history: found null, expected text"),
    (SHP, ("human_ref_B",), None, "human_ref_B: found null, expected text"),
    (SHP, ("score_B",), "30", "score_B: found text '30', expected a finite number"),
    (HELPSTEER, ("helpfulness",), "3", "helpfulness: found text '3', expected a finite number"),
    (HELPSTEER, ("helpfulness",), None, "helpfulness: found null, expected a finite number"),
    (HELPSTEER, ("response",), 3, "response: found the number 3, expected text"),
    (HELPSTEER, ("prompt",), "Hi\n<extra_id_1>Assistant\n", "prompt: the last turn is the assistant's"),
    (HELPSTEER2, ("preference_strength",), 4, "preference_strength: found the number 4, .* from -3 to 3"),
    (HELPSTEER2, ("preference_strength",), -100, "preference_strength: found the number -100, .* -3 to 3"),
    (HELPSTEER2, ("response_2",), None, "response_2: found null, expected text"),
    (HELPSTEER3, ("overall_preference",), 0.5, "overall_preference: found the number 0.5, expected a whole"),
    (HELPSTEER3, ("context",), "Hi", "context: found text 'Hi', expected a list of messages"),
    (
        HELPSTEER3,
        ("context", 2, "role"),
        "assistant",
        r"context\[2\].role: found text 'assistant', .* the user",
    ),
    (HELPSTEER3, ("context", 0, "role"), "human", r"context\[0\].role: .* did you mean 'user'\?"),
    (
        SUMMARIES,
        ("choice",),
        2,
        "choice: found the number 2, expected the position of a response, from 0 to 1",
    ),
    (SUMMARIES, ("choice",), None, "choice: found null, expected the position of a response"),
    (SUMMARIES, ("summaries",), [{"text": "a"}], "summaries: found a list of 1, expected a list of 2"),
    (SUMMARIES, ("summaries", 1, "text"), DROP, r"summaries\[1\].text: the key is missing"),
    (SUMMARIES, ("info", "title"), DROP, "info.title: the key is missing; .* a 'post' with its 'title'"),
    (SUMMARIES, ("info", "post"), None, "info.article: the key is missing; .* or an 'article'"),
    (SUMMARIES, ("info",), "It hurts.", "info: found text 'It hurts.', expected an object"),
    (SUMMARY, ("summary", "axes"), DROP, "summary.axes: the key is missing"),
    (SUMMARY, ("summary", "axes", "overall"), "6", "summary.axes.overall: found text '6', expected a finite"),
    (
        FINE,
        ("preference",),
        [1, 2],
        r"preference: found a list of 2, expected one number for each of the 6 pairs",
    ),
    (FINE, ("preference", 3), 3, r"preference\[3\]: found the number 3, expected a whole number from 0 to 2"),
    (FINE, ("preference", 0), "1", r"preference\[0\]: found text '1', expected a finite number"),
    (FINE, ("prediction 4",), None, "prediction 4: found null, expected text"),
    (FINE, ("passages", 1), [], r"passages\[1\]: found a list of 0, expected a title and sentences"),
    (FINE, ("passages", 0, 2), 7, r"passages\[0\]\[2\]: found the number 7, expected text"),
    (FINE, ("feedback",), "good", "feedback: found text 'good', expected an object"),
    (FINE, ("feedback", "corrected-prediction"), 1, "feedback.corrected-prediction: found the number 1"),
    (OPEN, ("preference",), "a", "preference: found text 'a', expected one of a-is-better, .* tie, "),
    (OPEN, ("preference",), None, "preference: found null, expected text"),
    (
        OPEN,
        ("completion_b_is_acceptable",),
        "maybe",
        "completion_b_is_acceptable: .*'maybe', expected 'yes' or",
    ),
    (OPEN, ("model_a",), 7, "model_a: found the number 7, expected text"),
    (TRUTHFUL, ("Correct Answers",), ["4"], "Correct Answers: found a list of 1, expected text"),
    (TRUTHFUL, ("Question",), None, "Question: found null, expected text"),
    (
        GSM,
        ("mine", "is_correct"),
        "yes",
        "mine.is_correct: found text 'yes', expected true, false or a number",
    ),
    (GSM, ("mine", "is_correct"), DROP, "mine.is_correct: the key is missing"),
    (GSM, ("6b_finetuning", "solution"), DROP, "6b_finetuning.solution: the key is missing"),
    (GSM, ("ground_truth",), 4, "ground_truth: found the number 4, expected text"),
    (UNIEVAL, ("scores", "overall"), DROP, "scores.overall: the key is missing; the row has coherence"),
    (UNIEVAL, ("scores", "overall"), "good", "scores.overall: found text 'good', expected a finite number"),
    (UNIEVAL, ("system_id",), 3, "system_id: found the number 3, expected text"),
]


@pytest.mark.parametrize(("row", "path", "value", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults(convert: Convert, row: Row, path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(**changed(row, path, value))
    assert re.match(r"\S*/data\.jsonl:1: ", str(caught.value)) and "\n" not in str(caught.value)


RATINGS: list[tuple[tuple[str | int, ...], object, str]] = [
    (("honesty", "Rating"), "good", "honesty.Rating: found text 'good', expected a number, or 'N/A'"),
    (("honesty", "Rating"), "nan", "honesty.Rating: found text 'nan', expected a number, or 'N/A'"),
    (("honesty", "Rating"), True, "honesty.Rating: found true, expected a finite number"),
    (("honesty",), 3, "honesty: found the number 3, expected an object"),
]


@pytest.mark.parametrize(("path", "value", "message"), RATINGS)
def test_faults_of_ultrafeedback_ratings(
    convert: Convert, path: tuple[str | int, ...], value: object, message: str
) -> None:
    row = changed(ULTRAFEEDBACK, ("completions", 0, "annotations", *path), value)
    for key in ("overall_score", "fine-grained_score"):
        row = changed(row, ("completions", 0, key), None)
    with pytest.raises(InputError, match=r"completions\[0\].annotations." + re.escape(message)):
        convert(**row)


@pytest.mark.parametrize("name", ROWS)
def test_a_key_that_a_later_row_lacks(write: Write, name: str) -> None:
    """Every key that the layout names as one of every row is demanded of every row."""
    (layout,) = (one for one in data_sets.LAYOUTS if one.name == name)
    for key in layout.keys:
        with pytest.raises(InputError, match=f"2: {re.escape(key)}: the key is missing.* taken for {name}"):
            read_feedback([write(ROWS[name], changed(ROWS[name], (key,), DROP))])


@pytest.mark.parametrize("row", [HELPSTEER, HELPSTEER2], ids=["ratings", "preferences"])
def test_pairs_stay_pairs(convert: Convert, row: Row) -> None:
    """A file that was turned into pairs, and kept its first columns, is one of pairs."""
    example = convert(**{**row, "chosen": "a", "rejected": "b"})
    assert made(example) == ("c#", (Response("a"), Response("b")), (Comparison(0, 1),))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "p", "answers": [{"content": "a"}]}, "Nectar"),
        ({"question": "q", "ground_truth": "a"}, "GSM8K solutions"),
    ],
)
def test_the_right_keys_with_other_values(convert: Convert, row: Row, name: str) -> None:
    with pytest.raises(InputError, match=f"no known layout .*; {name} has other values there; docs/feedback"):
        convert(**row)
