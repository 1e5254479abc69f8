"""Settings from several places, one over the other: a method's defaults, a file, the command line.

A layer is flat: dotted name -> plain value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from trueup.errors import InputError
from trueup.words import as_given, named

Layer = dict[str, Any]

EITHER = (("epochs", "steps"), ("warmup_steps", "warmup_ratio"), ("eval_data", "eval_fraction"))
"""Settings that say the same thing in two ways: one of them in a layer takes the place of the other below."""


def flatten(values: Mapping[str, Any]) -> Layer:
    """Return nested values under dotted names; a value of None counts as left out.

    Example: `{"beta": 0.1, "reference": {"alpha": 0.6}}` is `{"beta": 0.1, "reference.alpha": 0.6}`.

    Raises:
        InputError: a name is given both nested and dotted.
    """
    layer: Layer = {}
    for name, value in _leaves(values, ""):
        if name in layer:
            raise InputError(f"{named(name)} is given twice, once nested and once dotted; give it once")
        layer[name] = value
    return layer


def overlay(lower: Layer, upper: Layer) -> Layer:
    """Return both layers as one: what the upper one gives takes the place of what the lower one gave."""
    kept = {name: value for name, value in lower.items() if not _replaced(name, lower, upper)}
    return kept | upper


def nest(layer: Layer) -> dict[str, Any]:
    """Return the layer as nested mappings, the opposite of `flatten`.

    A mapping that is also given as true (`lora: true` beside `lora.rank`) is the mapping.

    Raises:
        InputError: a name is given both as a value and as a mapping.
    """
    nested: dict[str, Any] = {}
    for name in sorted(layer, key=lambda name: name.count(".")):
        *parents, last = name.split(".")
        node = nested
        for depth, parent in enumerate(parents):
            inner = node.setdefault(parent, {})
            if _is_true(inner):
                inner = node[parent] = {}
            if not isinstance(inner, dict):
                path = named(".".join(parents[: depth + 1]))
                raise InputError(
                    f"{path} is given as {as_given(inner)} and as a mapping with {named(name)}; give one"
                )
            node = inner
        node[last] = layer[name]
    return nested


def same(one: object, other: object) -> bool:
    """Whether two plain values mean the same, text from the command line included: "1e-6" and 1e-06."""
    return one == other or _plain(one) == _plain(other)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", _without_paths(value)


def _without_paths(value: Any) -> Any:
    """The value with paths as text, those in a list too."""
    if isinstance(value, list | tuple):
        return [_without_paths(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _replaced(name: str, lower: Layer, upper: Layer) -> bool:
    parent, _, last = name.rpartition(".")
    kind = f"{parent}.kind" if parent else ""
    if kind in upper and last != "kind" and upper[kind] != lower.get(kind):
        return True  # settings of another kind: the upper layer says what it wants of its own
    for other, given in upper.items():
        inside = name.startswith(f"{other}.") and not _is_true(given)
        if name == other or inside or other.startswith(f"{name}."):
            return True
    return any(name in pair and any(other in upper for other in pair) for pair in EITHER)


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def _plain(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 1:
        return _plain(value[0])
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return value
