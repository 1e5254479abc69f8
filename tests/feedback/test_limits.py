"""Nothing is unpacked or taken in without a limit: one line, whatever a small file says it holds."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.refusals import refused

from trueup.feedback import json_rows
from trueup.feedback.containers import load, rows_of
from trueup.feedback.read import read_feedback

pytestmark = pytest.mark.usefixtures("here")

Write = Callable[..., Path]

PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
MANY = json_rows.MOST_KEYS + 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "ALWAYS", 2**16)


def packed(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", store_schema=False, **options)
    return out.getvalue()


def repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [text])


TURNS = pa.ListArray.from_arrays(
    pa.array([0, 2000], pa.int32()), pa.StructArray.from_arrays([repeated("a" * 1000, 2000)], ["content"])
)
BOMBS = {
    "gzip": gzip.compress(b" " * 2**24),
    "gzip of several members": gzip.compress(b" " * 2**19) * 32,
    "page": packed(pa.table({"prompt": ["a" * 2**20]})),
    "dictionary": packed(pa.table({"prompt": repeated("a" * 1000, 2000)})),
    "nested dictionary": packed(pa.table({"prompt": TURNS})),
    "rows": packed(pa.table({"prompt": repeated("", 2**20)})),
    "nulls": packed(pa.table({"prompt": pa.nulls(2**20)})),
    "Parquet in gzip": gzip.compress(packed(pa.table({"prompt": ["a" * 2**20]}))),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", BOMBS)
def test_what_unpacks_to_too_much_is_refused(write: Write, kind: str) -> None:
    path = write(raw=BOMBS[kind], name="a.jsonl")
    with refused(f"a.jsonl: these {len(BOMBS[kind])} bytes unpack to more than [0-3] MiB, which no feedback does"):
        read_feedback([path])


@pytest.mark.usefixtures("small")
def test_what_packs_as_text_does_is_read() -> None:
    """Also where it unpacks to more than any file may; a text that a dictionary holds once counts as it stands."""
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}]
    rows = [{"prompt": f"{n:05}" * 10, "label": True, "turns": turns} for n in range(2000)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    for name, raw in (("a", gzip.compress(lines)), ("b", packed(pa.Table.from_pylist(rows), row_group_size=300))):
        Path(name).write_bytes(raw)
        assert len(lines) > json_rows.ALWAYS
        assert [row.value for row in rows_of(load(name))] == rows


def test_a_batch_of_long_texts_is_converted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from trueup.feedback import tables

    monkeypatch.setattr(tables, "BATCH_SIZE", 100)
    Path("a").write_bytes(packed(pa.table({"prompt": repeated("a" * 40, 7)})))
    assert [batch.num_rows for batch in tables.parquet_batches(load("a"))] == [2, 2, 2, 1]


WIDE = {f"k{n}": 1 for n in range(MANY)}
LARGE_ROWS = {
    "a.jsonl": (json.dumps(WIDE), "a.jsonl:1: the row has 1001 keys; at most 1000 are read"),
    "a.csv": (",".join(WIDE) + "\n1", "a.csv:1: the header has 1001 keys; at most 1000 are read"),
    "b.csv": (",".join(["k"] * 30_000) + "\n1", "b.csv:1: the header has 30000 keys; at most 1000 are read"),
}


@pytest.mark.parametrize("name", LARGE_ROWS)
def test_a_row_of_too_many_keys_is_refused(name: str) -> None:
    text, expected = LARGE_ROWS[name]
    Path(name).write_text(text)
    with refused(expected):
        read_feedback([name])


def test_a_table_of_too_many_columns_is_refused() -> None:
    Path("a").write_bytes(packed(pa.Table.from_arrays([pa.array([1])] * 1_500, ["k"] * 1_500)))
    with refused("a: the table has 1500 keys; at most 1000 are read"):
        read_feedback(["a"])


def test_a_report_names_the_first_unused_keys_and_those_that_are_misspelt(write: Write) -> None:
    rows = [PAIR | {f"k{n}": 1} for n in range(2000)] + [PAIR | {"score_chosne": 1}]
    lines = read_feedback([write(*rows)]).lines()
    assert len(lines) == 2
    assert ": keys not used: k0 (1 row), " in lines[1] and lines[1].endswith(" and 1981 more")
