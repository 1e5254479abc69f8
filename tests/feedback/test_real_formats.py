"""Real files of other training frameworks, each counted and read by another way: with `json` alone, by value."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.errors import InputError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Counts, Example, Message

Shared = Callable[[str], Path]
Row = dict[str, object]
Turns = list[tuple[str, str]]
Read = tuple[str, Counts, dict[str, list[int]], list[str]]

NO_END = "the conversation does not end with a turn of the assistant"
PAIRS = {"rm-dpo_chat": 16, "rm-train_preferences": 16, "rm-train_preferences_2": 10, "rm-val_preferences": 16}


def found(layout: str, *unused: str, useless: dict[str, list[int]] | None = None, **counts: int) -> Read:
    """Layout, what is found, rows that are of no use, keys that are not used."""
    return layout, Counts(**counts), useless or {}, list(unused)


FILES: dict[str, Read] = {
    "llamafactory/alpaca_en_demo.json": found("LLaMA-Factory alpaca", responses=999, demonstrations=999),
    "llamafactory/dpo_en_demo.json": found("sharegpt pairs", responses=600, comparisons=300),
    "llamafactory/kto_en_demo.json": found("messages with a label", responses=300, labelled=300),
    "torchtune/stack_exchange_paired_tiny.json": found("Stack Exchange pairs", responses=50, comparisons=25),
    "torchtune/tests__assets__hh_rlhf_tiny.json": found("TRL pairs with an implied prompt", responses=2, comparisons=1),
    **{
        f"turbo_alignment/{name}.jsonl": found("turbo-alignment pairs", "id", responses=2 * rows, comparisons=rows)
        for name, rows in PAIRS.items()
    },
    "turbo_alignment/rm-train_kto.jsonl": found("turbo-alignment points", "id", responses=4, labelled=4),
    "turbo_alignment/chat-train_chat.jsonl": found(
        "turbo-alignment chat", "id", "meta", useless={NO_END: [1]}, responses=2, demonstrations=2
    ),
    "turbo_alignment/chat-train_chat_rag.jsonl": found(
        "turbo-alignment chat", "id", useless={NO_END: [1]}, responses=1, demonstrations=1
    ),
    "turbo_alignment/sampling-inference_out.jsonl": found(
        "turbo-alignment answers", "id", "label", "dataset_name", responses=6
    ),
}

REFUSED = "turbo_alignment/classification-train_classification.jsonl"


def loaded(path: Path) -> list[Row]:
    text = path.read_text("utf-8")
    rows: list[Row] = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    return rows


def plain(value: object) -> object:
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    assert isinstance(value, Message) and not value.extra
    return value.role, value.content


def turns(value: object) -> Turns:
    assert isinstance(value, list)
    names = {"human": "user", "gpt": "assistant", "bot": "assistant"}
    pairs = [(one.get("from") or one["role"], one.get("value") or one["content"]) for one in value]
    return [(names.get(speaker, speaker), said) for speaker, said in pairs]


def expected(row: Row) -> tuple[Turns, list[Turns], list[float | None]]:
    if "instruction" in row:
        request = row["instruction"] if row["input"] == "" else f"{row['instruction']}\n{row['input']}"
        return [("user", str(request))], [[("assistant", str(row["output"]))]], [None]
    if "conversations" in row:
        return turns(row["conversations"]), [turns([row["chosen"]]), turns([row["rejected"]])], [None, None]
    if "question" in row:
        sides = [[("assistant", str(row[key]))] for key in ("response_j", "response_k")]
        return [("user", str(row["question"]))], sides, [None, None]
    if "answer_w" in row:
        return turns(row["context"]), [turns([row["answer_w"]]), turns([row["answer_l"]])], [None, None]
    if "is_desirable" in row:
        return turns(row["context"]), [turns([row["answer"]])], [1.0 if row["is_desirable"] else 0.0]
    if "chosen" in row:
        chosen, rejected = turns(row["chosen"]), turns(row["rejected"])
        assert chosen[:1] == rejected[:1]
        return chosen[:1], [chosen[1:], rejected[1:]], [None, None]
    said = turns(row["messages"])
    if "answers" in row:
        answers = row["answers"]
        assert isinstance(answers, list)
        asked = said[:-1] if said[-1][0] == "assistant" else said
        return asked, [[("assistant", one["content"])] for one in answers], [None] * len(answers)
    last = max(index for index, (speaker, _) in enumerate(said) if speaker == "user") + 1
    label = row.get("label")
    return said[:last], [said[last:]], [None if label is None else float(bool(label))]


def test_every_file_is_looked_at(shared: Shared) -> None:
    folder = shared("formats")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.json*")}
    assert there == {*FILES, REFUSED}


@pytest.mark.parametrize("name", FILES)
def test_the_report_and_every_row_by_value(shared: Shared, name: str) -> None:
    layout, counts, unusable, unused = FILES[name]
    path = shared(f"formats/{name}")
    read = read_feedback([path])
    (report,) = read.files
    assert (report.layout, report.counts, dict(report.unusable)) == (layout, counts, unusable)
    rows = loaded(path)
    assert dict(report.unused_keys) == {key: sum(key in row for row in rows) for key in unused}
    assert (report.rows, report.skipped) == (len(rows), {})
    useless = {row for numbers in unusable.values() for row in numbers}
    assert report.examples == len(rows) - len(useless)
    wanted = [(number, *expected(row)) for number, row in enumerate(rows, start=1) if number not in useless]
    assert [flat(one) for one in read.examples] == wanted


def flat(example: Example) -> tuple[int, object, list[object], list[float | None]]:
    """The number of an example's row, its prompt, responses and labels; the first response is the better one."""
    assert example.origin is not None
    assert [(one.better, one.worse) for one in example.comparisons] in ([], [(0, 1)])
    assert all(one.score is None for one in example.responses)
    responses = [plain(one.content) for one in example.responses]
    return (
        example.origin.row, plain(example.prompt.content), responses, [one.label for one in example.responses],
    )  # fmt: skip


def test_classes_are_not_feedback(shared: Shared) -> None:
    with pytest.raises(
        InputError, match=r"jsonl:1: label: a label of a turbo-alignment conversation is its class"
    ) as caught:
        read_feedback([shared(f"formats/{REFUSED}")])
    assert "\n" not in str(caught.value) and "9 bad rows in this file" in str(caught.value)
