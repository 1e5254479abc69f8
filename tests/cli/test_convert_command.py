"""`trueup convert`: what it writes, what it says of what it does not write, and what it refuses."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import write
from support.small_runs import command, write_feedback

from trueup.feedback.read import read_feedback

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_feedback(tmp_path, count=4)


def rows_of(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def test_pairs_of_rankings(files: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    name = files["rankings"]
    assert command("convert", name, "--to", "pairs", "--output", tmp_path / "out.jsonl") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"{name}: prompts with scored responses, 4 rows, 12 scored responses",
        f"dropped 12 scores: 12 because a file of pairs holds no scores ({name}:1, {name}:2, {name}:3, ...)",
        "made 12 comparisons from what else is said of the responses",
        f"4 examples read, 4 rows written to {tmp_path / 'out.jsonl'}",
    ]
    rows = rows_of(tmp_path / "out.jsonl")
    given = rows_of(name)
    assert [[one["content"] for one in row["responses"]] for row in rows] == [row["responses"] for row in given]
    assert rows[0]["comparisons"] == [
        {"better": 0, "worse": 2}, {"better": 1, "worse": 0}, {"better": 1, "worse": 2},
    ]  # fmt: skip


def test_several_files_and_the_world_in_one_gzipped_file(
    files: dict[str, Path], tmp_path: Path, capsys: Captured
) -> None:
    output = tmp_path / "out.jsonl.gz"
    names = [files["pairs"], "world:rankings?count=3", files["mixed"]]
    assert command("convert", *names, "--to", "canonical", "--output", output) == 0
    said = capsys.readouterr().err
    assert "dropped" not in said and "made" not in said
    assert said.splitlines()[-1] == f"11 examples read, 11 rows written to {output}"
    again = read_feedback([output])
    before = read_feedback([files["pairs"], files["mixed"]])
    assert [one.responses for one in again.examples[3:]] == [one.responses for one in before.examples]
    assert [one.comparisons for one in again.examples[3:]] == [one.comparisons for one in before.examples]
    assert again.files[0].counts.scored == 12


def test_what_a_layout_does_not_keep_is_named(tmp_path: Path, capsys: Captured) -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    given = [pair, {**pair, "note": "x"}, {**pair, "chosen": ""}, {**pair, "rejected": 3}, pair]
    path = write(tmp_path / "in.jsonl", given)
    arguments = ("convert", path, "--to", "trl", "--output", tmp_path / "out.jsonl")
    assert command(*arguments) == 2
    assert not (tmp_path / "out.jsonl").exists()
    capsys.readouterr()
    assert command(*arguments, "--skip-bad", "1") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: TRL pairs, 5 rows, 3 comparisons; not used: 1 row because a response is empty (row 3)",
        f"{path}: skipped 1 bad row (row 4); the first: {path}:4: rejected: found the number 3, expected text or a "
        "list of messages",
        f"{path}: keys not used: note (1 row)",
        "TRL's rows of pairs are written for 3 comparisons; --kind changes it",
        f"3 examples read, 3 rows written to {tmp_path / 'out.jsonl'}",
    ]
    assert rows_of(tmp_path / "out.jsonl") == [pair] * 3


def test_the_standard_output_holds_rows_and_nothing_else(files: dict[str, Path], capsysbinary: Any) -> None:
    assert command("convert", files["pairs"], "--to", "trl", "--kind", "pairs", "--output", "-") == 0
    said = capsysbinary.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == rows_of(files["pairs"])
    assert said.err.splitlines()[-1] == b"4 examples read, 4 rows written to the standard output"


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        (None, (), [{"prompt": "p", "completion": "a", "label": True}]),
        ("points", ("--threshold", "0.7"), [
            {"prompt": "p", "completion": "a", "label": True},
            {"prompt": "p", "completion": "b", "label": False},
            {"prompt": "p", "completion": "c", "label": True},
        ]),
        ("demonstrations", (), [{"prompt": "p", "completion": "c"}]),
    ],
)  # fmt: skip
def test_the_kind_of_trl_rows(
    kind: str | None, more: tuple[str, ...], expected: object, tmp_path: Path, capsys: Captured
) -> None:
    responses = [
        {"content": "a", "label": 1},
        {"content": "b", "label": 0.5},
        {"content": "c", "label": 0.7, "demonstration": True},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"prompt": "p", "responses": responses}))
    chosen = ("--kind", kind) if kind else ()
    assert command("convert", path, "--to", "trl", *chosen, *more, "--output", tmp_path / "o.jsonl") == 0
    assert rows_of(tmp_path / "o.jsonl") == expected
    note = "TRL's rows of points are written for 3 labelled responses, 1 demonstration; --kind changes it"
    assert (note in capsys.readouterr().err.splitlines()) == (kind is None)


def test_a_file_is_replaced_only_when_asked(files: dict[str, Path], capsys: Captured) -> None:
    arguments = ("convert", files["rankings"], "--to", "rankings", "--output", files["pairs"])
    before = files["pairs"].read_bytes()
    assert command(*arguments) == 2
    assert capsys.readouterr().err == (
        f"trueup: {files['pairs']}: the file is there already; give another name, or --force to replace it\n"
    )
    assert files["pairs"].read_bytes() == before
    assert command(*arguments, "--force") == 0
    assert read_feedback([files["pairs"]]).files[0].layout == "canonical"


def test_a_file_can_be_converted_in_place(files: dict[str, Path]) -> None:
    path = files["mixed"]
    before = read_feedback([path]).examples
    assert command("convert", path, "--to", "canonical", "--output", path, "--force") == 0
    assert read_feedback([path]).examples == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "canonical", "--output", "out.parquet"), "out.parquet: give a name that ends in .jsonl"),
        (("--to", "canonical", "--output", "."), ".: this is a folder; name a file in it, e.g. feedback.jsonl"),
        (("--to", "canonical", "--output", "no/o.jsonl"), "no/o.jsonl: the folder no does not exist; make it first"),
        (("--to", "pairs", "--kind", "pairs"), "--kind says which of TRL's rows to write; leave it out with --to"),
        (("--to", "points", "--threshold", "0.5"), "--threshold makes labels true or false for TRL; give it with"),
        (("--to", "trl", "--kind", "pairs", "--threshold", "0.5"), "--threshold makes labels true or false for TRL"),
        (("--to", "trl", "--threshold", "0.5"), "--threshold is for TRL's rows of points, and these are pairs"),
        (("--to", "trl", "--threshold", "1.5"), "threshold must be at most 1; got 1.5"),
        (("--to", "trl", "--threshold", "0"), "threshold must be greater than 0; got 0"),
        (("--to", "trl", "--threshold", "nan"), "threshold must be a finite number; got nan"),
        (("--to", "tlr"), "to must be one of canonical, pairs, rankings, points, trl; got 'tlr'; did you mean trl?"),
        (("--to", "canonical", "--skip-bad", "-1"), "skip_bad must be at least 0; got -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_is_refused(
    arguments: tuple[str, ...], message: str, files: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Captured,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    output = () if "--output" in arguments else ("--output", "o.jsonl")
    assert command("convert", files["pairs"], *arguments, *output) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"trueup: {message}")
    assert sum(line.startswith("trueup: ") for line in said) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_text_is_utf8_wherever_it_goes(tmp_path: Path) -> None:
    """The locale of the terminal decides nothing; nothing heavy is imported for it."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"prompt": "caf\u00e9", "completion": "\u4e2d"}))
    code = (
        "import sys; from trueup.cli.app import run\n"
        f"code = run(['convert', {str(path)!r}, '--to', 'canonical', '--output', '-'])\n"
        "print(code, *{'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={"LC_ALL": "C", "PYTHONUTF8": "0"}
    )
    row = {"prompt": "caf\u00e9", "responses": [{"content": "\u4e2d", "demonstration": True}]}
    assert done.stdout == json.dumps(row, ensure_ascii=False).encode() + b"\n"
    assert done.stderr.splitlines()[-1] == b"0"
