"""Rows of every layout, spoiled at random: examples, counted rows, or one line that names the row; nothing else."""

import math
import re
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.faulty_feedback import write
from support.layout_rows import SOUND, Row
from support.malformed_rows import spoiled

from trueup.cli.app import run
from trueup.errors import InputError
from trueup.feedback.read import Feedback, read_feedback
from trueup.feedback.records import Content, Example, Message
from trueup.feedback.views import apply
from trueup.methods import METHODS

pytestmark = pytest.mark.slow

of_a_layout, of_any_layout = (
    hypothesis_settings(
        max_examples=number, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    for number in (16, 40)
)
VIEWS = list(dict.fromkeys(info.build().view for info in METHODS.values()))
"""Of all methods, each once."""
every_row = pytest.mark.parametrize("row", SOUND, ids=lambda row: " ".join(row)[:40])


def is_one_line_about_a_row(message: str, path: Path, rows: int) -> bool:
    """Whether a message names the file and a row of it, or that no row was left."""
    if len(re.split("[\r\n\x85\u2028\u2029]", message)) != 1:
        return False
    if message.startswith(f"no row can be used: {path}: "):
        return True
    named = re.match(re.escape(str(path)) + r":(\d+)(:\d+)?: .", message)
    return named is not None and 1 <= int(named.group(1)) <= rows


def is_content(value: Content, kind: type) -> bool:
    if kind is str:
        return isinstance(value, str)
    return isinstance(value, tuple) and all(
        isinstance(one, Message) and isinstance(one.role, str) and isinstance(one.content, str) for one in value
    )


def is_sound(example: Example) -> bool:
    kind = str if isinstance(example.prompt.content, str) else tuple
    return (
        is_content(example.prompt.content, kind)
        and len(example.responses) > 0
        and all(is_content(one.content, kind) for one in example.responses)
        and all(one.score is None or math.isfinite(one.score) for one in example.responses)
        and all(one.source is None or isinstance(one.source, str) for one in example.responses)
        and all(isinstance(tool, dict) for tool in example.prompt.tools)
    )


def read_or_refused(path: Path, rows: int, skip_bad: int) -> Feedback | None:
    """Read the file; the account of its rows adds up, or the error is one line about one of them."""
    try:
        feedback = read_feedback([path], skip_bad=skip_bad)
    except InputError as error:
        assert is_one_line_about_a_row(str(error), path, rows), str(error)
        return None
    (report,) = feedback.files
    unusable = [number for numbers in report.unusable.values() for number in numbers]
    assert report.rows == rows == report.examples + len(unusable) + len(report.skipped)
    assert len(feedback.examples) == report.examples
    assert len(report.skipped) <= skip_bad
    assert all(is_sound(example) for example in feedback.examples)
    told = {example.origin.row for example in feedback.examples if example.origin}
    assert sorted([*told, *unusable, *report.skipped]) == list(range(1, rows + 1))
    assert all(len(line.splitlines()) == 1 for line in feedback.lines())
    return feedback


@every_row
@of_a_layout
@given(data=st.data(), skip_bad=st.integers(0, 3))
def test_a_spoiled_row_among_sound_ones(row: Row, data: st.DataObject, skip_bad: int, tmp_path: Path) -> None:
    """Sound, spoiled, sound, spoiled; or, where the first is spoiled, whatever the file is then taken for."""
    rows = [row, data.draw(spoiled(row)), row, data.draw(spoiled(row))]
    if data.draw(st.booleans()):
        rows = rows[1:]
    feedback = read_or_refused(write(tmp_path / "rows.jsonl", rows), len(rows), skip_bad)
    if feedback is None:
        return
    for view in VIEWS:  # what a method makes of them is groups, or one line
        try:
            apply(view, feedback.examples)
        except InputError as error:
            assert "\n" not in str(error)


@of_any_layout
@given(data=st.data())
def test_the_command_line_says_it_in_one_line(
    data: st.DataObject, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = data.draw(st.sampled_from(SOUND))
    rows = [row, data.draw(spoiled(row)), row]
    path = write(tmp_path / "rows.jsonl", rows)
    method = data.draw(st.sampled_from(sorted(METHODS)))
    capsys.readouterr()
    with patch("trueup.training.setup.make_policy", side_effect=InputError("read to the end")):
        code = run(["train", method, *f"--model {tiny_model} --data {path} --output {tmp_path}/run".split()])
    said = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("trueup: ")]
    assert line == said.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@of_any_layout
@given(data=st.data())
def test_inspection_says_what_is_wrong(data: st.DataObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = data.draw(st.sampled_from(SOUND))
    path = write(tmp_path / "rows.jsonl", [row, data.draw(spoiled(row)), row])
    capsys.readouterr()
    assert run(["inspect", str(path)]) in (0, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert sum(line.startswith("trueup: ") for line in said.err.splitlines()) <= 1
