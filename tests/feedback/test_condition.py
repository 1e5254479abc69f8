"""A condition is the same text in training and at inference, and survives the way through a file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusals import refused

from trueup.feedback.condition import FILE, Condition, read_condition
from trueup.feedback.records import Content, Message, Origin, Prompt


def applied(condition: Condition, content: Content, *reward: float) -> Content:
    made = condition.applied(Prompt(content, ({"name": "add"},), Origin("a", 1)), *reward)
    assert (made.tools, made.origin) == (({"name": "add"},), Origin("a", 1))
    return made.content


PAPER = Condition(" <rm_score>: {reward} ", 1, "end", reward=2.0)


@pytest.mark.parametrize(
    "decimals, reward, words",
    [
        (1, 2.04, " <rm_score>: 2.0 "),
        (2, 2.04, " <rm_score>: 2.04 "),
        (0, -0.4, " <rm_score>: 0 "),
        (1, -0.04, " <rm_score>: 0.0 "),
        (0, -1.6, " <rm_score>: -2 "),
    ],
)
def test_the_number_is_written_as_told(decimals: int, reward: float, words: str) -> None:
    assert Condition(PAPER.text, decimals, "end", 0.0).words(reward) == words


def test_text_prompts() -> None:
    assert applied(PAPER, "2 + 2 =") == "2 + 2 = <rm_score>: 2.0 "
    assert applied(PAPER, "2 + 2 =", -1.0) == "2 + 2 = <rm_score>: -1.0 "
    start = Condition("[{reward}] ", 1, "start", reward=2.0)
    assert applied(start, "2 + 2 =") == "[2.0] 2 + 2 ="


def test_a_prompt_that_spells_the_placeholder_stays_as_it_is() -> None:
    assert applied(PAPER, "what is {reward}?") == "what is {reward}? <rm_score>: 2.0 "


def test_conversations() -> None:
    system, ask, answer, more = (
        Message("system", "Be brief."), Message("user", "2 + 2 =", {"name": "ann"}),
        Message("assistant", "4"), Message("user", "and 3?"),
    )  # fmt: skip
    talk = (system, ask, answer, more)
    assert applied(PAPER, talk) == (*talk[:3], Message("user", "and 3? <rm_score>: 2.0"))
    start = Condition("[{reward}] ", 1, "start", reward=2.0)
    assert applied(start, talk) == (system, Message("user", "[2.0] 2 + 2 =", {"name": "ann"}), answer, more)
    with refused("a system message alone"):
        applied(PAPER, (system,))


@given(
    st.builds(
        Condition,
        st.sampled_from(["{reward}", " \u00e9 {reward}\n", '"{reward}"']),
        st.integers(0, 6),
        st.sampled_from(["start", "end"]),
        *[st.floats(-1e6, 1e6)] * 4,
    )
)
def test_it_survives_its_file(tmp_path_factory: Any, condition: Condition) -> None:
    folder = tmp_path_factory.mktemp("model")
    condition.save(folder)
    assert read_condition(folder) == condition


@pytest.mark.parametrize(
    "change, message",
    [
        ({"text": "no place"}, r"holds \{reward\} once"),
        ({"text": "{reward} {reward}"}, r"holds \{reward\} once"),
        ({"position": "middle"}, "stands at the start or end"),
        ({"decimals": "1"}, "decimals is '1'"),
        ({"reward": True}, "reward is True"),
        ({"more": 1}, "unknown key 'more'"),
        ({"text": None}, "text is None"),
        ({"decimals": 1.0}, "decimals is 1.0"),
        ({"decimals": 10**9}, "a number cannot have 1000000000 decimals"),
        ({"reward": 10**400}, "int too large"),
        ({"text": [9] * 999}, r"text is \[9, 9, .{0,90}\. Restore"),
        ("[" * 9999, "recursion"),
        ("", ""),
        ("[]", "not a JSON object"),
        ('{"text": "{reward}"}', "missing"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict[str, Any] | str, message: str) -> None:
    written = json.dumps(asdict(PAPER) | change) if isinstance(change, dict) else change
    (tmp_path / FILE).write_bytes(written.encode("utf-8", "surrogateescape"))
    with refused(r"condition\.json: the condition this model was trained with cannot be read: .*" + message):
        read_condition(tmp_path)
