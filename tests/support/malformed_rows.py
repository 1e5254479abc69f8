"""What can go wrong with a row."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]
Path = tuple[str | int, ...]

ASK = {"role": "user", "content": "2 + 2 ="}
RIGHT = {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}
H, A = "\n\nHuman:", "\n\nAssistant:"


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """Every place in a row below its top, at any depth."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for step, deeper in inner:
        yield (*path, step)
        yield from places(deeper, (*path, step))


def at(row: Row, path: Path) -> Any:
    """The value at a place."""
    found: Any = row
    for step in path:
        found = found[step]
    return found


JUNK: list[object] = [
    None, True, False, 0, -1, 2, 0.5, 1e308, -1e308, 10**25, 10**400, float("nan"), float("inf"), float("-inf"),
    "", " ", "\n", "a", "N/A", "4\x00", "\ud83d", "\u202e", "[", "{}", '[{"name": 3}]', "null", "8", "yes",
    "a; b", f"{H} a{A}", f"{A} b", H, "x" * 5000, [], {}, [None], [[]], {"": None}, ["a"], [1, 2], {"role": "user"},
    [{}], [{"role": "user", "content": "a"}], [{"role": "assistant", "content": None}], {"content": "a"},
    [{"role": "assistant", "content": [{"type": "text"}]}], {"a": {"b": [{"c": [[[{}]]]}]}}, [[["a"]]], [ASK, ASK],
]  # fmt: skip
"""Values of every kind, few of which are right anywhere."""
KEYS = (
    "", "x", "choosen", "scores", "label", "prompt", "a\nb", "\u202e", "tools", "source", "messages",
    "k" * 200,
)  # fmt: skip
EVEN = st.sampled_from(JUNK)
DEEP = st.recursive(
    EVEN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn, row: Row) -> Row:
    """The row after one to three accidents."""
    made = copy.deepcopy(row)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(made))
        if not known:
            return made
        path = draw(st.sampled_from(known))
        parent, step, value = at(made, path[:-1]), path[-1], at(made, path)
        what = draw(st.sampled_from(["drop", "replace", "deep", "wrap", "twice", "add", "swap", "rename"]))
        if what == "drop":
            del parent[step]
        elif what == "replace":
            parent[step] = copy.deepcopy(draw(EVEN))
        elif what == "deep":
            parent[step] = copy.deepcopy(draw(DEEP))
        elif what == "wrap":
            parent[step] = draw(st.sampled_from([[value], {"content": value}, json.dumps(value)]))
        elif what == "twice" and isinstance(parent, list):
            parent.append(copy.deepcopy(value))
        elif what == "add" and isinstance(value, dict):
            value[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(EVEN))
        elif what == "swap":
            parent[step] = copy.deepcopy(at(made, draw(st.sampled_from(known))))
        elif what == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(KEYS))] = parent.pop(step)
    return made


def with_accidents(value: Any, chance: Random) -> Any:
    """The value after one to three accidents at any depth."""
    made = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        known = list(places(made))
        if not known:
            return made
        path = chance.choice(known)
        parent, step = at(made, path[:-1]), path[-1]
        match chance.choice(("drop", "junk", "junk", "wrap", "swap", "add")):
            case "drop":
                del parent[step]
            case "junk":
                parent[step] = copy.deepcopy(chance.choice(JUNK))
            case "wrap":
                parent[step] = [parent[step]]
            case "swap":
                parent[step] = copy.deepcopy(at(made, chance.choice(known)))
            case _ if isinstance(parent, dict):
                parent[chance.choice(KEYS)] = copy.deepcopy(chance.choice(JUNK))
    return made
