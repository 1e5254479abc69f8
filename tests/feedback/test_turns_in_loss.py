"""The assistant's earlier turns as part of the response: which move, which stay, and what is said of it."""

import pytest

from trueup.display import collected
from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Prompt, Response
from trueup.feedback.turns import every_turn, turns_in_loss

SYSTEM, ASK, AGAIN = Message("system", "Be brief."), Message("user", "Why?"), Message("user", "And?")
SO, NO, YES = (Message("assistant", said) for said in ("So.", "No.", "Yes."))
CALL = Message("assistant", "", {"tool_calls": [{"function": {"name": "add", "arguments": {}}}]})
RESULT = Message("tool", "4")


@pytest.mark.parametrize(
    ("prompt", "responses", "asked", "made"),
    [
        ((SYSTEM, ASK, SO, AGAIN), [(NO,), (YES,)], (SYSTEM, ASK), [(SO, AGAIN, NO), (SO, AGAIN, YES)]),
        ((ASK, SO, AGAIN), ["No."], (ASK,), [(SO, AGAIN, NO)]),
        ((ASK, CALL, RESULT, SO, AGAIN), [(NO,)], (ASK,), [(CALL, RESULT, SO, AGAIN, NO)]),
        ((YES, ASK, SO, AGAIN), [(NO,)], (YES, ASK), [(SO, AGAIN, NO)]),
    ],
    ids=["both sides get the same turns", "text", "calls and results", "an opening stays in the prompt"],
)
def test_the_prompt_ends_before_the_first_answer(
    prompt: Content, responses: list[Content], asked: Content, made: list[Content]
) -> None:
    found = every_turn(Example(Prompt(prompt), tuple(Response(one) for one in responses)))
    assert (found.prompt.content, [one.content for one in found.responses]) == (asked, made)


@pytest.mark.parametrize("prompt", ["Human: Why? Assistant: So. Human: And?", (ASK,), (SYSTEM, ASK, AGAIN), (SO, ASK)])
def test_where_no_earlier_turn_was_asked_for_nothing_changes(prompt: Content) -> None:
    example = Example(Prompt(prompt), (Response("No."),))
    assert every_turn(example) is example


def test_nothing_else_of_the_example_changes() -> None:
    responses = (Response((NO,), score=1.5, source="ann"), Response((YES,), label=0.25, demonstration=True))
    example = Example(
        Prompt((ASK, SO, AGAIN), tools=({"name": "add"},), origin=Origin("a", 7)), responses, (Comparison(0, 1, 0.8),)
    )
    made = every_turn(example)
    assert (made.comparisons, made.origin) == (example.comparisons, example.origin)
    assert made.prompt.tools == example.prompt.tools
    one, other = made.responses
    assert (one.score, one.label, one.demonstration, one.source) == (1.5, None, False, "ann")
    assert (other.score, other.label, other.demonstration, other.source) == (None, 0.25, True, None)


def test_the_last_turns_alone_leave_examples_as_they_are() -> None:
    examples = (Example(Prompt((ASK, SO, AGAIN)), (Response((NO,)),)),)
    with collected() as lines:
        assert turns_in_loss(examples, "last", tell=True) == examples
    assert lines == []


def test_it_is_said_how_many_examples_have_earlier_turns_or_that_none_has() -> None:
    with_turns, without = (
        Example(Prompt((ASK, SO, AGAIN)), (Response("No."),)),
        Example(Prompt((ASK,)), (Response("No."),)),
    )
    text = Example(Prompt("text"), (Response("No."),))
    with collected() as lines:
        made = turns_in_loss([with_turns, without, text], "all", tell=True)
    assert lines == ["turns all: earlier turns of the assistant are learned in 1 of 3 examples"]
    assert made[0].prompt.content == (ASK,)
    assert made[1] is without
    with collected() as lines:
        turns_in_loss([without], "all")
        turns_in_loss([without], "all", tell=True)
    (line,) = lines
    assert line.startswith("turns all changes nothing: no prompt holds an earlier turn of the assistant")
