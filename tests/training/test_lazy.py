"""Rows that are read when a step needs them give what rows give that are all read first."""

import csv
import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from support.refusals import refused
from support.small_runs import break_off, metrics_of, model_bytes, run_here, settings, write_feedback
from support.tiny_models import char_tokenizer, save_tiny_model

from trueup.batch import tokenizing
from trueup.display import collected
from trueup.feedback import containers
from trueup.feedback.columns import AS_IT_IS
from trueup.feedback.containers import line_file
from trueup.methods import METHODS
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import examples_named
from trueup.training import api, lazy

PAIR = {"prompt": "say red:", "chosen": " red", "rejected": " blue"}


def pairs_file(folder: Path, change: Callable[[list[dict[str, Any]]], object] = lambda rows: None) -> Path:
    """24 pairs, as they are changed."""
    path = write_feedback(folder)["pairs"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(rows: Sequence[Mapping[str, Any]], folder: Path, kind: str) -> Path:
    """The rows as a file of a kind, `csv.gz`."""
    path = folder / f"rows.{kind}"
    text = io.StringIO()
    if kind.startswith("csv"):
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    else:
        text.writelines(json.dumps(row) + "\n" for row in rows)
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    return path


def run(method: str, model: Path, output: Path, data: Path, **more: Any) -> dict[str, bytes]:
    """The weights of a run of 12 steps."""
    values = settings(method, model, {"pairs": data, "demonstrations": data}, output, **more)
    run_here(method, values)
    return model_bytes(output)


def read(data: Path, method: str = "dpo", **more: Any) -> object:
    values = {"model": "m", "output": "o", "data": [str(data)], **more}
    return lazy.read_lazily(RunSettings(**values), METHODS[method].build())


@pytest.mark.parametrize("method", ["sft", "tr-dpo"])
def test_weights_and_metrics_are_those_of_rows_read_first(method: str, tiny_model: Path, tmp_path: Path) -> None:
    data = write_feedback(tmp_path)["demonstrations" if method == "sft" else "pairs"]
    first = run(method, tiny_model, tmp_path / "first", data, lazy=False)
    assert run(method, tiny_model, tmp_path / "lazy", data, lazy=True) == first != {}
    assert metrics_of(tmp_path / "lazy") == metrics_of(tmp_path / "first")


def test_a_mixture_of_tables_is_mixed_as_if_it_were_read_first(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_feedback(tmp_path / "other", seed=1)["pairs"]
    other.write_text(other.read_text().replace('"prompt"', '"question"'))
    mine = pairs_file(tmp_path)
    mine.write_text(mine.read_text().replace('"prompt"', '"question"'))
    values = settings("dpo", tiny_model, {"pairs": mine}, tmp_path / "run", columns=["prompt=question"])
    values["data"] = [f"{mine}?weight=1.5", f"{other}?limit=10"]
    for how in (True, False):
        run_here("dpo", {**values, "output": str(tmp_path / str(how)), "lazy": how})
    assert model_bytes(tmp_path / "True") == model_bytes(tmp_path / "False") != {}
    assert metrics_of(tmp_path / "True") == metrics_of(tmp_path / "False")


def test_a_column_that_later_rows_lack_is_none_of_theirs(tmp_path: Path) -> None:
    """As where rows are read first: the first one tells which columns there are."""
    rows = [{**PAIR, "sys": "Be brief."}, {**PAIR, "prompt": "say blue:"}]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"columns": ["system=sys"], "chat": True, "lazy": True}
    assert read(data, **given) is not None
    data.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    with refused("system is to be read from 'sys'"):
        read(data, **given)


def test_what_nothing_is_learned_from_leaves_its_place_empty(tiny_model: Path, tmp_path: Path) -> None:
    """A pair of equal responses, and one that is too long; a line of white space has no place."""

    def change(rows: list[dict[str, Any]]) -> None:
        rows[5]["rejected"] = rows[5]["chosen"]
        rows[8]["prompt"] = "x" * 200

    data = pairs_file(tmp_path, change)
    data.write_text("\n   \n".join([*data.read_text().split("\n", 1)]) + " \n\n")
    with collected() as told:
        run("dpo", tiny_model, tmp_path / "run", data, lazy=True, max_length=100, epochs=1, batch_size=24)
    (line,) = metrics_of(tmp_path / "run")
    assert line["data/left_out"] == 2
    text = "\n".join(told)
    assert f"{data}: TRL pairs, 24 rows, read when a step needs them; of the first 24, not used: " in text
    assert "1 because identical pair" in text
    assert "left out: prompt as long as max_length, 100 tokens" in text


def test_a_run_that_goes_on_ends_the_same(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other versions of the libraries, too, where they make the same tokens."""
    data = write_feedback(tmp_path)["pairs"]
    expected = run("dpo", tiny_model, tmp_path / "run", data, lazy=True)
    values = settings("dpo", tiny_model, {"pairs": data}, tmp_path / "broken", lazy=True)
    break_off("dpo", values, before_step=8)
    monkeypatch.setattr(tokenizing, "LIBRARIES", ())
    api.resume(tmp_path / "broken", quiet=True)
    assert model_bytes(tmp_path / "broken") == expected
    assert metrics_of(tmp_path / "broken") == metrics_of(tmp_path / "run")


@pytest.mark.parametrize("changed", ["pairs.jsonl", "the tokenizer or its chat template"])
def test_a_run_goes_on_only_with_the_tokens_it_began_with(changed: str, tmp_path: Path) -> None:
    data, model = write_feedback(tmp_path)["pairs"], save_tiny_model(tmp_path / "model")
    values = settings("dpo", model, {"pairs": data}, tmp_path / "run", lazy=True)
    break_off("dpo", values, before_step=8)
    if changed == "pairs.jsonl":
        data.write_text(data.read_text().replace("red", "rad"))
    else:
        char_tokenizer(bos=False).save_pretrained(model)
    with refused(changed):
        api.resume(tmp_path / "run", quiet=True)


def test_a_run_of_which_every_step_is_empty_is_a_run(tiny_model: Path, tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows[1:]:
            row["rejected"] = row["chosen"]

    data = pairs_file(tmp_path, change)
    run("dpo", tiny_model, tmp_path / "run", data, lazy=True, batch_size=1, steps=1, epochs=None)
    assert [line["data/left_out"] for line in metrics_of(tmp_path / "run")] == [1]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(pipe.write_text, pairs_file(tmp_path).read_text())
        assert read(pipe) is None
        assert len(examples_named([str(pipe)]).examples) == 24
        writing.result()


def test_a_bad_row_ends_the_run_before_a_model_is_loaded_or_when_it_is_read(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs_file(tmp_path, lambda rows: rows[9].pop("chosen"))
    with refused(r"pairs.jsonl:10: .*chosen"):
        read(data, lazy=True)
    monkeypatch.setattr(lazy, "LOOKED_AT", 3)
    with refused(r"pairs.jsonl:10: .*chosen"):
        run("dpo", tiny_model, tmp_path / "run", data, lazy=True)


def test_a_file_that_changes_under_a_run_ends_it(tmp_path: Path) -> None:
    data = pairs_file(tmp_path)
    lines = line_file(str(data), AS_IT_IS)
    assert not lines.row(3).error
    data.write_text(data.read_text() + "\n")
    with refused("the file has changed while rows of it were read"):
        lines.row(3)


@pytest.mark.parametrize(
    ("why", "method", "more"),
    [
        ("the method rewrites examples by what it finds in all of them", "rwr", {}),
        ("the method needs to know the kinds of all examples", "unlikelihood", {}),
        ("eval_fraction holds out all examples of a prompt", "dpo", {"eval_fraction": 0.1}),
        ("skip_bad says how many unreadable rows there may be in all", "dpo", {"skip_bad": 3}),
    ],
)
def test_what_has_to_see_all_rows_is_told(why: str, method: str, more: dict[str, Any], tmp_path: Path) -> None:
    data = pairs_file(tmp_path)
    with refused(f"lazy is true, but {why}. Leave lazy out"):
        read(data, method, lazy=True, **more)
    assert read(data, method, **more) is None


def test_what_is_no_file_is_read_first(tmp_path: Path) -> None:
    with refused("lazy is true, but world:pairs is no file that can be read twice"):
        read(Path("world:pairs"), lazy=True)
    with refused("absent: no such file"):
        read(tmp_path / "absent", lazy=True)


def test_many_rows_are_read_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pairs_file(tmp_path)
    assert read(data) is None
    monkeypatch.setattr(lazy, "ALL_FIRST", 24)
    assert read(data) is None
    monkeypatch.setattr(lazy, "ALL_FIRST", 23)
    assert read(data) is not None
    assert read(data, lazy=False) is None
    for kind in ("jsonl.gz", "parquet", "csv", "csv.gz"):
        assert read(written([PAIR], tmp_path, kind), lazy=True) is not None


def test_prompts_that_are_held_out_are_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = pairs_file(tmp_path)
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(f"{line}\n" for line in data.read_text().splitlines()[4:9]))
    with refused("have a prompt that is also trained on"):
        read(data, lazy=True, eval_data=[str(held_out)])
    assert read(data, lazy=True, eval_data=[str(held_out)], allow_overlap=True) is not None
    assert len([one for one in caplog.messages if "also trained on" in one]) == 1


LINES = st.lists(st.sampled_from([b'{"a": 1}', b'{"a": "\xc3\xa4"}', b"", b"  ", b"{", b'{"a": 2}\r', b"[1]"]))


@given(lines=LINES, end=st.sampled_from([b"", b"\n", b"\n\n"]))
def test_rows_are_those_of_the_file_read_as_one(
    lines: list[bytes], end: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b'{"a": 0}\n' + b"\n".join(lines) + end
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(data)
    assert_same_rows(path)


def assert_same_rows(path: Path) -> None:
    """Errors, too, and what is empty."""
    made, source = line_file(str(path), AS_IT_IS), containers.opened(path)
    assert [made.row(index) for index in range(len(made))] == list(source.rows)
    assert made.sha256 == source.sha256()


ROWS: Mapping[str, bytes] = {
    "a.json": b'[{"a": 1.25, "b": {"c": ["\xc3\xa4", null]}}, 3, {"a": 10000000000000000000000}]',
    "a.jsonl": b'\xef\xbb\xbf\n{"a": 1}\n{"a": 1, "a": 2}\n{\n',
    "a.csv": b'\xef\xbb\xbf\n a,b\r\n1,"x\ny"\n\n2,\n3,\xc3\xa4\n4\n"a"b,c\ntrue,"{""c"": 1}"\n',
    "a.tsv": b"\tprompt\rx\t4\ry\t[1]",
}


@pytest.mark.parametrize("name", [*ROWS, *(f"{name}.gz" for name in ROWS), "rows.parquet"])
def test_rows_of_any_source_are_those_of_the_file_read_as_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "rows.parquet":
        parquet.write_table(pa.table({"a": [{"b": 1, "c": None}, None], "d": [b"x", None]}), path)
    else:
        raw = ROWS[name.removesuffix(".gz")]
        path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert_same_rows(path)


@pytest.mark.parametrize("kind", ["jsonl.gz", "csv.gz", "parquet"])
def test_memory_does_not_grow_with_what_is_unpacked(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "IN_MEMORY", 1 << 16)
    rows = [{"prompt": f"{number} " + "word " * 100} for number in range(20_000)]
    path = written(rows, tmp_path, kind)
    tracemalloc.start()
    try:
        with collected() as told:
            made = line_file(str(path), AS_IT_IS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.row(19_999).value == rows[-1]
    assert peak < 4e6 < 500 * len(rows)
    assert any(f"{path}: unpacked to " in line for line in told)


def test_where_nothing_can_be_unpacked_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "IN_MEMORY", 1)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "rows.jsonl.gz"))
    with refused(r"rows.jsonl.gz: what it unpacks to cannot be kept in .*TRUEUP_CACHE"):
        line_file(str(written([PAIR], tmp_path, "jsonl.gz")), AS_IT_IS)
