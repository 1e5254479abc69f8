"""Settings from a YAML file: plain values only, every key once, every fault named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trueup.errors import InputError


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a file holds.

    Example: `YamlFile("run.yaml", {"reference": {"alpha": 0.6}}, {"reference": 3, "reference.alpha": 4})`.
    """

    path: str
    values: dict[str, Any]
    lines: dict[str, int]
    """Dotted key -> its line, counted from 1."""


PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}


NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
DECIMAL = re.compile(
    r"[-+]?(([1-9][0-9]*|0)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE
)


class _Loader(yaml.SafeLoader):
    """Plain values; dates stay text, as no setting is a date, and so do numbers that are not written in decimals.

    To YAML 1.1, `1:30` is 90 and `010` is 8.
    """

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


def read_yaml(path: str | Path) -> YamlFile:
    """Read a mapping of settings from a YAML file.

    Raises:
        InputError: the file is absent, not UTF-8, not YAML, not a mapping, or has a tag or a key given twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node, "", str(path)))
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply for settings") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: a file of settings is a mapping, as in 'beta: 0.1'; found {_kind(values)}")
    return YamlFile(str(path), values, lines)


def _lines(node: yaml.Node | None, prefix: str, path: str) -> Iterator[tuple[str, int]]:
    """Yield every dotted key with its line; refuse tags and keys given twice."""
    if node is None:
        return
    line = node.start_mark.line + 1
    if node.tag not in PLAIN:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise InputError(f"{path}:{line}: the tag {tag} is not allowed; give a plain value")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            for _ in _lines(item, prefix, path):
                pass
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            raise InputError(f"{path}:{line}: a key must be text; got {_source(key_node)}")
        key = f"{prefix}{key_node.value}"
        if key in seen:
            raise InputError(f"{path}:{line}: {key} is given twice, first in line {seen[key]}")
        seen[key] = line
        yield key, line
        yield from _lines(value_node, f"{key}.", path)


def _source(node: yaml.Node) -> str:
    return ascii(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else f"a single value, {ascii(value)[:60]}"
