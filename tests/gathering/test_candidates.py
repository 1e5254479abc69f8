"""Samples of several models, kept piece by piece, as one example of each prompt with what was there already."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from support.gathering_work import work_at

from trueup.errors import AnnotatorError
from trueup.feedback.records import Comparison, Example, Message, Origin, Prompt, Response
from trueup.gathering import candidates
from trueup.gathering.candidates import Writer, Written, best_of, best_of_each, lengths, put_together, write_responses
from trueup.sampling.sampler import Sampled, Sampler, SamplingWeights

ASKED = [Prompt(f"p{number}") for number in range(10)]


class Dice:
    """Writes numbers that depend on the seed and the whole call, as a sampler may."""

    def __init__(self, name: str, log: list[tuple[str, int]], text: str = "") -> None:
        self.name, self.log, self.text = name, log, text
        self.weights = SamplingWeights(None, keeps=False)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        self.log.append((self.name, len(prompts)))
        chance = Random(f"{seed} {[prompt.content for prompt in prompts]}")
        made = []
        for prompt in prompts:
            texts = [self.text or str(chance.random()) for _ in range(0 if prompt.content == "p3" else responses)]
            made.append(tuple(Sampled(text, (1, 2), (0.5, 0.25), text < "0.5", self.name, 0) for text in texts))
        return made


class Models:
    """Two models, of which one is loaded at a time."""

    def __init__(self, text: str = "") -> None:
        self.log: list[tuple[str, int]] = []
        self.loaded = 0
        self.text = text

    def writers(self) -> list[Writer]:
        return [Writer(name, lambda name=name: self._load(name), name) for name in "AB"]  # type: ignore[misc]

    @contextmanager
    def _load(self, name: str) -> Iterator[Sampler]:
        assert not self.loaded
        self.loaded += 1
        try:
            yield Dice(name, self.log, self.text)
        finally:
            self.loaded -= 1


@pytest.fixture(autouse=True)
def three_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "CHUNK", 3)


def written(output: Path, models: Models, seed: int = 0) -> list[Written]:
    with work_at(output) as work:
        return [write_responses(ASKED, one, work, responses=2, seed=seed) for one in models.writers()]


def test_every_model_writes_to_every_prompt(tmp_path: Path) -> None:
    models = Models()
    found = written(tmp_path / "a", models)
    assert models.log == [(name, size) for name in "AB" for size in (3, 3, 3, 1)]
    for one in found:
        assert [len(several) for several in one] == [2, 2, 2, 0, 2, 2, 2, 2, 2, 2]
    texts = [sampled.text for one in found for several in one for sampled in several]
    assert len(set(texts)) == len(texts) == 36  # pieces and models have seeds of their own
    sampled = found[0][0][0]
    assert (sampled.ids, sampled.log_probs, sampled.ended) == ((1, 2), None, sampled.text < "0.5")
    assert written(tmp_path / "b", Models()) == found
    others = written(tmp_path / "c", Models(), seed=2)
    assert not {*texts} & {sampled.text for one in others for several in one for sampled in several}


def test_nothing_but_empty_responses(tmp_path: Path) -> None:
    with pytest.raises(AnnotatorError) as caught:
        written(tmp_path / "a", Models(text=" \n"))
    assert str(caught.value) == (
        "A: all 6 responses to 3 prompts are empty. Look at --stop and at the chat template, and whether the prompts "
        "are of the form the model was trained on"
    )


def test_the_line_on_what_was_written() -> None:
    def sampled(text: str, ended: bool) -> Sampled:
        return Sampled(text, None, None, ended, "A", 0)

    assert lengths([(sampled("a b c", True), sampled("d", False)), ()]) == (
        "2 responses to 2 prompts, 2.0 words on average; 1 ran out of tokens (--max-new-tokens) and have no end"
    )
    assert lengths([(sampled("a", True),)]) == "1 response to 1 prompt, 1.0 words on average"
    assert lengths([(), ()]) == "no responses, as no prompt leaves room for one"


def wrote(name: str, *texts: tuple[str, ...]) -> Written:
    """What one model wrote to each prompt; the ids of a text are its length."""
    made = ([Sampled(text, (len(text),), None, True, name, 0) for text in several] for several in texts)
    return list(map(tuple, made))


PROMPTS = tuple(
    Prompt(text, origin=Origin(f"{file}.jsonl", row))
    for text, file, row in (("p", "a", 1), ("q", "a", 2), ("r", "b", 1))
)


def test_models_one_after_the_other_and_what_is_the_same_once(told: list[str]) -> None:
    made = put_together(
        PROMPTS, [wrote("A", ("x", "y"), ("x", "x"), ("z", "")), wrote("B", ("y", "w"), ("v", "x"), (" ", "z"))]
    )
    assert [(one.prompt.content, str(one.origin)) for one in made] == [
        ("p", "a.jsonl:1"), ("q", "a.jsonl:2"), ("r", "b.jsonl:1"),
    ]  # fmt: skip
    assert [[(one.content, one.source, one.tokens) for one in example.responses] for example in made] == [
        [("x", "A", (1,)), ("y", "A", (1,)), ("w", "B", (1,))],
        [("x", "A", (1,)), ("v", "B", (1,))],
        [("z", "A", (1,))],
    ]
    bare = put_together(PROMPTS[:1], [wrote("A", ("x",))], with_tokens=False)
    assert bare[0].responses == (Response("x", source="A"),)
    assert told == ["responses left out: 4 that another response to the prompt repeats, 2 empty"]


def test_prompts_without_a_response_are_named(told: list[str]) -> None:
    made = put_together(PROMPTS, [wrote("A", (), ("",), ("x",))])
    assert [one.prompt.content for one in made] == ["r"]
    assert told[-1] == (
        "2 prompts left out, without a response (a.jsonl rows 1, 2): too long, or every response was empty"
    )


def test_what_the_data_hold_comes_first_with_all_that_is_said_of_it(told: list[str]) -> None:
    also = [
        Example(Prompt("p"), (Response("x", score=1.0), Response("old", label=0.5)), (Comparison(0, 1, 0.75),)),
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
    assert told[0] == "4 responses of the data kept beside them (--no-keep-responses leaves them out)"
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
