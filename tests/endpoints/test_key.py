"""A key opens doors and appears nowhere."""

import copy
import json
import logging
import time
import traceback
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.key_spellings import SECRET, SPELLED, shown_of_the_key
from support.virtual_time import VirtualTime, post

from trueup.endpoints.client import Endpoint, Refused
from trueup.endpoints.key import Key, redact
from trueup.errors import AnnotatorError, InputError

CANARY = 'canary/7Qx+"<&4711'  # with characters that are written otherwise in URLs, JSON and HTML


def shown(value: Any) -> list[str]:
    """Everything an object says of itself, and its parts too."""
    parts = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ()) if "value" not in name]
    held = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return [repr(value), str(value), *(repr(part) for part in [*parts, *held])]


@pytest.mark.parametrize(
    "reply",
    [
        lambda asked: Reply(401, {"error": {"message": f"Incorrect API key provided: {CANARY}"}}),
        lambda asked: Reply(401, f"no <b>{asked.headers['authorization']}</b>"),
        lambda asked: Reply(400, {"error": {"message": CANARY}}),
        lambda asked: Reply(404, "x" * 88 + CANARY),
        lambda asked: Reply(500, {"error": CANARY}),
        lambda asked: Reply(200, f"<html>{CANARY}"),
        lambda asked: Reply(302, headers={"Location": f"http://user:{'canary'}@h/?key={CANARY[:6]}"}),
        lambda asked: Reply(429, {"error": {"message": CANARY, "type": "insufficient_quota"}}),
        lambda asked: Reply(close=True),
    ],
)
def test_it_is_in_no_message_whatever_the_server_says(
    reply: Callable[[ReceivedRequest], Reply], caplog: pytest.LogCaptureFixture
) -> None:
    """Even the first of its characters, which a message that is cut off might end with."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    key = Key(CANARY, "environment variable TEST_KEY")
    with FaultyServer(reply) as server:
        endpoint = Endpoint(server.url, key=key, timeout=20.0, deadline=20.0, concurrency=2, clock=VirtualTime().clock)
        with pytest.raises((AnnotatorError, Refused)) as raised:
            post(endpoint)
        said += [str(raised.value), repr(raised.value), *traceback.format_exception(raised.value)]
        for number, answer in _answers(endpoint):
            said += [str(number), repr(answer)]
        said += shown(endpoint) + shown(key)
        assert server.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) > 3
    # What a server writes into its headers, the transport logs as it is when it is made to log everything.
    said += [text for text in logged if not text.startswith("receive_response_headers.complete")]
    lines = [line for text in said for line in text.splitlines() if "canary" in line]
    assert lines == []


def _answers(endpoint: Endpoint) -> list[tuple[int, dict[str, Any] | Refused]]:
    try:
        return list(endpoint.each("/x", [{}, {}]))
    except AnnotatorError as error:
        return [(0, Refused(str(error)))]


def test_a_401_names_where_the_key_is_from() -> None:
    with FaultyServer([Reply(401)]) as server:
        origin = "environment variable TEST_KEY"
        for key, said in (
            (Key("abc", origin), f"check the key in {origin}"),
            (Key("", origin), f"no key was sent; put one into {origin}"),
        ):
            with pytest.raises(AnnotatorError) as raised:
                post(Endpoint(server.url, key=key, timeout=60, deadline=60, concurrency=1))
            assert str(raised.value).endswith(f"; {said}")
        assert ["authorization" in asked.headers for asked in server.asked] == [True, False]


def test_it_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f" {CANARY}\n")
    assert Key.from_environment("TEST_KEY").header() == {"Authorization": f"Bearer {CANARY}"}
    monkeypatch.delenv("TEST_KEY")
    empty = Key.from_environment("TEST_KEY")
    assert not empty and empty.header() == {}


def test_what_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "canary\u00e9")
    with pytest.raises(InputError, match="environment variable TEST_KEY holds line breaks or characters") as raised:
        Key.from_environment("TEST_KEY")
    assert "canary" not in str(raised.value)


def test_it_cannot_be_copied_or_handed_to_another_process() -> None:
    key = Key(CANARY)
    for take in (ForkingPickler.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be copied"):
            take(key)
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see http://me:secret@host/v1 now", "see http://***@host/v1 now"),
        ("Authorization: Bearer abcdef123456", "Authorization: ***"),
        ('{"authorization": "Basic c2VjcmV0"}', '{"authorization": "***"}'),
        ("x-api-key=abc123, more", "x-api-key=***, more"),
        ("a bearer abcdef123", "a bearer ***"),
        ("key sk-proj-AbC_123456 is wrong", "key *** is wrong"),
        ("a basic idea, an api key, mail@example.org", "a basic idea, an api key, mail@example.org"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, left: str) -> None:
    assert redact(text) == left


def test_the_key_is_hidden_however_it_is_written() -> None:
    key = Key(CANARY)
    spelled = (
        "canary%2F7Qx%2B%22%3C%264711", 'canary/7Qx+\\"<&4711', "canary/7Qx+&quot;&lt;&amp;4711", CANARY,
    )  # fmt: skip
    assert key.redact(" | ".join(spelled)) == "*** | *** | *** | ***"


@pytest.mark.parametrize("how", SPELLED)
def test_a_key_that_an_answer_repeats_is_hidden(how: str) -> None:
    """In whatever is kept of an answer: texts, keys, lists."""
    told = f"you sent {SPELLED[how]}, did you?"
    hidden = Key(SECRET).hidden_in_json({"choices": [{"text": told, told: 1}], "usage": {"tokens": 3}})
    assert not shown_of_the_key(json.dumps(hidden))
    (choice,) = hidden["choices"]
    assert choice["text"].startswith("you sent ") and choice["text"].endswith(", did you?")
    assert "***" in choice["text"] and set(choice.values()) == {choice["text"], 1}
    assert hidden["usage"] == {"tokens": 3}


@pytest.mark.parametrize("key", ["0000-0000-0000-0000", "sk-" + "aB3_" * 60, "eyJ" + "x9" * 600])
def test_a_key_of_any_length_is_found_at_once(key: str) -> None:
    said = "0" * 20_000 + f" {key} " + "x9" * 9000
    began = time.monotonic()
    assert key not in Key(key).hidden_in(said) and "***" in Key(key).hidden_in(said)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("key", ["EMPTY", "none", "", "token-abc", "averylongwordindeed"])
def test_what_a_model_may_say_by_chance_is_no_secret(key: str) -> None:
    said = f"The list is {key}; {key * 2} Zx9+Sec"
    assert Key(key).hidden_in(said) == said
    assert Key(SECRET).hidden_in(said) == said
