"""Parquet files and folders of `save_to_disk`: plain JSON values, and every fault by its message."""

import datetime
import decimal
import gzip
import hashlib
import io
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files_of_rows import is_read_or_refused, json_values, keys, quiet, values
from support.refusals import refused

from trueup.feedback.containers import load, opened, rows_of
from trueup.feedback.read import read_feedback

pytestmark = pytest.mark.usefixtures("here")

Write = Callable[..., Path]

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def packed(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def contents(raw: bytes, name: str = "a.parquet") -> list[object]:
    """Content of every row, after a look at their numbers; a bad row raises."""
    found = values(raw, name)
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return [value for _, value in found]


def one(kind: pa.DataType, value: object) -> object:
    (row,) = contents(packed(pa.table({"a": pa.array([value], kind)})))
    assert isinstance(row, dict)
    return row["a"]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"row_group_size": 1}, {"version": "1.0"}])
def test_rows_are_what_they_are_in_json(write: Write, options: dict[str, object]) -> None:
    found = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1.5, "score_rejected": None},
        {"prompt": "q", "chosen": "c", "rejected": "d", "score_chosen": 3.0, "score_rejected": -2.0},
    ]
    assert contents(packed(pa.Table.from_pylist(found), **options)) == found
    write(*found, name="a.jsonl")
    by_table, by_json = (read_feedback([name]) for name in ("a.parquet", "a.jsonl"))
    assert [(o.prompt.content, o.responses, o.comparisons) for o in by_table.examples] == [
        (o.prompt.content, o.responses, o.comparisons) for o in by_json.examples
    ]
    assert [str(example.origin) for example in by_table.examples] == ["a.parquet:1", "a.parquet:2"]
    assert by_table.lines() == ["a.parquet: TRL pairs, 2 rows, 2 comparisons, 3 scored responses"]


def test_the_content_tells_not_the_name(tmp_path: Path) -> None:
    raw = packed(pa.table({"a": [1]}))
    assert contents(raw, "a.jsonl") == contents(raw, "a.csv") == contents(gzip.compress(raw), "b") == [{"a": 1}]
    assert load("b").sha256 == hashlib.sha256(Path("b").read_bytes()).hexdigest()
    assert opened("a.csv").sha256() == hashlib.sha256(raw).hexdigest()


def test_single_values() -> None:
    assert one(pa.float16(), 1.5) == 1.5
    assert one(pa.bool_(), True) is True
    assert one(pa.uint64(), 2**64 - 1) == 2**64 - 1
    assert one(pa.large_string(), "x") == "x"
    assert one(pa.dictionary(pa.int8(), pa.string()), "x") == "x"
    assert one(pa.decimal128(5, 2), decimal.Decimal("1.25")) == 1.25
    assert one(pa.date32(), datetime.date(2026, 1, 2)) == "2026-01-02"
    assert one(pa.timestamp("ns", "UTC"), datetime.datetime(2026, 1, 2)) == "2026-01-02T00:00:00+00:00"
    assert one(pa.uuid(), uuid.UUID(int=1).bytes) == "00000000-0000-0000-0000-000000000001"
    assert one(pa.null(), None) is None


def test_nested_values() -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(pa.string()))])
    assert one(pa.list_(turn), TURNS) == TURNS
    assert one(pa.list_(turn), [{"role": "assistant", "content": None, "tool_calls": ["f"]}]) == [
        {"role": "assistant", "content": None, "tool_calls": ["f"]}
    ]
    assert one(turn, None) is None
    assert one(pa.list_(pa.float32(), 2), [1, 2]) == [1.0, 2.0]
    assert one(pa.large_list(pa.list_(pa.int8())), [[1], [], None]) == [[1], [], None]
    assert one(pa.map_(pa.string(), pa.int8()), [("x", 1), ("y", None)]) == {"x": 1, "y": None}
    kinds = pa.DictionaryArray.from_arrays([0, None, 0], pa.array([decimal.Decimal("1.5")]))
    assert contents(packed(pa.table({"a": kinds}))) == [{"a": 1.5}, {"a": None}, {"a": 1.5}]


