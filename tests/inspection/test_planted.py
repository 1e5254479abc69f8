"""Each fault planted once among sound rows is found once, at its row; sound data has none."""

from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import canonical, inspected, pair, point, ranked, rows_of_kinds, write

from trueup.display import collected
from trueup.inspection.inspection import inspect
from trueup.sources.by_name import examples_named

SOUND = {
    "pairs": [pair(f"say {n}:", f" it is {n}", f" not {n} at all") for n in range(6)],
    "rankings": [ranked(0.5, 1.0, -2.0, prompt=f"rank {n}:") for n in range(6)],
    "points": [point(n % 2, f"point {n}:", f" word {n}") for n in range(6)],
    "canonical": [
        canonical({"content": f" a {n}x"}, {"content": f" b {n}x"}, comparisons=[{"better": 0, "worse": 1}])
        | {"prompt": f"canonical {n}:"}
        for n in range(6)
    ],
}
A, B, C = ({"content": f" answer {letter}"} for letter in "ABC")


def over(better: int, worse: int) -> dict[str, int]:
    return {"better": better, "worse": worse}


PLANTED: dict[str, tuple[str, Any]] = {
    "malformed-row": ("pairs", '{"prompt": "torn'),
    "malformed-row, a wrong type": ("pairs", pair(chosen=3)),
    "unusable-row": ("pairs", pair(rejected="")),
    "unused-key": ("pairs", {**pair(), "zebra": 1}),
    "unused-judgement-key": ("pairs", {**pair(), "chosen_rating": 1}),
    "contradicting-scores": ("pairs", {**pair(), "score_chosen": 1, "score_rejected": 2}),
    "contradicting-scores, by labels": (
        "canonical", canonical({**A, "label": 0}, {**B, "label": 1}, comparisons=[over(0, 1)])
    ),
    "contradicting-rows": ("pairs", pair("say 3:", " not 3 at all", " it is 3")),
    "contradicting-rows, by scores": (
        "rankings", {"prompt": "rank 4:", "responses": [" answer 2", " answer 0"], "scores": [1, 0]}
    ),
    "contradicting-labels": ("points", point(1, "point 2:", " word 2")),
    "all-scores-equal": ("rankings", ranked(2, 2, 2)),
    "tie": ("rankings", ranked(2, 2, 1)),
    "single-response": ("rankings", ranked(2)),
    "near-empty-response": ("pairs", pair(chosen=" a\u200b \n.")),
    "empty-prompt": ("pairs", pair(" \n")),
    "no-feedback": ("canonical", canonical(A, B)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOUND)
def test_sound_data_has_no_problem(kind: str, tmp_path: Path) -> None:
    inspection = inspected(tmp_path, *SOUND[kind])
    assert inspection.problems == ()
    assert not inspection.unreadable


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_once_in_evaluation_data_too(name: str, tmp_path: Path) -> None:
    among, row = PLANTED[name]
    file = write(tmp_path / "data.jsonl", [*SOUND[among], row])
    expected = {name.partition(",")[0]: (len(SOUND[among]) + 1,)}
    assert rows_of_kinds(inspect([str(file)])) == expected
    other = write(tmp_path / "other.jsonl", SOUND["points" if among != "points" else "pairs"])
    assert rows_of_kinds(inspect([str(other)], [str(file)])) == expected


def test_details_name_the_other_place(tmp_path: Path) -> None:
    again, against = pair("say 3:", " it is 3", " not 3 at all"), pair("say 4:", " not 4 at all", " it is 4")
    data = write(tmp_path / "a.jsonl", [*SOUND["pairs"], again])
    more = write(tmp_path / "b.jsonl", [against])
    inspection = inspect([str(data), str(more)])
    details = {one.kind: one.details for one in inspection.problems}
    assert details == {
        "duplicate": (f"{data}:7 repeats row 4",),
        "contradicting-rows": (f"{more}:1 contradicts {data}:5",),
    }


def test_a_duplicate_is_found_in_whatever_order_its_responses_stand(tmp_path: Path) -> None:
    scored = ({**A, "score": 3}, {**B, "score": 1}, {**C, "score": 2})
    rows = [
        canonical(*scored, comparisons=[over(0, 1), over(2, 1)]),
        canonical(scored[2], scored[1], scored[0], comparisons=[over(0, 1), over(2, 1)]),
        canonical(scored[1], scored[0], scored[2], comparisons=[over(2, 0), over(1, 2)]),  # says something else
    ]
    found = rows_of_kinds(inspected(tmp_path, *rows))
    assert found["duplicate"] == (2,)


def test_a_row_may_contradict_itself_in_labels(tmp_path: Path) -> None:
    row = canonical({"content": " yes", "label": 1}, {"content": " yes", "label": 0})
    file = write(tmp_path / "a.jsonl", [row])
    inspection = inspect([str(file)])
    assert set(rows_of_kinds(inspection)) == {"contradicting-labels", "identical-responses"}
    assert [one.details for one in inspection.problems if one.details] == [(f"{file}:1 contradicts itself",)]


def test_a_graded_label_that_says_nothing_contradicts_nothing(tmp_path: Path) -> None:
    labels = [
        point(0.5, "p", " word"), point(1, "p", " word"), point(0.5, "p", " word"), point(0, "q", " word"),
    ]  # fmt: skip
    found = rows_of_kinds(inspected(tmp_path, *labels))
    assert found == {"duplicate": (3,)}


@pytest.mark.parametrize(("label", "word"), [(1.0, "good"), (0.75, "good"), (0.0, "bad")])
def test_labels_of_one_class(label: float, word: str, tmp_path: Path) -> None:
    rows = [point(label, f"point {n}:") for n in range(2)]
    (problem,) = inspected(tmp_path, *rows).problems
    assert (problem.kind, problem.what) == ("one-class", f"all labels are {word}")
    rows.append(point(1 - label, "other:"))
    assert not inspected(tmp_path, *rows).problems


def test_messages_are_compared_with_all_they_hold(tmp_path: Path) -> None:
    """The same words to another tool, by another name or in another role are something else."""

    def conversation(role: str = "user", **extra: object) -> dict[str, Any]:
        answer = [{"role": "assistant", "content": "it is seven"}]
        return {"prompt": [{"role": role, "content": "what is it?", **extra}], "completion": answer}

    tools = [{"type": "function", "function": {"name": "add"}}]
    rows = [
        conversation(), conversation(role="system"), conversation(name="ann"),
        {**conversation(), "tools": tools}, conversation(name="ann"),
    ]  # fmt: skip
    found = rows_of_kinds(inspected(tmp_path, *rows))
    assert found["duplicate"] == (5,)


@pytest.mark.parametrize(("most", "rows"), [(0, ()), (1, ()), (2, (1,)), (3, (1, 2)), (4, (1, 2, 3))])
def test_near_empty_is_a_setting(most: int, rows: tuple[int, ...], tmp_path: Path) -> None:
    texts = [" a", " a b", "a\tbc", "a b\u00a0c d"]
    file = write(tmp_path / "a.jsonl", [pair(text, text, " long enough") for text in texts])
    found = rows_of_kinds(inspect([str(file)], min_characters=most))
    assert found.get("near-empty-response", ()) == rows


def test_every_malformed_row_is_there_with_its_error(tmp_path: Path) -> None:
    """The first rows are torn: reading goes on to the layout all the same."""
    bad = [f'{{"torn {number}' for number in range(30)]
    file = write(tmp_path / "a.jsonl", [*bad, *SOUND["pairs"]])
    (problem,) = inspect([str(file)]).problems
    assert problem.count == 30 and len(problem.details) == 30
    assert problem.rows == {str(file): list(range(1, 31))}
    assert all(f"a.jsonl:{row}:" in detail for row, detail in enumerate(problem.details, 1))


def test_data_of_which_no_row_is_left(tmp_path: Path) -> None:
    inspection = inspected(tmp_path, pair(chosen=""), pair(rejected=""))
    assert rows_of_kinds(inspection) == {"no-examples": (), "unusable-row": (1, 2)}
    assert inspection.unreadable
    assert inspection.problems[0].severity == "error"


def test_prompts_in_both_parts(tmp_path: Path) -> None:
    training = write(tmp_path / "a.jsonl", [*SOUND["pairs"], pair("say 2:", " something", " another")])
    rows = [pair("say 99:"), pair("say 2:"), pair("say 2: "), pair("say 5:")]
    held_out = write(tmp_path / "b.jsonl", rows)
    inspection = inspect([str(training)], [str(held_out)])
    assert rows_of_kinds(inspection) == {"prompt-overlap": (2, 4)}
    assert [int(one.evaluation.rpartition(":")[2]) for one in inspection.overlap] == [2, 4]
    assert inspection.problems[0].details == (
        f"{held_out}:2 asks what is asked at {training}:3, {training}:7",
        f"{held_out}:4 asks what is asked at {training}:6",
    )


@pytest.mark.parametrize(
    ("comparison", "scores"),
    [
        ({"better": 0, "worse": 1}, (2, 1)),
        ({"better": 0, "worse": 1}, (1, 1)),
        ({"better": 0, "worse": 1}, (1, None)),
        ({"better": 1, "worse": 0}, (1, 2)),
    ],
)
def test_scores_that_do_not_contradict(comparison: dict[str, Any], scores: tuple[Any, Any], tmp_path: Path) -> None:
    sides = [side | ({} if score is None else {"score": score}) for side, score in zip((A, B), scores, strict=True)]
    file = write(tmp_path / "a.jsonl", [canonical(*sides, comparisons=[comparison])])
    assert "contradicting-scores" not in rows_of_kinds(inspect([str(file)]))


def test_every_run_says_that_scores_contradict(tmp_path: Path) -> None:
    against = {**pair(), "score_chosen": 1, "score_rejected": 2}
    file = write(tmp_path / "a.jsonl", [*SOUND["pairs"], against, {**against, "prompt": "say:"}])
    with collected() as said:
        examples_named([str(file)])
    assert said[1:] == [f"{file}: the scores or labels of 2 rows (rows 7, 8) contradict their comparison"]


def test_unused_keys_are_found_by_kind_with_their_rows(tmp_path: Path) -> None:
    more: tuple[dict[str, Any], ...] = ({"id": 1}, {}, {"note": 2}, {"id": 3, "images": ["a"]}, {"rating": 1})
    rows = [{**row, **keys} for row, keys in zip(SOUND["pairs"], more, strict=False)]
    file = write(tmp_path / "a.jsonl", rows)
    inspection = inspect([str(file)])
    assert rows_of_kinds(inspection) == {
        "unused-request-key": (4,), "unused-judgement-key": (5,), "unused-key": (1, 3, 4),
    }  # fmt: skip
    assert [one.what.rpartition(": ")[2] for one in inspection.problems] == ["images", "rating", "id, note"]
    assert [one.severity for one in inspection.problems] == ["warning", "warning", "note"]


def test_single_responses_with_a_score_alone(tmp_path: Path) -> None:
    """Demonstrations are all of them, the worst too; a label or a mark says more."""
    rows = [canonical({**A, "score": score}) | {"prompt": f"rate {score}:"} for score in (1, 5, 3)]
    labelled = canonical({**B, "score": 0, "label": 1})
    file = write(tmp_path / "a.jsonl", [*rows, labelled])
    inspection = inspect([str(file)])
    found = rows_of_kinds(inspection)
    assert found == {"demonstrated-by-score": (1, 2, 3), "single-response": (1, 2, 3, 4)}
    assert inspection.problems[0].what.endswith(": 1 to 5")
    assert inspection.views["demonstrations"].units == 4
    same = write(tmp_path / "b.jsonl", [{**row, "responses": [{**A, "score": 5}]} for row in rows])
    assert set(rows_of_kinds(inspect([str(same)]))) == {"single-response"}
