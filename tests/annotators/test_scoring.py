"""Scores on every response, in place of what was said before; a number that is none is refused."""

import math
from collections.abc import Sequence

import pytest

from trueup.annotators.scoring import NO_TEXT, ScoringAnnotator
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Prompt, Response


def words(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
    return [float(len(response.split())) for response in responses]


LENGTH = ScoringAnnotator(words, "words")


def test_every_response_is_scored_and_older_judgements_go() -> None:
    judged = Response("a b c", score=-1.0, label=0.25, demonstration=True, source="ann", tokens=(3, 4))
    example = Example(Prompt("p", origin=Origin("a.jsonl", 3)), (Response("a"), judged), (Comparison(1, 0),))
    annotated = LENGTH.annotate([example, Example(Prompt("q"), (Response("x y"),))])
    assert annotated.examples == (
        Example(
            Prompt("p", origin=Origin("a.jsonl", 3)),
            (Response("a", 1.0), Response("a b c", 3.0, None, True, "ann", (3, 4))),
            (),
        ),
        Example(Prompt("q"), (Response("x y", 2.0),)),
    )
    assert annotated.facts == {"scores": 3.0}
    assert (LENGTH.gives, LENGTH.name) == ("scores", "words")


def test_a_turn_of_the_assistant_is_scored_as_its_text() -> None:
    prompt = (Message("user", "hi"),)
    heard: list[object] = []

    def scorer(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        heard.append((list(prompts), list(responses)))
        return [0.5] * len(responses)

    example = Example(Prompt(prompt), (Response((Message("assistant", "hello"),)), Response("text")))
    (made,) = ScoringAnnotator(scorer, "s").annotate([example]).examples
    assert heard == [([prompt, prompt], ["hello", "text"])]
    assert isinstance(made, Example) and [one.score for one in made.responses] == [0.5, 0.5]
    assert [one.content for one in made.responses] == [one.content for one in example.responses]


@pytest.mark.parametrize(
    "turns",
    [
        (Message("assistant", "a"), Message("assistant", "b")),
        (Message("assistant", "", {"tool_calls": [{"function": {"name": "f"}}]}),),
    ],
)
def test_what_is_no_one_text_is_dropped_and_the_rest_is_scored(turns: tuple[Message, ...]) -> None:
    prompt = (Message("user", "hi"),)
    origin = Origin("a.jsonl", 1)
    examples = [
        Example(Prompt(prompt, origin=origin), (Response(turns),)),
        Example(Prompt("p"), (Response("a"),)),
    ]
    annotated = LENGTH.annotate(examples)
    assert annotated.examples == (Discarded(NO_TEXT, origin), Example(Prompt("p"), (Response("a", 1.0),)))
    assert annotated.facts == {"scores": 1.0}


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_finite_number_is_refused_by_the_name_of_its_example(score: float) -> None:
    annotator = ScoringAnnotator(lambda prompts, responses: [0.0, score], "rm")
    example = Example(Prompt("p", origin=Origin("a.jsonl", 7)), (Response("a"), Response("b")))
    with pytest.raises(AnnotatorError) as caught:
        annotator.annotate([example])
    assert str(caught.value) == (
        f"a.jsonl:7: rm gave response 2 the score {score}, which is not a finite number. Mend the annotator, or leave "
        "the example out"
    )


def test_what_cannot_be_scored_is_named() -> None:
    def scorer(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        raise InputError("prompt 1: not a prompt of the world")

    example = Example(Prompt("p", origin=Origin("a.jsonl", 7)), (Response("a"),))
    with pytest.raises(InputError, match=r"^a\.jsonl:7: prompt 1: not a prompt of the world$"):
        ScoringAnnotator(scorer, "s").annotate([example])
    with pytest.raises(InputError, match=r"^prompt 1: not a prompt of the world$"):
        ScoringAnnotator(scorer, "s").annotate([Example(Prompt("p"), (Response("a"),))])
