"""Files of feedback read row by row, for the tests of readers."""

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from trueup.errors import InputError
from trueup.feedback.containers import load, rows_of
from trueup.feedback.read import read_feedback

quiet = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


keys = st.sampled_from(
    ["prompt", "chosen", "rejected", "completion", "label", "messages", "responses", "scores", "comparisons"]
)
"""Keys of the general layouts."""


def json_values(more: st.SearchStrategy[object], inner_keys: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """What JSON holds with these keys in its objects, and something more."""
    return st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | more,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(inner_keys, inner, max_size=3),
        max_leaves=8,
    )


def values(raw: bytes, name: str) -> list[tuple[int, object]]:
    """Number and content of every row of a file that is written here; a bad row raises."""
    Path(name).write_bytes(raw)
    found: list[tuple[int, object]] = []
    for row in rows_of(load(name)):
        if row.error:
            raise InputError(row.error)
        found.append((row.number, row.value))
    return found


def is_read_or_refused(name: str, *, skip_bad: int = 1) -> None:
    """Reading either works or raises InputError with a message of one line."""
    try:
        read_feedback([name], skip_bad=skip_bad)
    except InputError as error:
        assert not {"\n", "\r"} & set(str(error)), str(error)
