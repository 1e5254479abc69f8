"""docs/scale.md shows what the forecast says; and laws of the forecast."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_and_the_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/scale"))
    import json

    import run

    del sys.modules["run"]  # others are named so, too
    table = run.table(json.loads((ROOT / "benchmarks/scale/result.json").read_text()))
    page = (ROOT / "docs/scale.md").read_text()
    assert all(part in page for part in table.split("\n\n"))
    llama, of, gpu = run.SHAPES[0], run.Lengths(512, 256), run.Machine()
    assert llama.weights == 8_029_995_008  # Llama 3.1 8B without its norms
    alone = sum(run.forward(llama, replace(of, responses=1)) for _ in range(2))
    prompt = 2 * llama.layers * llama.layer * 512 + 4 * llama.layers * llama.width * 512**2 / 2
    assert run.forward(llama, of) == pytest.approx(alone - prompt, rel=1e-12)
    one, two = (run.forecast(run.Plan(llama, gpus, 8, 16 * gpus, of), gpu) for gpus in (8, 16))
    assert one["compute"] == two["compute"] and one["links"] < two["links"] and one["dollars"] * 2 == two["dollars"]
