"""Real data sets, each read and then counted by another way."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trueup.feedback import views
from trueup.feedback.read import FileReport, read_feedback
from trueup.feedback.records import Content, Example

Shared = Callable[[str], Path]

FINE_GRAINED = "finegrained_rlhf/qa_feedback_dev_first250.json"
OPEN_INSTRUCT = "open_instruct_human_eval/annotations_first575.jsonl"
TRUTHFUL_QA = "truthfulqa/TruthfulQA.csv"
GSM8K = "gsm8k_solutions/solutions_first400.jsonl"


def read(path: Path) -> tuple[dict[int, Example], FileReport]:
    feedback = read_feedback([path])
    (report,) = feedback.files
    found = {one.origin.row: one for one in feedback.examples if one.origin}
    assert len(found) == len(feedback.examples) == report.examples
    return found, report


def spoken(content: Content) -> str:
    if isinstance(content, str):
        return content
    (turn,) = content
    return turn.content


def test_fine_grained_rlhf(shared: Shared) -> None:
    """A table of who beat whom, made from the order 12, 13, 14, 23, 24, 34 written out."""
    path = shared(FINE_GRAINED)
    rows: list[Any] = json.loads(path.read_bytes())
    found, report = read(path)
    expected: dict[int, tuple[set[tuple[str, str]], str]] = {}
    ties = []
    for number, row in enumerate(rows, start=1):
        a, b, c, d = (row[f"prediction {index}"] for index in range(1, 5))
        beaten = set()
        for (left, right), verdict in zip(
            [(a, b), (a, c), (a, d), (b, c), (b, d), (c, d)], row["preference"], strict=True
        ):
            beaten |= {0: set(), 1: {(left, right)}, 2: {(right, left)}}[verdict]
        corrected = row["feedback"]["corrected-prediction"].strip()
        if beaten or corrected:
            expected[number] = (beaten, corrected)
        else:
            ties.append(number)
    assert list(found) == list(expected)
    for number, (beaten, corrected) in expected.items():
        example = found[number]
        said = [spoken(one.content) for one in example.responses]
        assert {(said[one.better], said[one.worse]) for one in example.comparisons} == beaten
        assert said[:4] == [rows[number - 1][f"prediction {index}"] for index in range(1, 5)]
        shown = [text for text, one in zip(said, example.responses, strict=True) if one.demonstration]
        assert shown == [corrected] * bool(corrected)
        asked = spoken(example.prompt.content)
        passages, question = rows[number - 1]["passages"], rows[number - 1]["question"]
        assert asked.startswith(f"question: {question} context: wikipage:") if passages else asked == question
        assert all(sentence in asked for passage in passages for sentence in passage)
    verdicts = Counter(verdict for row in rows for verdict in row["preference"])
    assert (report.counts.comparisons, verdicts) == (1349, {1: 842, 2: 507, 0: 151})
    assert report.unusable == {"all responses tie": ties} and ties == [182]
    assert (report.counts.demonstrations, report.unused_keys) == (240, {"gold": 250})


def test_open_instruct(shared: Shared) -> None:
    path = shared(OPEN_INSTRUCT)
    rows: list[Any] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found, report = read(path)
    assert list(found) == list(range(1, len(rows) + 1))
    outcomes: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        example = found[number]
        a, b = example.responses
        assert (spoken(a.content), spoken(b.content)) == (row["completion_a"], row["completion_b"])
        assert (a.source, b.source) == (row["model_a"], row["model_b"])
        acceptable = [row[f"completion_{side}_is_acceptable"] == "yes" for side in "ab"]
        assert [a.label, b.label] == acceptable
        better = {one.better for one in example.comparisons}
        assert better == {"a": {0}, "b": {1}, "t": set()}[row["preference"][0]]
        outcomes["ab"[better.pop()] if better else "tie"] += 1
        assert spoken(example.prompt.content) == row["prompt"]
    assert outcomes == {"a": 83 + 111, "b": 86 + 96, "tie": 199}
    assert (report.counts.comparisons, report.counts.labelled) == (376, 1150)
    points = views.apply(views.points, found.values())
    assert points.units == {"points": 1150}


def test_truthful_qa(shared: Shared) -> None:
    """The labels, found by looking each answer up in its cell."""
    path = shared(TRUTHFUL_QA)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found, report = read(path)
    assert len(rows) == len(found) == 817
    assert report.unused_keys == {"Type": 817, "Category": 817, "Source": 817}
    total = 0
    for row, example in zip(rows, found.values(), strict=True):
        cells = {1.0: row["Correct Answers"], 0.0: row["Incorrect Answers"]}
        for label, cell in cells.items():
            said = [spoken(one.content) for one in example.responses if one.label == label]
            assert set(said) == {part.strip() for part in cell.split(";")} - {""}
            assert len(said) == len(set(said))
            total += len(said)
        (best,) = (one for one in example.responses if one.demonstration)
        assert (spoken(best.content), best.label) == (row["Best Answer"].strip(), 1.0)
        assert spoken(example.prompt.content) == row["Question"]
    assert total == report.counts.labelled == 2587 + 3297


def test_gsm8k_solutions(shared: Shared) -> None:
    path = shared(GSM8K)
    lines = path.read_text("utf-8").splitlines()
    rows: list[Any] = [json.loads(line) for line in lines]
    found, report = read(path)
    right = sum(line.count('"is_correct": true') for line in lines)
    wrong = sum(line.count('"is_correct": false') for line in lines)
    assert right + wrong == 1600
    labels: Counter[float | None] = Counter()
    for row, example in zip(rows, found.values(), strict=True):
        solutions = [one for one in example.responses if one.source is not None]
        assert {one.source: spoken(one.content) for one in solutions} == {
            key: row[key]["solution"] for key in row if key not in ("question", "ground_truth")
        }
        assert all(one.label == row[str(one.source)]["is_correct"] for one in solutions)
        labels.update(one.label for one in solutions)
        (truth,) = (one for one in example.responses if one.demonstration)
        assert (spoken(truth.content), truth.label) == (row["ground_truth"], 1.0)
    assert labels == {1.0: right, 0.0: wrong}
    # One solution is the ground truth to the letter, and stands once.
    assert (report.counts.demonstrations, report.counts.labelled) == (400, 1600 + 400 - 1)
    assert not report.unused_keys


HH = {"hh_rlhf/harmless-base-test.jsonl.gz": 2312, "hh_rlhf/helpful-base-test.jsonl.gz": 2354}


def test_hh(shared: Shared) -> None:
    """Counted here with `split` on the mark of the assistant, where the reader uses `rpartition`."""
    paths = [shared(name) for name in HH]
    feedback = read_feedback(paths)
    assert [report.layout for report in feedback.files] == ["HH transcripts"] * 2
    assert [report.rows for report in feedback.files] == list(HH.values())
    expected: dict[tuple[str, int], tuple[str, str, str]] = {}
    different, empty, identical = [], [], []
    for path in paths:
        for number, line in enumerate(gzip.decompress(path.read_bytes()).split(b"\n")[:-1], start=1):
            row = json.loads(line)
            chosen, rejected = (row[key].split("\n\nAssistant:") for key in ("chosen", "rejected"))
            place = (str(path), number)
            if chosen[:-1] != rejected[:-1]:
                different.append(place)
            elif "" in (chosen[-1].strip(), rejected[-1].strip()):
                empty.append(place)
            else:
                prompt = "\n\nAssistant:".join([*chosen[:-1], ""])
                expected[place] = (prompt, chosen[-1], rejected[-1])
                identical += [place] if row["chosen"] == row["rejected"] else []
    assert (len(different), len(empty), len(identical)) == (14, 8, 2)
    found = {
        (one.origin.file, one.origin.row): (
            one.prompt.content, one.responses[0].content, one.responses[1].content,
        )
        for one in feedback.examples
        if one.origin
    }  # fmt: skip
    assert found == expected
    named = {
        reason: [(report.path, row) for report in feedback.files for row in report.unusable[reason]]
        for reason in feedback.files[0].unusable
    }
    assert named == {"the two sides have different prompts": different, "a response is empty": empty}
    made = views.apply(views.pairs, feedback.examples)
    origins = [(one.file, one.row) for one in made.discarded["identical pair"] if one]
    assert (origins, made.units) == (identical, {"pairs": len(expected) - len(identical)})
    assert set(made.discarded) == {"identical pair"}
    first = feedback.files[0].lines()
    assert first == [
        f"{paths[0]}: HH transcripts, 2312 rows, 2303 comparisons; not used: 4 rows because a response "
        "is empty (rows 87, 517, 926, 1104), 5 rows because the two sides have different prompts "
        "(rows 1255, 1689, 1951, 1953, 2037)"
    ]
