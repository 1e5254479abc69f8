"""A call that does not come to an end is ended, in whatever thread, and no other call is."""

import threading
import time

import pytest
from support.tiny_models import CHATML, char_tokenizer

from trueup.batch import chat
from trueup.batch.chat import render
from trueup.batch.time_limit import _CLOCK, within
from trueup.errors import InputError
from trueup.feedback.records import Message

pytestmark = pytest.mark.slow

FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def loop() -> None:
    while True:
        pass


def test_what_a_call_returns_or_raises_passes_through() -> None:
    assert within(5, lambda: "done") == "done"
    with pytest.raises(KeyError, match="own"):
        within(5, lambda: {}["own"])
    assert not _CLOCK.calls


def test_an_endless_call_is_ended_and_the_next_one_is_not() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not done after 0\.2 seconds"):
        within(0.2, loop)
    assert 0.2 <= time.monotonic() - started < 5
    assert within(5, lambda: sum(range(1000))) == 499500
    assert not _CLOCK.calls


def test_an_endless_call_cannot_swallow_what_ends_it() -> None:
    def stubborn() -> None:
        while True:
            try:
                loop()
            except Exception:
                continue

    with pytest.raises(TimeoutError):
        within(0.2, stubborn)


def test_in_a_thread_that_is_not_the_main_one_too() -> None:
    said: list[str] = []

    def body() -> None:
        try:
            within(0.2, loop)
        except TimeoutError as error:
            said.append(str(error))

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    assert within(5, lambda: thread.join(4)) is None
    assert said == ["not done after 0.2 seconds"]


def test_a_call_that_ends_just_as_its_time_is_up_leaves_nothing_behind() -> None:
    """What was raised too late must not come up in the middle of something else."""
    outcomes = set()
    for number in range(40):
        until = time.monotonic() + 0.05 + number * 0.005

        def busy(until: float = until) -> str:
            while time.monotonic() < until:
                pass
            return "done"

        try:
            outcomes.add(within(0.1, busy))
        except TimeoutError:
            outcomes.add("ended")
        for _ in range(100):
            assert sum(range(100)) == 4950
    assert outcomes == {"done", "ended"}


def test_the_clock_stops_when_nothing_is_under_way() -> None:
    within(5, lambda: None)
    for _ in range(100):
        if _CLOCK.thread is None:
            break
        time.sleep(0.05)
    assert _CLOCK.thread is None
    assert within(5, lambda: 3) == 3


def test_a_template_that_loops_for_ever_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SECONDS", 0.3)
    tokenizer = char_tokenizer(chat_template=FOR_EVER + CHATML)
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        render(tokenizer, [Message("user", "Why?")], [Message("assistant", "So.")])
    assert time.monotonic() - started < 10
    assert str(caught.value) == (
        "the chat template was stopped after 0.3 seconds, still at work on a conversation of user, assistant: it seems "
        "to loop for ever. Mend it, or give another template with --chat-template FILE"
    )
    assert "\n" not in str(caught.value)


def test_a_template_that_calls_itself_for_ever_or_does_not_parse_is_refused() -> None:
    recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    for template in (recursive, "{% for m in messages %}"):
        with pytest.raises(
            InputError, match=r"refuses a conversation of user, assistant: .*--chat-template FILE"
        ):
            render(
                char_tokenizer(chat_template=template), [Message("user", "a")], [Message("assistant", "b")]
            )
