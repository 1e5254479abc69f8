"""Prompts of files that hold nothing else, of feedback of any layout, and each of them once."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import write
from support.refusals import refused
from support.small_runs import write_feedback

from trueup.display import collected
from trueup.feedback.read import read_prompts
from trueup.feedback.records import Message, Origin, Prompt
from trueup.sources.by_name import prompts_named

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "add"}}


def test_a_file_of_prompts(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": [USER], "tools": [TOOL]}, {"prompt": "b ", "id": 7}, {"prompt": "a"}]
    path = write(tmp_path / "asked.jsonl", [*rows, {"prompt": [USER]}, {"prompt": "b"}])
    with collected() as lines:
        found = read_prompts([path])
    hello = (Message("user", "Hello"),)
    assert found.prompts == (
        Prompt("a", origin=Origin(str(path), 1)), Prompt(hello, tools=(TOOL,), origin=Origin(str(path), 2)),
        Prompt("b ", origin=Origin(str(path), 3)), Prompt(hello, origin=Origin(str(path), 5)),
        Prompt("b", origin=Origin(str(path), 6)),
    )  # fmt: skip
    assert lines == [
        f"{path}: prompts, 6 rows", f"{path}: keys not used: id", "1 duplicate prompt left out",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["pairs", "rankings", "points", "mixed", "demonstrations"])
def test_the_prompts_of_feedback(kind: str, tmp_path: Path) -> None:
    path = write_feedback(tmp_path, count=4)[kind]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with collected() as lines:
        found = read_prompts([path])
    assert [prompt.content for prompt in found.prompts] == [row["prompt"] for row in rows]
    assert [prompt.origin for prompt in found.prompts] == [Origin(str(path), at) for at in range(1, 5)]
    assert lines[0].startswith(f"{path}: ") and "4 rows" in lines[0]


def test_the_world_comes_first_and_feedback_of_it_counts_too(tmp_path: Path) -> None:
    path = write(tmp_path / "asked.jsonl", [{"prompt": "a"}])
    with collected() as lines:
        found = prompts_named([str(path), "world:prompts?count=3&seed=5", "world:pairs?count=4&seed=5"])
    assert len(found.prompts) == 5 and found.prompts[-1].content == "a"
    assert lines == [
        "world:prompts?count=3&seed=5: 3 prompts of the built-in world",
        "world:pairs?count=4&seed=5: 4 prompts of the built-in world",
        f"{path}: prompts, 1 row",
        "3 duplicate prompts left out",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a"}, {"question": "b"}], r":2: prompt: the key is missing; the row has question"),
        ([{"prompt": "a"}, {"prompt": 3}], r":2: prompt: found the number 3, expected text or a list of"),
        ([{"prompt": ""}], r":1: prompt: the prompt is empty; leave the row out"),
        ([{"prompt": "a"}, {"prompt": []}], r":2: prompt: the prompt is empty; leave the row out"),
        ([{"prompt": [{"role": "human", "content": "a"}]}], r":1: prompt\[0\]\.role: .* did you mean 'user'"),
        ([{"prompt": "a", "tools": [TOOL]}], r":1: tools: tools are for a chat template"),
        ([{"prompt": "a"}, [1]], r":2: a row must be an object"),
        ([[1]], r":1: a row must be an object"),
        ([{"question": "a"}], r":1: no known layout has the keys of this row \(question\)"),
        ([{"prompt": "a", "completion": ""}], r"no row can be used: .* a response is empty"),
    ],
)
def test_what_cannot_be_asked_is_refused(rows: list[Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "asked.jsonl", rows)
    with refused(message):
        read_prompts([path])


def test_feedback_on_the_prompts_is_handed_on(tmp_path: Path) -> None:
    asked, pairs = tmp_path / "asked.jsonl", tmp_path / "pairs.jsonl"
    asked.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    rows = ('{"prompt": "b", "chosen": "c", "rejected": "d"}\n', '{"prompt": "e"}\n')
    pairs.write_text(rows[0])
    found = prompts_named([str(asked), str(pairs), "world:prompts?count=2", "world:pairs?count=3"])
    assert [example.prompt.content for example in found.examples[3:]] == ["b"]
    assert len(found.examples) == 4 and len(found.prompts) == 5
    pairs.write_text("".join(rows))
    with refused(r"pairs\.jsonl:2"):
        prompts_named([str(pairs)])
    skipped = prompts_named([str(pairs), str(asked)], skip_bad=1)
    assert [one.content for one in skipped.prompts] == ["b", "a"] and len(skipped.examples) == 1
    with refused(r"pairs\.jsonl:2"):
        prompts_named([str(pairs), str(pairs)], skip_bad=1)
