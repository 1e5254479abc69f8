"""A sound row of every layout, and what can go wrong with one."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from support import framework_rows
from support.dataset_rows import ROWS

Row = dict[str, Any]
Path = tuple[str | int, ...]

ASK = {"role": "user", "content": "2 + 2 ="}
RIGHT = {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}
CALLING: Row = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}],
}
H, A = "\n\nHuman:", "\n\nAssistant:"

GENERAL: list[Row] = [
    {
        "prompt": "2 + 2 =",
        "responses": [
            {"content": "4", "score": 1.5, "label": 0.75, "source": "ann", "demonstration": True},
            {"content": "5", "score": None, "label": False},
        ],
        "comparisons": [{"better": 0, "worse": 1, "probability": 0.8}],
    },
    {"prompt": [ASK], "responses": [{"content": [RIGHT]}, {"content": "5"}], "tools": [{"name": "add"}]},
    {"prompt": "p", "responses": ["a", "b"], "scores": [1, 0.5], "sources": ["ann", None]},
    {"query": "p", "responses": ["a", "b"], "scores": [1, 0.5]},
    {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5", "score_chosen": 8, "source": "ann"},
    {"prompt": [ASK], "chosen": [ASK, RIGHT], "rejected": [ASK, WRONG], "tools": [{"name": "add"}]},
    {"chosen": f"{H} 2 + 2 ={A} 4", "rejected": f"{H} 2 + 2 ={A} 5"},
    {"chosen": [ASK, RIGHT], "rejected": [ASK, WRONG]},
    {"prompt": "p", "completion": "a", "label": True},
    {"prompt": "p", "completion": "a"},
    {"prompt": [ASK], "completion": [RIGHT]},
    {"prompt": [ASK], "completion": "4", "reward": -0.5, "system": "Be short."},
    {"messages": [ASK, RIGHT], "label": 0.5},
    {"messages": [ASK, RIGHT], "rating": 4},
    {"messages": [ASK, CALLING, {"role": "tool", "content": "4", "name": "add"}, RIGHT], "tools": "[]"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2 ="}]}, RIGHT]},
]
SOUND: list[Row] = [*GENERAL, *ROWS.values(), *(row for _, row, _ in framework_rows.CASES)]
"""One row or more of every layout."""


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
    "",
    "x",
    "choosen",
    "scores",
    "label",
    "prompt",
    "a\nb",
    "\u202e",
    "tools",
    "source",
    "messages",
    "k" * 200,
)
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