def test_a_column_of_json() -> None:
    kind = pa.json_(pa.string())

    def column(*texts: str) -> bytes:
        return packed(pa.table({"a": pa.ExtensionArray.from_storage(kind, pa.array(texts))}))

    assert contents(column(' {"x": [1, null]} ', '"y"')) == [{"a": {"x": [1, None]}}, {"a": "y"}]
    for text, message in {
        "{": "^a.parquet:2: a column holds JSON that is not sound: expecting property name",
        "1 2": "^a.parquet:2: a column holds JSON that is not sound: more text after the end",
        '{"x": 1, "x": 2}': "^a.parquet:2: the key 'x' stands twice",
        "[NaN]": r"^a.parquet:2: a\[0\]: found nan; numbers must be finite",
    }.items():
        with refused(message):
            contents(column("1", text))


def test_messages_keep_only_what_they_say(write: Write) -> None:
    """Arrow gives every message of a column the same keys; a template may ask whether a key is there."""
    called = {"role": "assistant", "content": "ho", "name": "ann"}
    table = pa.Table.from_pylist([{"messages": TURNS}, {"messages": [TURNS[0], called]}])
    Path("a.parquet").write_bytes(packed(table))
    write({"messages": TURNS}, {"messages": [TURNS[0], called]}, name="a.jsonl")
    by_table, by_json = (read_feedback([name]).examples for name in ("a.parquet", "a.jsonl"))
    assert [o.prompt.content for o in by_table] == [o.prompt.content for o in by_json]
    assert [o.responses for o in by_table] == [o.responses for o in by_json]


BAD_VALUES = {
    "nan": (pa.float64(), float("nan"), "a: found nan; numbers must be finite"),
    "infinity": (pa.list_(pa.float32()), [1.0, float("-inf")], r"a\[1\]: found -inf; numbers must be finite"),
    "binary": (pa.binary(), b"x", "a: found binary data, which JSON does not have; leave the column out"),
    "image": (
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        {"bytes": b"x", "path": None},
        r"a\.bytes: found binary data",
    ),
    "duration": (pa.duration("s"), 5, "a: found a value of the type timedelta, which JSON does not have"),
    "key twice": (pa.map_(pa.string(), pa.int8()), [("x", 1), ("x", 2)], "the key 'x' stands twice"),
    "far date": (pa.timestamp("s"), 10**15, "the row cannot be read: "),
}


@pytest.mark.parametrize(("kind", "value", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_bad_value_spoils_its_row_alone(kind: pa.DataType, value: object, message: str) -> None:
    raw = packed(pa.table({"a": pa.array([None, value, None], kind)}))
    with refused(f"^a.parquet:2: {message}"):
        contents(raw)
    assert [not row.error for row in rows_of(load("a.parquet"))] == [True, False, True]


def test_text_that_is_not_utf_8_spoils_its_row_alone() -> None:
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    with refused(r"^a.parquet:2: the row cannot be read: .*utf-8"):
        contents(packed(pa.table({"a": texts})))
    assert [row.number for row in rows_of(load("a.parquet")) if not row.error] == [1, 3]


SOUND = packed(pa.table({"prompt": ["p"] * 3, "completion": ["a", "b", "c"]}))
CHECKED = packed(
    pa.table({"prompt": ["a red fox"]}),
    compression="none",
    use_dictionary=False,
    write_page_checksum=True,
    write_statistics=False,
)
TWICE = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
FAULTS = {
    "no rows": (packed(pa.table({"prompt": pa.array([], pa.string())})), "the file holds no rows$"),
    "column twice": (packed(TWICE), "the column 'prompt' stands twice; rename one"),
    "footer": (SOUND[:-8] + b"\xff\xff\xff\x7fPAR1", r"the Parquet file is damaged \(.*\); copy or download"),
    "checksum": (CHECKED.replace(b"red", b"bad"), r"the Parquet file is damaged \(.*(CRC|checksum)"),
    **{
        f"cut at {end}": (SOUND[:end], "the Parquet file is cut short: copy or download it again$")
        for end in range(5, len(SOUND))
    },
}


def test_faults() -> None:
    for raw, message in FAULTS.values():
        with refused(f"^a.parquet: {message}"):
            contents(raw)


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = packed(pa.table({"a": [1]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused(
        r"^a.parquet: reading this needs the package pyarrow, which is not installed; "
        r"pip install 'trueup\[data\]'$"
    ):
        contents(raw)


@quiet
@given(
    found=st.lists(
        st.dictionaries(keys, json_values(st.floats() | st.binary(max_size=2), st.sampled_from("abc")), max_size=4),
        max_size=3,
    ),
    data=st.data(),
)
def test_any_rows_whole_or_damaged(found: list[dict[str, object]], data: st.DataObject) -> None:
    """Every table is read or refused in one line, and so is what damage makes of it."""
    try:
        table = pa.Table.from_pylist(found)
        raw = bytearray(packed(table))
    except (pa.ArrowException, UnicodeEncodeError):  # a column of several types, an empty struct
        return
    places = st.integers(4, len(raw) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=3)):
        raw[place] = byte
    Path("a.parquet").write_bytes(raw[: data.draw(places | st.just(len(raw)))])
    is_read_or_refused("a.parquet")


@pytest.mark.slow
@quiet
@given(
    found=st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.text(st.characters(codec="utf-8")),
                "scores": st.lists(st.floats(allow_nan=False, allow_infinity=False)),
                "turns": st.lists(st.fixed_dictionaries({"role": st.text("ab"), "content": st.text("cd")})),
            }
        ),
        min_size=1,
    )
)
def test_rows_come_back_as_they_were_written(found: list[dict[str, object]]) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("prompt", pa.string()), ("scores", pa.list_(pa.float64())), ("turns", pa.list_(turn))])
    assert contents(packed(pa.Table.from_pylist(found, schema))) == found


