"""What the tests of settings share."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trueup.config.resolve import Resolved, resolve
from trueup.methods import METHODS

Settle = Callable[..., Resolved]
Write = Callable[[str], Path]

GIVEN = {"model": "MODEL", "data": "pairs.jsonl", "output": "runs/x"}
ONLINE = {"model": "MODEL", "prompts": "world:prompts", "annotator": "world:gold", "output": "runs/x"}


@pytest.fixture
def yaml(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def settle(yaml: Write) -> Settle:
    """Resolve a run whose model, output and data are given; keywords are dotted with `__`.

    A method that has no use for data is given prompts and an annotator.
    """

    def settled(method: str, text: str | None = None, /, **overrides: Any) -> Resolved:
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        file = yaml(text) if text is not None else None
        info = METHODS.get(method.replace("_", "-"))
        gathers = given.get("source", "offline" if info is None else info.sources[0]) == "online"
        return resolve(method, config_file=file, overrides=(ONLINE if gathers else GIVEN) | given)

    return settled


@pytest.fixture
def weights() -> bytes:
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


@pytest.fixture
def model(tmp_path: Path, weights: bytes) -> Path:
    """A folder with the files of a model; their content is only as real as the checks before torch need."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder
