"""Point-wise methods from the command line: scores made labels, demonstrations among them, and labels of one class."""

from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import write
from support.small_runs import command, metrics_of

Row = dict[str, Any]


def answered(*scores: float, **more: Any) -> Row:
    return {"prompt": "say:", "responses": [{"content": f" {n}", "score": s} for n, s in enumerate(scores)]} | more


def shown(word: str) -> Row:
    return {"prompt": f"say {word}:", "responses": [{"content": f" {word}", "demonstration": True}]}


def thumbs(*labels: bool) -> list[Row]:
    return [{"prompt": f"say {n}:", "completion": f" {n}", "label": label} for n, label in enumerate(labels)]


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Train for one step over all rows; the exit code, what was said, and the metrics."""

    def run(method: str, rows: list[Row], *more: object) -> tuple[int, list[str], dict[str, Any]]:
        data, output = write(tmp_path / "data.jsonl", rows), tmp_path / "run"
        arguments = ("--model", tiny_model, "--data", data, "--output", output, "--steps", 1)
        capsys.readouterr()
        code = command("train", method, *arguments, "--batch_size", len(rows), *more)
        said = capsys.readouterr().err.splitlines()
        return code, said, metrics_of(output)[0] if code == 0 else {}

    return run


class TestScores:
    """Grades from 0 to 10 and one demonstration: 6 graded responses, of which 2 have 9 or more."""

    ROWS = (answered(0, 5, 9), answered(10, 2, 4), shown("red"))
    SAID = ("labels: scores of 6 responses, 0 is 0 and 10 is 1",)

    @pytest.mark.parametrize("scale", [("min-max",), ("range", "--score-low", 0, "--score-high", 10)])
    def test_ulma_fits_grades_and_imitates_the_best_of_them(self, scale: tuple[object, ...], train: Any) -> None:
        """Before step 1 every reward is 0: a grade z costs z^2, a demonstration its negative log-likelihood."""
        code, said, metrics = train(
            "ulma", list(self.ROWS), "--scale", *scale, "--demonstration-from", 0.9, "--continuous", "true"
        )
        assert code == 0
        assert self.SAID[0] in said
        assert "demonstrations: 2 responses labelled 0.9 or more, beside 1 marked" in said
        given = "3 examples gave 3 groups, 7 responses, 4 points, 3 demonstrations"
        assert f"points with demonstrations: {given}" in said
        judged = 0.0**2 + 0.5**2 + 0.2**2 + 0.4**2
        assert metrics["loss"] == pytest.approx((judged - 3 * metrics["logps/demonstrations"]) / 7, rel=1e-6)
        assert (metrics["rewards/chosen"], metrics["rewards/rejected"]) == (0, 0)

    def test_without_a_threshold_only_what_is_marked_is_imitated(self, train: Any) -> None:
        code, said, metrics = train("ulma", list(self.ROWS), "--scale", "min-max", "--continuous", "true")
        assert code == 0
        assert not any(line.startswith("demonstrations: ") for line in said)
        judged = 0.0**2 + 0.5**2 + 0.9**2 + 1.0**2 + 0.2**2 + 0.4**2
        assert metrics["loss"] == pytest.approx((judged - metrics["logps/demonstrations"]) / 7, rel=1e-6)

    def test_pointwise_dpo_fits_grades(self, train: Any) -> None:
        options = ("--scale", "min-max", "--continuous", "true", "--log-z", 0.25)
        code, said, metrics = train("pointwise-dpo", list(self.ROWS[:2]), *options)
        assert code == 0
        assert self.SAID[0] in said
        expected = sum((grade - 0.25) ** 2 for grade in (0.0, 0.5, 0.9, 1.0, 0.2, 0.4)) / 6
        assert metrics["loss"] == pytest.approx(expected, rel=1e-6)
        assert metrics["rewards/chosen"] == pytest.approx(0.25)

    @pytest.mark.parametrize("method", ["ulma", "pointwise-dpo", "unlikelihood", "kto"])
    def test_scores_alone_name_the_setting_that_makes_labels_of_them(self, method: str, train: Any) -> None:
        code, said, _ = train(method, [answered(0, 1), answered(2, 1)])
        assert code == 2
        assert "2 for scores are not labels; make labels of them with --scale" in said[-1]
        assert len([line for line in said if line.startswith("trueup: ")]) == 1


def warnings(said: list[str]) -> list[str]:
    return [line for line in said if "which teaches little" in line]


class TestOneClass:
    @pytest.mark.parametrize("method", ["pointwise-dpo", "ulma", "unlikelihood"])
    @pytest.mark.parametrize("label", [True, False])
    def test_it_is_trained_on_with_a_warning_that_counts(self, method: str, label: bool, train: Any) -> None:
        code, said, _ = train(method, thumbs(*[label] * 5))
        assert code == 0
        (warning,) = warnings(said)
        assert f"all 5 labels are {label:d}, which teaches little" in warning

    def test_grades_that_are_all_the_same_are_found_after_the_scale(self, train: Any) -> None:
        scale = ("--scale", "range", "--score-low", 0, "--score-high", 4)
        code, said, _ = train("pointwise-dpo", [answered(1, 1), answered(1)], *scale)
        assert code == 0
        assert "all 3 labels are 0.25," in warnings(said)[0]
