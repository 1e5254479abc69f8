"""CSV and TSV: what is tolerated, what columns hold, and every fault by its message."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files_of_rows import is_read_or_refused, keys, quiet, values
from support.layout_rows import SOUND
from support.refusals import refused

from trueup.feedback.containers import load, rows_of
from trueup.feedback.layouts.known import recognise
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Origin

pytestmark = pytest.mark.usefixtures("here")

Write = Callable[..., Path]


def read_rows(raw: bytes, name: str = "a.csv") -> list[tuple[int, object]]:
    return values(raw, name)


PLAIN = [(2, {"prompt": "p", "chosen": "a b", "rejected": "c"})]
TOLERATED = {
    "plain": b"prompt,chosen,rejected\np,a b,c\n",
    "no last newline": b"prompt,chosen,rejected\np,a b,c",
    "byte order mark": b"\xef\xbb\xbfprompt,chosen,rejected\r\np,a b,c\r\n",
    "carriage returns": b"prompt,chosen,rejected\rp,a b,c\r",
    "quoted": b'"prompt","chosen","rejected"\n"p","a b","c"\n',
    "tabs": b"prompt\tchosen\trejected\np\ta b\tc\n",
    "semicolons": b"prompt;chosen;rejected\np;a b;c\n",
    "bars": b"prompt|chosen|rejected\np|a b|c\n",
    "spaces and blank lines": b" prompt, chosen ,rejected\np,a b,c\n\n \n",
}


@pytest.mark.parametrize("raw", TOLERATED.values(), ids=TOLERATED)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_tolerated(raw: bytes, packed: bool) -> None:
    assert read_rows(gzip.compress(raw) if packed else raw, "a.CSV.gz" if packed else "a.tsv") == PLAIN


ROWS: dict[str, tuple[bytes, list[tuple[int, object]]]] = {
    "quotes hold delimiters, quotes and line breaks": (
        b'prompt,chosen\n"a, ""b""\r\nc\n\nd",x\n\nlast,y\n',
        [(2, {"prompt": 'a, "b"\r\nc\n\nd', "chosen": "x"}), (7, {"prompt": "last", "chosen": "y"})],
    ),
    "blank lines before the header": (b"\n\r\nprompt;chosen\np;a,b\n", [(4, {"prompt": "p", "chosen": "a,b"})]),
    "spaces of a text are kept": (b"prompt,chosen\n p , a\n", [(2, {"prompt": " p ", "chosen": " a"})]),
    "an empty field is a key that is not there": (
        b'prompt,chosen,label\np,,""\n,a,1\n', [(2, {"prompt": "p"}), (3, {"chosen": "a", "label": 1})]
    ),
    "a row of empty fields is no blank line": (
        b"prompt,completion\n,\n\np,a\n", [(2, {}), (4, {"prompt": "p", "completion": "a"})]
    ),
    "a column without a name is named by its place": (
        b",prompt,\n0,p,\n1,q,x\n",
        [(2, {"column 1": 0, "prompt": "p"}), (3, {"column 1": 1, "prompt": "q", "column 3": "x"})],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ROWS)
def test_rows(what: str) -> None:
    raw, expected = ROWS[what]
    assert read_rows(raw) == expected


def test_a_row_of_empty_fields_lacks_its_keys(write: Write) -> None:
    write(raw=b"prompt,completion\np,a\n,\n", name="a.csv")
    with refused(r"^a\.csv:3: prompt: the key is missing; the row has none"):
        read_feedback(["a.csv"])


def column(name: str, *fields: str) -> list[object]:
    """What the fields of a column become, beside one that is always there."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([("id", name), *(("x", field) for field in fields)])
    return [row.get(name) for _, row in read_rows(out.getvalue().encode())]  # type: ignore[attr-defined]


def test_numbers() -> None:
    assert column("score", "1", "-0.5", "2e3", " 7 ", "") == [1, -0.5, 2000.0, 7, None]
    assert column("score", "01", "1") == ["01", 1]
    assert column("score", "+1", "1_000", "0x1", "NaN", "Infinity", ".5", "1.", "\u0663") == [
        "+1", "1_000", "0x1", "NaN", "Infinity", ".5", "1.", "\u0663",
    ]  # fmt: skip
    assert column("score", "9" * 5000) == ["9" * 5000]


def test_truth() -> None:
    found = column("label", "true", "FALSE", "True", "1", "0.25")
    assert found == [True, False, True, 1, 0.25]
    assert [type(one) for one in found] == [bool, bool, bool, int, float]


def test_what_is_no_number_among_numbers_stays_text_and_is_refused_in_its_own_row(write: Write) -> None:
    assert column("score", "1", "n/a", "2") == [1, "n/a", 2]

    write(raw=b"prompt,completion,label\np,a,1\nq,b,maybe\nr,c,0\n", name="a.csv")
    with refused(r"^a\.csv:3: label: found text 'maybe', expected true, false or a number"):
        read_feedback(["a.csv"])
    feedback = read_feedback(["a.csv"], skip_bad=1)
    assert [one.responses[0].label for one in feedback.examples] == [1.0, 0.0]


