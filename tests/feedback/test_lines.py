"""Rows of files: what is tolerated, and every fault by its message."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files_of_rows import is_read_or_refused, json_values, keys, quiet, values
from support.layout_rows import cases
from support.refusals import refused

from trueup.feedback.containers import load, rows_of

pytestmark = pytest.mark.usefixtures("here")

GOOD = b'{"prompt": "a", "completion": "b"}'


@pytest.mark.parametrize(
    ("raw", "numbers"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [1, 2]),
        (b'{"a": 1}\n{"a": 2}', [1, 2]),
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}\r\n', [1, 4]),
        (b'{"a": 1}\n\xef\xbb\xbf{"a": 2}\n', [1, 2]),
        (b'[{"a": 1},\n\n {"a": 2}]', [1, 2]),
        (b'\xef\xbb\xbf\n [\r\n{"a": 1}\r\n, {"a": 2}\r\n]\r\n', [1, 2]),
    ],
    ids=["lines", "no-last-newline", "bom-crlf-blank", "bom-inside", "array", "array-bom-crlf"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_tolerated(raw: bytes, numbers: list[int], packed: bool) -> None:
    given = gzip.compress(raw) if packed else raw
    assert values(given, "name-says-nothing") == [(numbers[0], {"a": 1}), (numbers[1], {"a": 2})]


def test_other_line_separators_are_text() -> None:
    raw = '{"a": "x\u2028y\u0085z\x7f"}\n'.encode()
    assert values(raw, "a.jsonl") == [(1, {"a": "x\u2028y\u0085z\x7f"})]


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    path, long = tmp_path / "a.jsonl", "x" * 10_000_000
    path.write_bytes(f'{{"a": "{long}"}}\n{{"a": "{long}\n'.encode())
    first, second = rows_of(load(path))
    assert not first.error and first.value == {"a": long}
    assert second.error and len(second.error) < 300 + len(str(path))


PACKED = gzip.compress(GOOD)
FAULTS = {
    "5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "a.jsonl:1:1: not JSON: a number has too many digits"),
    "deep": (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    "deep array": (b"[" * 100_000, "nested too deeply"),
    "torn gzip": (PACKED[:-9], "a.jsonl: the gzip data is cut short .*copy or download the file again"),
    "gzip checksum": (PACKED[:-8] + b"x" * 8, "a.jsonl: the gzip data is damaged"),
    "not gzip": (b"\x1f\x8bnot gzip at all", "a.jsonl: the gzip data is damaged"),
    "empty gzip": (gzip.compress(b""), "a.jsonl: the file is empty"),
}
FILES = {
    **{what: ("a.jsonl", raw, message) for what, (raw, message) in FAULTS.items()},
    **{
        f"{case['name']}, {case['what']}": (case["name"], case["bytes"].encode("latin-1"), case["says"])
        for case in cases("files")
    },
}


@pytest.mark.parametrize(("name", "raw", "message"), FILES.values(), ids=FILES)
def test_a_faulty_file_is_refused_in_one_line(name: str, raw: bytes, message: str) -> None:
    with refused(message):
        values(raw, name)


def test_an_absent_file_names_near_ones_or_the_absent_folder(tmp_path: Path) -> None:
    (tmp_path / "harmless-base-test.jsonl.gz").touch()
    with refused(r"no such file; did you mean .*/harmless-base-test\.jsonl\.gz\?"):
        load(tmp_path / "harmless-base-tset.jsonl.gz")
    with refused(r"no such file$"):
        load(tmp_path / "zzz")
    with refused(rf"no such file; the folder {tmp_path}/no does not exist"):
        load(tmp_path / "no" / "such" / "a.jsonl")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with refused(r"this is a folder; name a file; none with feedback is in it$"):
        load(tmp_path)
    for name in ("notes.md", "b.jsonl", "a.csv.gz", "c.parquet", "model.safetensors"):
        (tmp_path / name).touch()
    with refused(r"this is a folder; name a file in it: a\.csv\.gz, b\.jsonl, c\.parquet$"):
        load(tmp_path)


def test_other_reasons_not_to_be_read(tmp_path: Path) -> None:
    with refused("the file cannot be read"):
        load("a\0b")
    (tmp_path / "file").touch()
    with refused("the file cannot be read: Not a directory"):
        load(tmp_path / "file" / "a.jsonl")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.FileIO", denied)
    with refused(r"a\.jsonl': the file cannot be read: Permission denied"):
        load(tmp_path / "a.jsonl")


def test_bad_rows_do_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a"\n\xff\n{"a": 2}\n')
    found = [(row.number, not row.error) for row in rows_of(load(path))]
    assert found == [(1, True), (2, False), (3, False), (4, True)]


turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.text(max_size=3)}),
    max_size=4,
)
likely_rows = st.dictionaries(keys, json_values(st.floats() | st.integers(), st.text(max_size=5)) | turns, max_size=5)


MARKS = {"a": '[]{}":,\\ntu\n 0e', "a.tsv": 'pc,;"\n\r\t 1'}


@pytest.mark.parametrize("name", MARKS)
@quiet
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=60) | st.text(MARKS[name], max_size=40).map(str.encode))
    Path(name).write_bytes(raw)
    is_read_or_refused(name)


@quiet
@given(found=st.lists(likely_rows, min_size=1, max_size=3), as_array=st.booleans(), data=st.data())
def test_any_rows_whole_or_torn(found: list[object], as_array: bool, data: st.DataObject) -> None:
    raw = json.dumps(found) if as_array else "\n".join(json.dumps(row) for row in found)
    kept = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    Path("a").write_text(raw[:kept])
    is_read_or_refused("a")


@pytest.mark.parametrize("whole", [{"version": 1, "data": [json.loads(GOOD)]}, json.loads(GOOD)])
def test_an_object_over_several_lines(whole: object) -> None:
    with refused("put one whole JSON object on each line"):
        values(json.dumps(whole, indent=1).encode(), "rows.json")
