"""Whether a folder holds a whole model in Hugging Face format, told from names, sizes and JSON headers."""

from __future__ import annotations

import json
import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trueup.errors import InputError
from trueup.settings.validation import shown

WORLD = "world"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("vocab.json", "vocab.txt"),
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""


def check_model(folder: str, *, trust_remote_code: bool, weights: bool = True) -> None:
    """Check that a folder holds a whole model or adapter in Hugging Face format.

    Args:
        weights: whether it must hold weights too, or only what encodes text.

    Raises:
        InputError: something is absent, incomplete or would run code; with what to do about it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(_no_folder(folder))
    adapter = path / "adapter_config.json"
    if adapter.exists():
        if weights:
            _check_weights(path, "adapter_model")
        check_model(_base_of(adapter), trust_remote_code=trust_remote_code, weights=weights)
        return
    config = path / "config.json"
    if not config.exists():
        inner = path / "model"
        found = any((inner / name).is_file() for name in ("config.json", "adapter_config.json"))
        raise InputError(
            f"{folder} has neither config.json nor adapter_config.json, so it is no model's folder"
            f"{f'; did you mean {inner}?' if found else ''}"
        )
    _check_code(config, trust_remote_code)
    if weights:
        _check_weights(path, "model")
    if not any((path / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES)}); copy it there")


def check_safetensors(path: Path) -> None:
    """Check that a safetensors file is as long as its header says.

    Raises:
        InputError: it is cut short, too long, or not a safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else LARGEST_HEADER + 1
        if length > min(LARGEST_HEADER, max(size - 8, 0)):
            raise InputError(f"{path} is cut short, or no safetensors file ({size} bytes); copy it again")
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise InputError(f"{path} has a damaged header; copy it again") from None
    if size != expected:
        fault = "is cut short" if size < expected else "is too long"
        raise InputError(f"{path} {fault}: {size} bytes of {expected}; copy it again")


def _no_folder(name: str) -> str:
    if Path(name).is_file():
        return f"model {name} is a file; give the folder it lies in"
    if _is_hub_id(name):
        local = name.rpartition("/")[2]
        return (
            f"model {name} is not a folder; if it is a hub id, download it first: "
            f"hf download {name} --local-dir {local}, then give {local}"
        )
    return f"model {name} is not a folder; give a folder in Hugging Face format, or {WORLD}"


def _base_of(adapter: Path) -> str:
    base = _read_json(adapter).get("base_model_name_or_path")
    if isinstance(base, str) and base:
        for candidate in (Path(base), adapter.parent / base):
            if (candidate / "config.json").is_file():
                return str(candidate)
    raise InputError(
        f"{adapter}: base_model_name_or_path {shown(base)} is not a model's folder; name the base model's"
    )


def _is_hub_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def scores_text(folder: str) -> bool:
    """Whether a model's folder holds a reward model, one that reads a text and gives numbers, by its own word."""
    path = Path(folder)
    adapter = path / "adapter_config.json"
    if adapter.exists():
        return _read_json(adapter).get("task_type") == "SEQ_CLS"
    architectures = _read_json(path / "config.json").get("architectures")
    names = architectures if isinstance(architectures, list) else []
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def _check_weights(folder: Path, stem: str) -> None:
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise InputError(f"{index} has no weight_map from names to files; copy it again")
        if outside := [shard for shard in shards.values() if Path(shard).name != shard]:
            raise InputError(
                f"{index} names {outside[0]}, which is no file in its own folder; copy the model again"
            )
        files = [folder / shard for shard in sorted(set(shards.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise InputError(f"{folder} lacks {', '.join(missing)}, named in {index.name}; copy it again")
    else:
        files = [folder / f"{stem}.safetensors"]
    if not files[0].is_file():
        raise InputError(_no_weights(folder, files[0].name))
    for file in files:
        check_safetensors(file)


def _no_weights(folder: Path, wanted: str) -> str:
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        return (
            f"{folder} has its weights in {pickles[0]} alone, a pickle, which can run code when it is read; "
            "if you trust it, load it with transformers and save it with save_pretrained, as safetensors"
        )
    return f"{folder} has no weights: {wanted} is missing"


def _check_code(config: Path, trusted: bool) -> None:
    values = _read_json(config)
    if trusted or "auto_map" not in values or _known_architecture(values.get("model_type")):
        return
    raise InputError(
        f"{config} names Python code to run (auto_map), and trust_remote_code is off; "
        "read the code, then give trust_remote_code true"
    )


def _known_architecture(model_type: object) -> bool:
    """Whether transformers has this architecture itself, and so leaves the folder's code alone."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations or not isinstance(model_type, str):
        return False
    name = model_type.replace("-", "_")
    models = Path(next(iter(spec.submodule_search_locations))) / "models"
    return name.isidentifier() and (models / name / f"modeling_{name}.py").is_file()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not whole JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object; found {shown(values)}")
    return values
