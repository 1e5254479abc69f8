"""What a layout's rows say and examples do not hold is said in the report, and so by every command."""

import json
from pathlib import Path

import pytest

from trueup.cli.app import run
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.read import read_feedback

ROWS: dict[str, dict[str, object]] = {
    "UltraFeedback": {
        "instruction": "Name a fruit.",
        "completions": [
            {"response": "Apple", "overall_score": 8, "custom_system_prompt": "Be kind.", "principle": "honesty"},
            {"response": "Ash", "overall_score": 2, "custom_system_prompt": "Be brief.", "principle": "honesty"},
        ],
    },
    "FineGrainedRLHF": {
        "question": "Who?",
        **{f"prediction {number}": f"Ann {number}" for number in range(1, 5)},
        "preference": [1, 1, 1, 1, 1, 1],
        "feedback": {"errors": [{"error type": "Irrelevant"}], "corrected-prediction": "Bo"},
    },
    "UniEval ratings": {
        "source": "Hi .\n", "system_id": "one", "system_output": "Yes .", "scores": {"overall": 4, "coherence": 1},
    },
    "ratings of summaries": {
        "info": {"article": "It rains.", "id": "x"},
        "summary": {"text": "Rain.", "policy": "ref", "axes": {"overall": 6, "accuracy": 7}},
    },
    "comparisons of summaries": {
        "info": {"article": "It rains.", "id": "x"},
        "summaries": [{"text": "Rain.", "note": "good"}, {"text": "Sun.", "note": "bad"}],
        "choice": 0,
    },
}  # fmt: skip


def test_every_sentence_has_a_row_here() -> None:
    assert {layout.name for layout in LAYOUTS if layout.not_kept} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_reports_and_commands_say_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS[name]) + "\n")
    (report,) = read_feedback([file]).files
    assert report.layout == name and report.not_kept
    line = f"{file}: not kept: {report.not_kept}"
    assert report.lines()[-1] == line
    assert run(["convert", str(file), "--to", "canonical", "--output", "-"]) == 0
    assert line in capsys.readouterr().err.splitlines()
    assert run(["inspect", str(file)]) == 0
    assert "  " + line in capsys.readouterr().out.splitlines()


def test_a_layout_that_keeps_all_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    (report,) = read_feedback([file]).files
    assert report.not_kept == "" and len(report.lines()) == 1
