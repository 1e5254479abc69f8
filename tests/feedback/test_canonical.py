"""The canonical form is lossless, and its file appears whole or not at all."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.refusals import refused

from trueup.feedback.canonical import example_from_row, example_to_row, write_examples
from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Prompt, Response

PAIR = Example(Prompt("2 + 2 ="), (Response("4"), Response("5")), (Comparison(0, 1, 0.8),))

letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | letters,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(letters, inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(letters.filter(lambda key: key not in ("role", "content")), json_values, max_size=2)
roles = st.sampled_from(["system", "user", "assistant", "tool", "developer"])
messages = st.builds(Message, roles, letters, extras)
contents: st.SearchStrategy[Content] = letters | st.lists(messages, max_size=3).map(tuple)
responses = st.builds(
    Response,
    contents,
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    label=st.none() | st.floats(0, 1),
    demonstration=st.booleans(),
    source=st.none() | letters,
    tokens=st.none() | st.lists(st.integers(0, 200_000), max_size=3).map(tuple),
)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    listed = draw(st.lists(responses, min_size=1, max_size=4))
    positions = st.integers(0, len(listed) - 1)
    compared = st.tuples(positions, positions, st.floats(0.5, 1, exclude_min=True)).filter(lambda one: one[0] != one[1])
    comparisons = draw(st.lists(compared, max_size=3)) if len(listed) > 1 else []
    asked = draw(contents)
    tools = () if isinstance(asked, str) else draw(st.sampled_from([(), ({"type": "function", "n": [1]},)]))
    return Example(Prompt(asked, tools, Origin("x", 1)), tuple(listed), tuple(Comparison(*one) for one in comparisons))


@settings(max_examples=150, deadline=None)
@given(example=examples())
def test_round_trip(example: Example) -> None:
    row = json.loads(json.dumps(example_to_row(example), allow_nan=False))
    assert example_from_row(row, Origin("x", 1)) == example


def test_what_says_nothing_is_left_out() -> None:
    assert example_to_row(Example(Prompt("p"), (Response("a"),))) == {"prompt": "p", "responses": [{"content": "a"}]}
    assert example_to_row(replace(PAIR, comparisons=(Comparison(1, 0),)))["comparisons"] == [{"better": 1, "worse": 0}]


def test_the_form_is_the_documented_one() -> None:
    example = Example(
        Prompt((Message("user", "2 + 2 =", {"name": "ann"}),)),
        (Response("4", 1.5, 0.5, True, "ann", (19, 0)), Response((Message("assistant", "5"),))),
        PAIR.comparisons,
    )
    assert example_to_row(example) == {
        "prompt": [{"role": "user", "content": "2 + 2 =", "name": "ann"}],
        "responses": [
            {"content": "4", "score": 1.5, "label": 0.5, "demonstration": True, "source": "ann", "tokens": [19, 0]},
            {"content": [{"role": "assistant", "content": "5"}]},
        ],
        "comparisons": [{"better": 0, "worse": 1, "probability": 0.8}],
    }  # fmt: skip


def test_token_ids_may_be_left_out() -> None:
    row = {"prompt": "p", "responses": [{"content": "4", "tokens": None}, {"content": "5"}]}
    assert [one.tokens for one in example_from_row(row, Origin("x", 1)).responses] == [None, None]


def test_lines_are_readable_and_bytes_repeatable(tmp_path: Path) -> None:
    one = replace(PAIR, prompt=Prompt("caf\u00e9\n"))
    write_examples(tmp_path / "a.jsonl", [one, PAIR])
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 2
    assert "caf\u00e9\\n" in (tmp_path / "a.jsonl").read_text("utf-8")
    for name in ("b.gz", "c.gz"):
        write_examples(tmp_path / name, [one, PAIR])
    assert (tmp_path / "b.gz").read_bytes() == (tmp_path / "c.gz").read_bytes()
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()


def interrupted() -> Iterator[Example]:
    yield PAIR
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    write_examples(tmp_path / name, [PAIR])
    before = (tmp_path / name).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_examples(tmp_path / name, interrupted())
    assert (tmp_path / name).read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_what_cannot_be_written(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    with refused("the file cannot be written: No such file or directory"):
        write_examples(tmp_path / "no" / "a.jsonl", [PAIR])
    with refused("the file cannot be written: Not a directory"):
        write_examples(Path(__file__) / "a.jsonl", [PAIR])
    with refused(r"example 2 \(from b.jsonl:7\) cannot be written: .*surrogates not allowed"):
        write_examples(
            tmp_path / "a.jsonl", [PAIR, Example(Prompt("\ud800", origin=Origin("b.jsonl", 7)), PAIR.responses)]
        )
    full_disk()
    with refused("the file cannot be written: No space left on device"):
        write_examples(tmp_path / "a.jsonl", [PAIR])
    assert os.listdir(tmp_path) == []
