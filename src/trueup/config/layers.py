"""Settings from several places, one over the other: a method's defaults, a YAML file, the command line.

A layer is flat: dotted name -> plain value. Every fault in a file is named with its line.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from trueup import errors, files, words
from trueup.settings.run_settings import EITHER

Layer = dict[str, Any]

OWN_WORDS = ("columns", "values", "rank_pattern", "alpha_pattern")
"""Mappings whose keys are words of the user's data, or names of a model's layers: text, be they numbers, with dots, or
what YAML takes for true."""


def flatten(values: Mapping[str, Any]) -> Layer:
    """Return nested values under dotted names; None counts as left out. `{"a": {"b": 1}}` is `{"a.b": 1}`."""
    layer: Layer = {}
    for name, value in _leaves(values, ""):
        if name in layer:
            raise errors.InputError(f"{words.named(name)} is given twice, once nested and once dotted; give it once")
        layer[name] = value
    return layer


def overlay(lower: Layer, upper: Layer) -> Layer:
    kept = {name: value for name, value in lower.items() if not _replaced(name, lower, upper)}
    return kept | upper


def nest(layer: Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name in sorted(layer, key=lambda name: name.count(".")):
        *parents, last = name.split(".")
        node = nested
        for depth, parent in enumerate(parents):
            inner = node.setdefault(parent, {})
            if _is_true(inner):
                inner = node[parent] = {}
            if not isinstance(inner, dict):
                both = f"{words.as_given(inner)} and as a mapping with {words.named(name)}"
                raise errors.InputError(f"{words.named('.'.join(parents[: depth + 1]))} is given as {both}; give one")
            node = inner
        node[last] = layer[name]
    return nested


def differences(before: Layer, now: Layer, said: str = "was {}, is {}") -> dict[str, str]:
    return {
        name: f"{name} ({said.format(_shown(before.get(name)), _shown(now.get(name)))})"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    }


def _shown(value: object) -> str:
    return "nothing" if value is None else words.shortened(value, 60) if isinstance(value, str) else str(value)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and name not in OWN_WORDS:
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", _without_paths(value)


def _without_paths(value: Any) -> Any:
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
    return any(name in pair and {*pair} & upper.keys() for pair in EITHER)


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
DECIMAL = re.compile(r"(?i)[-+]?(([1-9][0-9]*|0)(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?\.(inf|nan)")


class _Loader(yaml.SafeLoader):
    """Plain values; dates and numbers that are not written in decimals stay text: to YAML 1.1, `1:30` is 90."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return "tag:yaml.org,2002:str" if tag in NUMBERS and not DECIMAL.fullmatch(value) else tag

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not read; write the value out", mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@lru_cache(maxsize=4)
def _composed(text: str) -> yaml.Node | None:
    return _Loader(text).get_single_node()


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a mapping of settings from a YAML file, and the line of each dotted key, counted from 1."""
    try:
        text = files.no_device(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise errors.InputError(f"{words.named(str(path))}: no such file") from None
    except UnicodeDecodeError as error:
        raise errors.InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise errors.InputError(f"{words.named(str(path))}: cannot be read: {words.reason(error)}") from None
    try:
        node = _composed(text)
        lines = dict(_lines(node, "", str(path)))
        values = None if node is None else _Loader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise errors.InputError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise errors.InputError(f"{path}: nested too deeply for settings") from None
    except (yaml.YAMLError, ValueError) as error:
        raise errors.InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if values is not None and not isinstance(values, dict):
        found = "a list" if isinstance(values, list) else f"a single value, {ascii(values)[:60]}"
        raise errors.InputError(f"{path}: a file of settings is a mapping, as in 'beta: 0.1'; found {found}")
    return values or {}, lines


def _lines(node: yaml.Node | None, prefix: str, path: str) -> Iterator[tuple[str, int]]:
    if node is None:
        return
    line = node.start_mark.line + 1
    if node.tag not in PLAIN:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise errors.InputError(f"{path}:{line}: the tag {tag} is not allowed; give a plain value")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            list(_lines(item, prefix, path))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if isinstance(key_node, yaml.ScalarNode) and prefix.removesuffix(".") in OWN_WORDS:
            key_node.tag = "tag:yaml.org,2002:str"
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            got = ascii(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
            raise errors.InputError(f"{path}:{line}: a key must be text; got {got}")
        key = f"{prefix}{key_node.value}"
        if key in seen:
            raise errors.InputError(f"{path}:{line}: {key} is given twice, first in line {seen[key]}")
        seen[key] = line
        yield key, line
        yield from _lines(value_node, f"{key}.", path)
