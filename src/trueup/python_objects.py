"""What settings name and no file holds: rows and functions of this process, and entry points of installed packages.
Names are `python:LABEL`, and of rows `python:LABEL-HASH`. An object of this process is found as long as it lasts; to
another it is given again. What it does is sealed as the content of a file is."""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from trueup import errors, words

PREFIX = "python:"
METHODS, LAYOUTS, ANNOTATORS = (f"trueup.{name}" for name in ("methods", "layouts", "annotators"))
"""Groups of entry points."""
_held: dict[str, Any] = {}
_identities: dict[str, str] = {}  # of those that judge, as they were given


def hold(label: str, value: Any, *, judges: bool = False) -> str:
    """The name under which a value is found from now on; of one that `judges` what counts is what it is now."""
    name = f"{PREFIX}{label}"
    if _held.get(name) is not value:
        _held[name] = value
        _identities[name] = identity_of(value) if judges else ""
    return name


def held(name: str) -> Any:
    if name in _held:
        return _held[name]
    known, label = entries(ANNOTATORS), name.removeprefix(PREFIX)
    if label not in known:
        raise errors.InputError(
            f"{name} is neither of this process nor of a package{words.did_you_mean(label, known)}; a run that was "
            "begun with an object of Python goes on in that process, or where it is given again: trueup.resume(RUN, "
            "data=..., reward=...)"
        )
    return loaded(known[label])


def content_of(name: str) -> str:
    value = held(name)
    return (_identities.get(name) or identity_of(value))[:16]


def is_of_process(name: str) -> bool:
    return name in _held


def names_in(plain: Any) -> Iterator[str]:
    """The names of objects among plain settings."""
    if isinstance(plain, dict | list):
        for one in plain.values() if isinstance(plain, dict) else plain:
            yield from names_in(one)
    elif isinstance(plain, str) and plain.startswith(PREFIX):
        yield plain.partition("?")[0]


@cache
def entries(group: str) -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=group)}


def package_of(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # the package is somebody's and may raise anything
        raise errors.InputError(
            f"{entry.name} of the package {package_of(entry)} cannot be loaded ({type(error).__name__}: "
            f"{words.one_line(error)}). Mend or remove the package"
        ) from error


def identity_of(function: Any) -> str:
    """Hash of what a function does: of its code, what it holds, and the files of its package, module or script."""
    function = getattr(function, "__wrapped__", function)
    inner = function.func if isinstance(function, partial) else function
    module = sys.modules.get(str(inner.__module__).partition(".")[0])
    file = Path(getattr(module, "__file__", None) or "")
    package = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in package if one.is_file()))
    digest.update(repr(_told(function, [])).encode())
    return digest.hexdigest()


def _told(value: Any, within: list[Any]) -> Any:
    """What decides what a value does, without where in memory it lies."""
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    if any(value is one for one in within):
        return len(within)
    parts: list[Any] = [type(value).__qualname__]
    if isinstance(value, CodeType):
        parts += [value.co_code, value.co_names, *value.co_consts]
    elif isinstance(value, FunctionType):
        parts += [value.__code__, value.__defaults__, value.__kwdefaults__]
        parts += [cell.cell_contents for cell in value.__closure__ or ()]
    elif isinstance(value, partial):
        parts += [value.func, value.args, value.keywords]
    elif isinstance(value, MethodType):
        parts += [value.__func__, value.__self__]
    elif isinstance(value, list | tuple):
        parts += value
    elif isinstance(value, dict):
        parts += value.items()
    elif isinstance(value, set | frozenset):
        parts += sorted(map(repr, value))
    elif len(within) < 2 and not isinstance(value, type | ModuleType):  # further in, there may be anything
        parts += [vars(type(value)).get("__call__"), getattr(value, "__dict__", None)]
    return [parts[0], *(_told(one, [*within, value]) for one in parts[1:])]
