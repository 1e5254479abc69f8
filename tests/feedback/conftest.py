"""What the tests of feedback share."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

Write = Callable[..., Path]
Convert = Callable[..., Example]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*rows: object, name: str = "data.jsonl", raw: bytes | None = None) -> Path:
        path = tmp_path / name
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(lines.encode() if raw is None else raw)
        return path

    return written


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, so that errors and reports name plain files."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def convert(write: Write) -> Convert:
    def converted(**row: object) -> Example:
        (example,) = read_feedback([write(row)]).examples
        return example

    return converted


@pytest.fixture
def shared(shared: Callable[[str], Path]) -> Callable[[str], Path]:
    """A file of real feedback; the test is skipped where it is not there."""
    return lambda name: shared(f"data/{name}")
