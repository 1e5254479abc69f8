"""What was written and what was there already, as one example of each prompt."""

from dataclasses import replace

import pytest

from trueup.feedback.records import Comparison, Example, Message, Origin, Prompt, Response
from trueup.gathering.candidates import best_of, best_of_each, put_together
from trueup.gathering.writing import Written
from trueup.sampling.sampler import Sampled


def wrote(name: str, *texts: tuple[str, ...]) -> Written:
    """What one model wrote to each prompt; the ids of a text are its length."""
    return Written(
        name,
        tuple(
            tuple(Sampled(text, (len(text),), None, True, name, 0) for text in several) for several in texts
        ),
    )


PROMPTS = (
    Prompt("p", origin=Origin("a.jsonl", 1)),
    Prompt("q", origin=Origin("a.jsonl", 2)),
    Prompt("r", origin=Origin("b.jsonl", 1)),
)


def test_models_one_after_the_other_and_what_is_the_same_once(told: list[str]) -> None:
    made = put_together(
        PROMPTS,
        [wrote("A", ("x", "y"), ("x", "x"), ("z", "")), wrote("B", ("y", "w"), ("v", "x"), (" ", "z"))],
    )
    assert [(one.prompt.content, str(one.origin)) for one in made] == [
        ("p", "a.jsonl:1"), ("q", "a.jsonl:2"), ("r", "b.jsonl:1"),
    ]  # fmt: skip
    assert [[(one.content, one.source, one.tokens) for one in example.responses] for example in made] == [
        [("x", "A", (1,)), ("y", "A", (1,)), ("w", "B", (1,))],
        [("x", "A", (1,)), ("v", "B", (1,))],
        [("z", "A", (1,))],
    ]
    assert told == ["responses left out: 4 that another response to the prompt repeats, 2 empty"]


def test_without_token_ids() -> None:
    (example,) = put_together(PROMPTS[:1], [wrote("A", ("x",))], with_tokens=False)
    assert example.responses == (Response("x", source="A"),)


def test_prompts_without_a_response_are_named(told: list[str]) -> None:
    made = put_together(PROMPTS, [wrote("A", (), ("",), ("x",))])
    assert [one.prompt.content for one in made] == ["r"]
    assert told[-1] == (
        "2 prompts left out, without a response (a.jsonl rows 1, 2): too long, or every response was empty"
    )


def test_what_the_data_hold_comes_first_with_all_that_is_said_of_it(told: list[str]) -> None:
    also = [
        Example(
            Prompt("p"), (Response("x", score=1.0), Response("old", label=0.5)), (Comparison(0, 1, 0.75),)
        ),
        Example(Prompt("p"), (Response("x", score=2.0), Response("older", source="ann"))),
        Example(Prompt("q"), (Response("only"),)),
    ]
    made = put_together(PROMPTS, [wrote("A", ("x", "y"), (), ())], also)
    assert made[0] == Example(
        Prompt("p", origin=Origin("a.jsonl", 1)),
        (
            Response("x", score=1.5),
            Response("old", label=0.5),
            Response("older", source="ann"),
            Response("y", source="A", tokens=(1,)),
        ),
        (Comparison(0, 1, 0.75),),
    )
    assert made[1].responses == (Response("only"),)
    assert told[0] == "4 responses of the data kept beside them (--no-merge leaves them out)"
    assert told[1] == "responses left out: 1 that another response to the prompt repeats"


def test_a_conversation_gets_turns_of_the_assistant(told: list[str]) -> None:
    """So that what a model wrote and what the data hold are told to be the same."""
    talk = (Message("user", "hi"),)
    tools = ({"type": "function", "function": {"name": "add"}},)
    also = [Example(Prompt(talk, tools=tools), (Response((Message("assistant", "x"),)),))]
    prompts = [Prompt(talk, tools=tools), Prompt(talk)]
    made = put_together(prompts, [wrote("A", ("x", "y"), ("x",))], also)
    assert [[one.content for one in example.responses] for example in made] == [
        [(Message("assistant", "x"),), (Message("assistant", "y"),)],
        [(Message("assistant", "x"),)],
    ]
    assert [example.prompt.tools for example in made] == [tools, ()]
    assert told[1:] == ["responses left out: 1 that another response to the prompt repeats"]


def judged(*scores: float | None, by: tuple[Comparison, ...] = ()) -> Example:
    return Example(Prompt("p"), tuple(Response(f"r{at}", score) for at, score in enumerate(scores)), by)


@pytest.mark.parametrize(
    ("example", "best", "score"),
    [
        (judged(0.5, 2.0, 1.0), "r1", 2.0),
        (judged(1.0, 2.0, 2.0), "r1", 2.0),
        (judged(None, -2.0), "r1", -2.0),
        (judged(None, None, by=(Comparison(1, 0, 0.75),)), "r1", 0.75),
        # A beats B surely and ties with C; C beats B by little: (1 + 1/2) / 2.
        (judged(None, None, None, by=(Comparison(0, 1), Comparison(2, 1, 0.6))), "r0", 0.75),
        # r2 was never told apart from the others, which beat each other in a circle of unequal strength.
        (judged(*[None] * 4, by=(Comparison(0, 1, 0.9), Comparison(1, 3, 0.6))), "r0", (0.9 + 0.5 + 0.5) / 3),
    ],
)
def test_the_best(example: Example, best: str, score: float) -> None:
    made = best_of(example)
    assert isinstance(made, Example)
    assert made.comparisons == () and made.prompt == Prompt("p")
    assert [(one.content, one.score) for one in made.responses] == [(best, pytest.approx(score))]


def test_where_nothing_is_best(told: list[str]) -> None:
    alone = replace(judged(None, None), prompt=Prompt("q", origin=Origin("a.jsonl", 4)))
    assert best_of_each([judged(1.0), alone]) == (judged(1.0),)
    assert told == ["1 prompt left out: nothing says which response is best (a.jsonl:4)"]
