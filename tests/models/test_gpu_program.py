"""The program for a lone GPU, on a CPU: it finds everything right, names what is not, and counts the work of a step."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from trueup.models.attention import grouped

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    found = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"), run_name="benchmarks.gpu")
    found["LENGTHS"].update({"HH": (24, 12, 2), "TL;DR": (40, 6, 2), "UltraFeedback": (20, 30, 2)})
    found["LENGTHS"].update({"rankings of 8": (30, 8, 8)})
    return found


def test_every_backend_is_found_right_and_every_table_is_made(program: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    assert program["main"](["--device", "cpu", "--quick", "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    checked = [one for one in record["checks"] if {"backend", "right"} <= set(one)]
    assert [(one["backend"], one["precision"]) for one in checked] == [
        (name, precision)
        for precision in ("fp32", "bf16")
        for name in ("dense", "flex", "forked", "grouped", "padded", "varlen")
    ]
    assert all(one["right"] and one["same bits again"] for one in checked)
    library = {one["precision"]: one for one in record["checks"] if one.get("backend") == "library"}
    assert 0 < library["fp32"]["gradient"] < 1e-5 < library["bf16"]["gradient"] < 0.1
    assert record["checks"][-2] == {"chosen": "grouped", "message": ""}
    assert record["checks"][-1] == {"size": "tiny", "same responses": True, "refused": [], "right": True}
    assert [(one["way"], one["seconds"] > 0) for one in record["sampled"]] == [
        (way, True) for way in ("replayed", "launched", "generate")
    ]
    assert [(one["lengths"], one["way"]) for one in record["steps"]] == [
        (kind, way) for kind in program["LENGTHS"] for way in ("stream", "padded", "all logits")
    ]
    assert all(one["tokens"] <= 500 and one["seconds"] > 0 for one in record["steps"])


def test_a_backend_that_is_wrong_is_named(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Attention that sees a token too many."""
    original = grouped._block

    def shifted(query_BQ: Any, *more: Any) -> Any:
        made = original(query_BQ, *more)
        made.causal_BQK[:, :, 1:] |= made.causal_BQK[:, :, :-1].clone()
        return made

    monkeypatch.setattr(grouped, "_block", shifted)
    wrong = [one for one in program["right"](torch.device("cpu"), 100) if one.get("right") is False]
    assert {one["backend"] for one in wrong} == {"grouped"}


def test_what_does_not_fit_is_tried_with_half_as_many_groups(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for 100 tokens, and for none, which is told."""
    tried: list[int] = []

    def seconds(work: Any, *more: Any) -> float:
        tried.append(work.__defaults__[0].stream.num_tokens)
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 0.5

    monkeypatch.setitem(program["steps"].__globals__, "seconds", seconds)
    most = 100
    first = next(program["steps"]("tiny", torch.device("cpu"), 500, 1))
    assert first["tokens"] == tried[-1] <= most < tried[0]
    assert first["pairs a second"] == first["groups"] / 0.5
    most = 0
    assert next(program["steps"]("tiny", torch.device("cpu"), 500, 1))["missed"] == "memory, with one group"
