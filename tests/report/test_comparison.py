"""`trueup compare`: runs side by side, with what keeps them from being compared."""

import json
from pathlib import Path

import pytest
from support.run_folders import dpo_lines, evaluation, make_run
from support.small_runs import command

from trueup.report.run_data import RunData

Captured = pytest.CaptureFixture[str]


def compared(folder: Path, *arguments: object) -> str:
    output = folder / "pages" / "comparison.html"
    assert command("compare", *arguments, "--output", output) == 0
    return output.read_text()


def test_runs_are_side_by_side_with_intervals_wins_costs_and_what_differs(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", dpo_lines(10), settings={"seed": 1, "batch_size": 8})
    other = make_run(tmp_path / "other", dpo_lines(20), settings={"seed": 2, "batch_size": 8})
    (one / "evaluation.json").write_text(json.dumps(evaluation("one", "other", "M")))
    text = compared(tmp_path, one, other)
    assert '<tr><th dir="auto">tokens</th>' in text and ">100</td>" in text and ">200</td>" in text
    assert "0.75 (0.65 to 0.85)" in text and ">0.25</b>" in text  # the other way round
    assert "Reward against KL" in text
    differing = text.partition("What differs between their settings")[2]
    assert '<th dir="auto">seed</th>' in differing and "batch_size" not in differing
    assert 'class="note"' not in text
    assert compared(tmp_path, one, other) == text


def test_flops_are_those_of_weights_and_tokens(tmp_path: Path) -> None:
    """100 of 1,000 weights are trained on 10 tokens a step, a frozen reference beside them; 6 tokens are sampled."""
    folder = make_run(tmp_path / "run", dpo_lines(10), rounds=[{"online/responses": 2.0, "online/tokens": 3.0}])
    run = RunData(folder, {})
    assert run.flops == (4 * 1000 + 2 * 100 + 2 * 1000) * 100 + 2 * 1000 * 6
    assert run.total("seconds") == pytest.approx(5)
    every_third = RunData(make_run(tmp_path / "seldom", [line for line in dpo_lines(12) if line["step"] % 3 == 0]), {})
    assert every_third.total("tokens") == pytest.approx(120)


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: Captured) -> None:
    lines = [*dpo_lines(3), {"step": 3, "eval_loss": 0.5}]
    one = make_run(tmp_path / "a" / "run", lines, data="1", settings={"eval_data": ["x"]})
    stopped = {"state": "stopped", "step": 2, "steps": 9}
    other = make_run(tmp_path / "b/run", lines, data="2", settings={"eval_data": ["y"]}, status=stopped)
    for folder, prompts in ((one, "p"), (other, "q")):
        (folder / "evaluation.json").write_text(json.dumps(evaluation("run", "M", prompts=[prompts])))
    text = compared(tmp_path, one, other)
    different = ("different feedback", "different held-out feedback", "on different prompts")
    for said in (*different, "is not done (stopped)"):
        assert said in text, said
    assert str(one) in text and str(other) in text  # as both have one name
    assert command("compare", one, "--evaluation", tmp_path) == 2
    assert "evaluation.json cannot be read" in capsys.readouterr().err
    assert command("compare", one, tmp_path / "none") == 2
    assert "is not a run" in capsys.readouterr().err


def test_a_run_by_itself_without_an_evaluation_is_told_how_to_get_one(tmp_path: Path) -> None:
    text = compared(tmp_path, make_run(tmp_path / "run"))
    assert "No evaluation of these runs was found" in text and "There are none" in text
