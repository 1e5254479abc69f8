"""Frozen numbers: JSON with one case a line, so that a change of one case shows as a change of one line;
and the toy reward model that some were frozen with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from support.tiny_models import CONFIGS, char_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

FOLDER = Path(__file__).parent


def write_cases(path: Path, facts: dict[str, Any], **cases: Sequence[dict[str, Any]]) -> None:
    """Write what the numbers come from, and named lists of cases."""
    parts = [f'"facts": {json.dumps(facts, ensure_ascii=True)}']
    for name, members in cases.items():
        lines = ",\n".join(json.dumps(member, allow_nan=False) for member in members)
        parts.append(f'"{name}": [\n{lines}\n]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read_cases(path: Path) -> dict[str, Any]:
    """`facts`, and the lists by name."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def compare(found: Any, expected: Any, *, relative: float, absolute: float, where: str = "") -> None:
    """Hold two values against each other, fractions up to a tolerance and everything else exactly.

    Raises:
        AssertionError: they differ; says where.
    """
    keys: Sequence[Any] = ()
    if isinstance(expected, dict):
        keys = list(expected)
        assert isinstance(found, dict) and list(found) == keys, where
    elif isinstance(expected, list):
        keys = range(len(expected))
        assert isinstance(found, list) and len(found) == len(expected), where
    elif isinstance(expected, float):
        allowed = max(absolute, relative * abs(expected))
        assert abs(found - expected) <= allowed, f"{where}: {found} instead of {expected}"
    else:
        assert found == expected, f"{where}: {found} instead of {expected}"
    for key in keys:
        compare(found[key], expected[key], relative=relative, absolute=absolute, where=f"{where}/{key}")


def reward_network(seed: int) -> Any:
    """A random Llama under a scalar head, far from uniform; see `support.tiny_models.toy_network`."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "llama", **{**CONFIGS["llama"], "vocab_size": len(char_tokenizer()), "num_labels": 1}
    )
    network = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return network.eval()
