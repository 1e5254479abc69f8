"""Scores on every response, in place of what was said before; a number that is none is refused, and whatever is wrong
with a function of the user's is said in one line."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from trueup.annotators.annotator import NO_TEXT, ScoringAnnotator, load_scorer
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.records import Comparison, Content, Discarded, Example, Message, Origin, Prompt, Response


def words(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
    return [float(len(response.split())) for response in responses]


LENGTH = ScoringAnnotator(words, "words")


def test_every_response_is_scored_and_older_judgements_go() -> None:
    judged = Response("a b c", score=-1.0, label=0.25, demonstration=True, source="ann", tokens=(3, 4))
    example = Example(Prompt("p", origin=Origin("a.jsonl", 3)), (Response("a"), judged), (Comparison(1, 0),))
    annotated = LENGTH.annotate([example, Example(Prompt("q"), (Response("x y"),))])
    responses = (Response("a", 1.0), Response("a b c", 3.0, None, True, "ann", (3, 4)))
    assert annotated.examples == (
        Example(Prompt("p", origin=Origin("a.jsonl", 3)), responses), Example(Prompt("q"), (Response("x y", 2.0),)),
    )  # fmt: skip
    assert annotated.totals == {"scores": 3.0}
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
    talk = Prompt((Message("user", "hi"),), origin=(origin := Origin("a.jsonl", 1)))
    annotated = LENGTH.annotate([Example(talk, (Response(turns),)), Example(Prompt("p"), (Response("a"),))])
    assert annotated.examples == (Discarded(NO_TEXT, origin), Example(Prompt("p"), (Response("a", 1.0),)))
    assert annotated.totals == {"scores": 1.0}


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

    for origin, where in ((Origin("a.jsonl", 7), r"a\.jsonl:7: "), (None, "")):
        with pytest.raises(InputError, match=f"^{where}prompt 1: not a prompt of the world$"):
            ScoringAnnotator(scorer, "s").annotate([Example(Prompt("p", origin=origin), (Response("a"),))])


FILE = """
from __future__ import annotations

from dataclasses import dataclass

from beside import FACTOR

@dataclass
class Length:
    value: int

def words(prompt: str, response: str) -> float:
    return FACTOR * Length(len(response.split())).value - len(prompt)

def exact(prompt, response):
    return response == prompt

def last(prompt, response):
    return len(prompt[-1]["content"]) + len(prompt)

def fails(prompt, response):
    if prompt == "two":
        raise ValueError("two
lines")
    return 1

def gives_nothing(prompt, response):
    print(end="")

def gives_nan(prompt, response):
    return float("nan") if prompt == "two" else 0.0

def gives_text(prompt, response):
    return "3.5"

def gives_much(prompt, response):
    return 10 ** 400

NUMBER = 3
""".replace("two\nlines", "two\\nlines")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")
    path = tmp_path / "rewards.py"
    path.write_text(FILE)
    return path


def test_scores_are_what_the_function_returns(file: Path) -> None:
    found = load_scorer(f"{file}:words")(["abc", ""], ["two words", "three words here"])
    assert found == [1.0, 6.0]
    assert load_scorer(f"{file}:exact")(["a", "b"], ["a", "a"]) == [1.0, 0.0]
    assert list(file.parent.glob("rewards*")) == [file]


def test_a_conversation_is_handed_over_as_messages(file: Path) -> None:
    talk = (Message("system", "Be brief."), Message("user", "four"))
    assert load_scorer(f"{file}:last")([talk], ["x"]) == [6.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", "prompt 2, 'two': the function failed: ValueError: two lines (line 23). Mend it"),
        ("gives_nothing", "prompt 1, 'one': the function returned None; it must return a finite number"),
        ("gives_nan", "prompt 2, 'two': the function returned nan; it must return a finite number"),
        ("gives_text", "prompt 1, 'one': the function returned '3.5'; it must return a finite number"),
        ("gives_much", "prompt 1, 'one': the function returned 1000"),
        ("last", "prompt 1, 'one': the function failed: TypeError: string indices must be integers"),
    ],
)
def test_what_is_no_score_names_the_prompt(function: str, message: str, file: Path) -> None:
    scorer = load_scorer(f"{file}:{function}")
    with pytest.raises(InputError) as caught:
        scorer(["one", "two"], ["a", "b"])
    assert str(caught.value).startswith(f"{file}:{function}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rewards.py", "'rewards.py' names no function; give FILE.py:FUNCTION"),
        ("rewards:words", "'rewards:words' names no function"),
        ("rewards.py:", "'rewards.py:' names no function"),
        ("rewards.py:a b", "'rewards.py:a b' names no function"),
        ("reward.py:words", r"reward\.py: no such file; did you mean rewards\.py\?"),
        ("none/reward.py:words", r"none/reward\.py: no such file; the folder none does not exist"),
        ("rewards.py:word", r"rewards\.py has no function word; did you mean 'words'\?"),
        ("rewards.py:zzz", r"rewards\.py has no function zzz; it has dataclass, Length, words, exact"),
        ("rewards.py:NUMBER", r"rewards\.py has no function NUMBER"),
    ],
)
def test_a_function_that_is_not_there_is_refused(
    name: str, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(InputError, match=message):
        load_scorer(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def score(prompt, response)\n    return 1\n", "SyntaxError: expected ':' (line 1)"),
        ("x = 1\n\nimport nothing_of_that_name\n", "ModuleNotFoundError: No module named"),
        ("raise SystemExit\n", "SystemExit (line 1)"),
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (line 2)"),
        ("\0", ""),
    ],
)
def test_a_file_that_cannot_be_run_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rewards.py"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_scorer(f"{path}:score")
    assert str(caught.value).startswith(f"{path} cannot be run: {message}")
    assert str(caught.value).endswith("Mend it")