def test_lists_and_objects() -> None:
    assert column("scores", "[1, 2.5]", '["a"]', "[") == [[1, 2.5], ["a"], "["]
    assert column("responses", '[{"content": "a"}]', '{"b": [null]}') == [[{"content": "a"}], {"b": [None]}]


@pytest.mark.parametrize("name", ["prompt", "Completion", "chosen", "source", "Best Answer"])
def test_a_text_stays_text_whatever_it_looks_like(name: str) -> None:
    assert column(name, "4", "12.5", "-1") == ["4", "12.5", "-1"]
    assert column(name, "true", "false") == ["true", "false"]
    assert column(name, "[1, 2]", '{"a": 1}') == ["[1, 2]", '{"a": 1}']


def test_messages_in_a_text_column() -> None:
    turns = [{"role": "user", "content": "hi, you"}]
    assert column("prompt", json.dumps(turns), json.dumps(turns[0]), "") == [turns, turns[0], None]


def test_feedback_of_every_kind_is_what_it_is_in_json(write: Write) -> None:
    found: list[dict[str, object]] = [
        {"prompt": "2 + 2 =", "completion": "4", "label": 1, "source": "7"},
        {"prompt": "p, \n q", "completion": 'say "x"', "label": 0.5, "source": "8"},
    ]
    ranked: list[dict[str, object]] = [{"prompt": "p", "responses": ["a", "b"], "scores": [1, -2.5]}]
    talk: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "label": True}
    ]
    for kind in (found, ranked, talk):
        out = io.StringIO()
        writer = csv.DictWriter(out, list(kind[0]))
        writer.writeheader()
        for row in kind:
            writer.writerow({key: one if isinstance(one, str) else json.dumps(one) for key, one in row.items()})
        write(raw=out.getvalue().encode(), name="a.csv")
        write(*kind, name="a.jsonl")
        (by_csv, by_json) = (read_feedback([name]).examples for name in ("a.csv", "a.jsonl"))
        assert [(one.prompt.content, one.responses) for one in by_csv] == [
            (one.prompt.content, one.responses) for one in by_json
        ]


def test_json_by_another_name_is_json() -> None:
    assert read_rows(b'{"prompt": "a"}\n') == [(1, {"prompt": "a"})]
    assert read_rows(b'[{"prompt": "a"}]') == [(1, {"prompt": "a"})]


def test_bad_rows_do_not_stop_the_others() -> None:
    Path("a.csv").write_bytes(b'prompt,chosen\np,a\nq\n"x"y,b\n"caf\nq",b\nr,"c\nd"\ns,e,f\nt,g\n')
    found = list(rows_of(load("a.csv")))
    assert [(row.number, not row.error) for row in found] == [
        (2, True), (3, False), (4, False), (5, True), (7, True), (9, False), (10, True),
    ]  # fmt: skip


def test_a_long_text_is_read_and_the_limit_of_others_left_alone() -> None:
    before = csv.field_size_limit(1000)
    try:
        long = "x" * 10_000_000
        assert read_rows(f"prompt,chosen\n{long},a\n".encode()) == [(2, {"prompt": long, "chosen": "a"})]
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


fields = st.text(st.sampled_from('ab1[]{}",;\t\n\r \0\u00e9\ufeff\u2028'), max_size=6) | st.sampled_from(
    ["1", "true", "[1]", "null", "1e999", '{"a": 1}', '[{"role": "user", "content": "x"}]', "[" * 3000, ""]
)
headers = st.lists(keys | st.just(""), min_size=1, max_size=4)


@quiet
@given(
    header=headers,
    table=st.lists(st.lists(fields, max_size=5), max_size=4),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    cut=st.integers(0, 60),
)
def test_any_table_whole_or_torn(
    header: list[str], table: list[list[str]], quoting: int, ending: str, cut: int
) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator=ending).writerows([header, *table])  # type: ignore[arg-type]
    raw = out.getvalue().encode()
    Path("a.csv").write_bytes(raw[: len(raw) - cut])
    is_read_or_refused("a.csv", skip_bad=2)


@quiet
@given(
    table=st.lists(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=3, max_size=3), min_size=1),
    delimiter=st.sampled_from(",;\t|"),
)
def test_text_comes_back_as_it_was_written(table: list[list[str]], delimiter: str) -> None:
    names = ["prompt", "chosen", "rejected"]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([names, *table])
    found = read_rows(out.getvalue().encode())
    assert [row for _, row in found] == [dict(zip(names, fields, strict=True)) for fields in table]


def test_every_layout_says_which_of_its_columns_hold_text() -> None:
    others = {"tools", "preference", *("completion_a_is_acceptable", "completion_b_is_acceptable")}
    others |= {"model_a", "model_b", "status"}
    for row in SOUND:
        layout = recognise(row, Origin("rows.jsonl", 1))
        found = {key for key in (*layout.keys, *layout.optional) if isinstance(row.get(key), str)}
        assert found - others <= {*layout.text}, layout.name
