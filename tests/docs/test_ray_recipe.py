"""Feedback judged by Ray Data: the recipe of docs/gathering.md, where Ray is installed, and what it does to a block."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.source_tree import MODULES

RECIPE = Path(__file__).parents[2] / "examples/ray_annotate.py"
ROWS = [{"prompt": f"say {number}:", "responses": [{"content": " a"}, {"content": " a b"}]} for number in range(6)]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")
    return ["--annotator", f"{tmp_path / 'rewards.py'}:brevity"]


def assert_judged(lines: list[str]) -> None:
    found = [json.loads(line) for line in lines]
    assert sorted(one["prompt"] for one in found) == [row["prompt"] for row in ROWS]
    assert all([each["score"] for each in one["responses"]] == [-2.0, -4.0] for one in found)


def test_a_block_is_judged_and_written_once(options: list[str], tmp_path: Path) -> None:
    spec: Any = importlib.util.spec_from_file_location("ray_annotate", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    lines = recipe.judged(pa.Table.from_pylist(ROWS), options=options)
    for _ in range(2):  # a node is lost behind it
        told = recipe.write(lines, folder=str(tmp_path)).to_pylist()
    (file,) = tmp_path.glob("*.jsonl")
    assert told == [{"file": file.name, "examples": 6}]
    assert_judged(file.read_text().splitlines())
    with pytest.raises(RuntimeError, match=r"nothing\.py"):
        recipe.judged(pa.Table.from_pylist(ROWS), options=["--annotator", "nothing.py:f"])


def test_ray_does_it_over_files(options: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "given").mkdir()
    for part in (0, 1):
        parquet.write_table(pa.Table.from_pylist(ROWS[part::2]), tmp_path / "given" / f"{part}.parquet")
    command = [sys.executable, str(RECIPE), str(tmp_path / "given"), str(tmp_path / "made"), *options]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=found)
    assert "6 examples judged" in ended.stdout, ended.stderr[-2000:]
    assert_judged([line for file in (tmp_path / "made").iterdir() for line in file.read_text().splitlines()])


def test_nothing_else_imports_ray() -> None:
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            named = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "ray" for name in named), path
