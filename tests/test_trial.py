"""Code that may never end is tried in a process of its own."""

import pytest

from trueup.trial import try_in_child


def test_a_call_that_ends_and_one_that_fails() -> None:
    try_in_child("math:sqrt", 4.0, seconds=60)
    with pytest.raises(RuntimeError, match="ValueError: "):
        try_in_child("math:sqrt", -1.0, seconds=60)


def test_a_call_that_does_not_end_is_ended() -> None:
    with pytest.raises(TimeoutError, match="time:sleep took more than"):
        try_in_child("time:sleep", 300, seconds=0.5)


def test_a_process_that_breaks_is_said() -> None:
    with pytest.raises(RuntimeError, match="the process ended with 3"):
        try_in_child("os:_exit", 3, seconds=60)
