"""The settings that say how a user's tables are to be read: `columns` and `values`."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from trueup.settings.schema import UNFIT, Role
from trueup.words import did_you_mean

NAMES = (
    *("prompt", "response", "chosen", "rejected", "label", "score", "system", "messages"),
    *("completion", "tools", "source"),
)
"""What a column can be."""


def _written(given: Any) -> Any:
    """A mapping, as YAML has it, or one text, as texts with an equals sign each."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={_one(value)}" for name, value in given.items())
    return (given,) if isinstance(given, str) else given


def _one(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _columns(pairs: tuple[str, ...]) -> tuple[str, ...]:
    taken: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            _refuse(f"must say what a column is, as in prompt=user_message; got {pair!r}")
        if ours not in NAMES:
            near = did_you_mean(ours, NAMES)
            _refuse(f"{pair!r}: {ours!r} is none of {', '.join(NAMES)}{near}; the column's name stands last")
        if ours in taken or theirs in taken.values():
            _refuse(f"{pair!r}: {ours if ours in taken else theirs!r} is given twice")
        taken[ours] = theirs
    return pairs


def _values(pairs: tuple[str, ...]) -> tuple[str, ...]:
    taken: dict[str, object] = {}
    for pair in pairs:
        name, equals, meaning = pair.rpartition("=")
        try:
            meant = json.loads(meaning.lower())
        except ValueError:
            meant = None
        sound = isinstance(meant, bool | int | float) and math.isfinite(meant)
        if not equals or not name or not sound:
            _refuse(f"must say which value is good, as in thumbs_up=true thumbs_down=false; got {pair!r}")
        key = name.strip().lower()
        if taken.setdefault(key, meant) != meant:
            _refuse(f"{name!r} is given twice, with two meanings")
    return pairs


def _refuse(why: str) -> None:
    raise PydanticCustomError(UNFIT, "{why}", {"why": why})


ROLE = Role(affects="examples", pairs=True)
Columns = Annotated[
    tuple[str, ...],
    BeforeValidator(_written),
    AfterValidator(_columns),
    ROLE,
    Field(
        description="What the columns of a table of your own are, as in prompt=user_message response=bot_reply "
        "label=feedback; also chosen, rejected, score, system and messages."
    ),
]
"""`prompt=user_message`, ...: our name, and that of the column."""
Values = Annotated[
    tuple[str, ...],
    BeforeValidator(_written),
    AfterValidator(_values),
    ROLE,
    Field(description="What the values of its labels mean, as in thumbs_up=true thumbs_down=false."),
]
"""`thumbs_up=true`, ...: the value of a label or a score, and what it means."""