class TestSaved:
    """Folders that `save_to_disk` wrote."""

    PAIRS = datasets.Dataset.from_list([{"prompt": "p", "chosen": c, "rejected": "r"} for c in "abc"])

    def test_one(self) -> None:
        self.PAIRS.save_to_disk("pairs", num_shards=2)
        feedback = read_feedback(["pairs"])
        assert feedback.lines() == ["pairs: TRL pairs, 3 rows, 3 comparisons"]
        assert [(str(o.origin), o.responses[0].content) for o in feedback.examples] == [
            ("pairs:1", "a"), ("pairs:2", "b"), ("pairs:3", "c"),
        ]  # fmt: skip

    def test_the_hash_is_of_the_content(self) -> None:
        self.PAIRS.save_to_disk("one")
        self.PAIRS.select([2, 1, 0]).select([2, 1, 0]).save_to_disk("same", num_shards=3)
        self.PAIRS.select([0, 2, 1]).save_to_disk("other")
        one, same, other = (read_feedback([name]).files[0].sha256 for name in ("one", "same", "other"))
        assert one == same != other
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.PAIRS.to_list())
        assert one == hashlib.sha256(lines.encode()).hexdigest()

    def test_objects_of_several_shapes(self) -> None:
        found = [{"messages": [*TURNS[:1], {**TURNS[1], "tool_calls": [{"f": 1}]}]}, {"messages": TURNS}]
        datasets.Dataset.from_list(found, on_mixed_types="use_json").save_to_disk("talk")
        one, other = read_feedback(["talk"]).examples
        assert one.responses[0].content[0].extra == {"tool_calls": [{"f": 1}]}  # type: ignore[union-attr]
        assert other.responses[0].content[0].extra == {}  # type: ignore[union-attr]

    def test_several(self) -> None:
        datasets.DatasetDict({"train": self.PAIRS, "test": self.PAIRS.select([1])}).save_to_disk("both")
        with refused(r"^both: this folder holds splits test, train; name one of them, as in both/test$"):
            read_feedback(["both"])
        assert len(read_feedback(["both/test"]).examples) == 1

    @pytest.mark.parametrize("how", ["state", "info", "torn", "absent"])
    def test_damaged(self, how: str) -> None:
        self.PAIRS.save_to_disk("pairs")
        (data,) = Path("pairs").glob("*.arrow")
        if how == "torn":
            data.write_bytes(data.read_bytes()[:300])
        elif how == "absent":
            data.unlink()
        else:
            Path(f"pairs/{'state' if how == 'state' else 'dataset_info'}.json").write_text("{")
        with refused(r"^pairs: the data set in this folder is damaged \(.*\); save or"):
            read_feedback(["pairs"])

    def test_a_package_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.PAIRS.save_to_disk("pairs")
        monkeypatch.setitem(sys.modules, "datasets", None)
        with refused(r"^pairs: .*the package datasets, .*pip install 'trueup\[data\]'$"):
            read_feedback(["pairs"])
