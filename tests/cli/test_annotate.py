"""`trueup annotate`: any feedback judged by any annotator, or its chosen responses rewritten."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import pair, write
from support.faulty_server import FaultyServer, ReceivedRequest, Reply, chat
from support.judge_answers import first_with, said, shown
from support.small_runs import command, in_child
from support.tiny_reward_models import save_reward

from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

Captured = pytest.CaptureFixture[str]
FUNCTIONS = """
import os, pathlib, signal

def words(prompt, response):
    if prompt == "p200" and pathlib.Path("stop").exists():
        pathlib.Path("stop").unlink()
        os.kill(os.getpid(), signal.SIGTERM)
    return len(response.split())

def nan(prompt, response):
    return float("nan")

def shorter(prompt, first, second):
    return 0.5 if len(first) == len(second) else 0.9 if len(first) < len(second) else 0.3

def much(prompt, first, second):
    return 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: pairs, of which one is no pair, and functions."""
    texts = (("one two three", "one"), ("yes", "oh no"), ("same", "same"))
    write(tmp_path / "pairs.jsonl", [pair(f"p{at}", *two) for at, two in enumerate(texts, start=1)])
    (tmp_path / "rewards.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


def judge(*more: object, data: object = "pairs.jsonl", by: str = "rewards.py:words", output: str = "out.jsonl") -> int:
    return command("annotate", data, "--annotator", by, "--output", output, *more)


def endpoint_of(server: FaultyServer) -> tuple[str, ...]:
    return "--annotator.base_url", server.url, "--annotator.model", "big"


def read(name: str = "out.jsonl") -> tuple[Example, ...]:
    return read_feedback([name]).examples


def test_a_function_scores_every_response(folder: Path, capsys: Captured) -> None:
    assert judge() == 0
    examples = read()
    assert [[one.score for one in example.responses] for example in examples] == [[3, 1], [1, 2], [1, 1]]
    assert not any(example.comparisons for example in examples)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[:1] == ["pairs.jsonl: TRL pairs, 3 rows, 3 comparisons"]
    assert said.err.splitlines()[-4:] == [
        "6 scores: mean 1.5, standard deviation 0.7638, from 1 to 3",
        "ties: 1 of 3 pairs of responses to one prompt have equal scores",
        "agrees with the judgements given on 0.500 +- 0.500 of 2 pairs that both order",
        "3 examples written to out.jsonl",
    ]
    assert sorted(path.name for path in folder.glob("*out*")) == ["out.jsonl"]


def test_what_a_jury_leaves_undecided_is_for_people(folder: Path, capsys: Captured) -> None:
    """Whole examples, of which nothing was decided, and single pairs; even where no example has a comparison."""
    texts = {"q": ("a b c", "long", "very long one"), "r": ("some words", "one")}
    rows = [{"prompt": key, "responses": [{"content": one} for one in own]} for key, own in texts.items()]
    write(folder / "three.jsonl", rows)
    jury = ("--annotator.of", "rewards.py:words", "--annotator.of", "comparing:rewards.py:shorter")
    assert judge(*jury, "--annotator.agreement", "1", data="three.jsonl", by="jury") == 2
    assert "2 examples that the judges do not agree on written to out.undecided" in capsys.readouterr().err
    assert [len(one.responses) for one in read("out.undecided.jsonl")] == [3, 2]
    jury += ("--annotator.of", "rewards.py:letter", "--annotator.agreement", "0.6")
    (folder / "rewards.py").write_text(f"{FUNCTIONS}def letter(prompt, response):\n    return 'v' in response\n")
    assert judge(*jury, data="three.jsonl", by="jury", output="more.jsonl") == 0
    (decided,) = read("more.jsonl")
    assert [(one.better, one.worse) for one in decided.comparisons] == [(2, 1)]
    left = [[said.content for said in one.responses] for one in read("more.undecided.jsonl")]
    assert left == [["a b c", "long"], ["a b c", "very long one"], ["some words", "one"]]


def test_a_function_compares_in_both_orders(folder: Path, capsys: Captured) -> None:
    assert judge(by="comparing:rewards.py:shorter") == 0
    found = [[(one.better, one.worse, one.probability) for one in made.comparisons] for made in read()]
    assert [one[:2] for made in found for one in made] == [(1, 0), (0, 1)]
    assert [one[2] for made in found for one in made] == pytest.approx([0.8, 0.8])
    assert "1 for fewer than two different responses (pairs.jsonl:3)" in capsys.readouterr().err
    (folder / "first.py").write_text("def first(prompt, one, other):\n    return 1\n")
    assert judge(by="comparing:first.py:first", output="first.jsonl") == 2
    assert "on 2 of 2 pairs the place decides, not the response" in capsys.readouterr().err
    for by, message in {
        "comparing:rewards.py:much": "'p1': the function returned 2; it must return a number from 0 to 1",
        "comparing:rewards.py:words": "a prompt and two responses: too many positional arguments. Define "
        "words(prompt, first, second), or give it as rewards.py:words",
        "rewards.py:shorter": "missing a required argument: 'second'. Define shorter(prompt, response), or give it as "
        "comparing:rewards.py:shorter",
    }.items():
        assert judge(by=by, output="other.jsonl") == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_a_reward_model_that_is_no_better_than_chance(folder: Path, capsys: Captured) -> None:
    """Is warned of by whatever uses it; what is damaged of its record says nothing."""
    reward = save_reward(folder / "reward")
    seen = f"warning: reward model {reward} orders 17% of its held-out pairs rightly, chance is 50%; what is made"
    known = {"accuracy": 0.17, "measured_on": "held-out"}
    good: dict[str, object] = {"accuracy": 0.8, "accuracy ": 0.1}
    damaged = ("", "[]", "[" * 9999, '{"accuracy": NaN, "measured_on": 1}', f'{{"accuracy": 1{"0" * 400}}}')
    for record in (json.dumps(known), json.dumps(known | good), *damaged, json.dumps(known)[:-9]):
        (reward / "reward.json").write_text(record)
        assert judge("--overwrite", by=f"reward:{reward}") == 0
        warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert len(warned) == (record == json.dumps(known)) and all(line.startswith(seen) for line in warned)


def longer(asked: ReceivedRequest) -> dict[str, Any]:
    first, second = (len(text) for text in shown(asked))
    return first_with(0.5 if first == second else 0.95 if first > second else 0.15)


def test_an_endpoint_compares_in_both_orders(folder: Path, capsys: Captured) -> None:
    with FaultyServer(longer) as server:
        endpoint = endpoint_of(server)
        assert judge(*endpoint, by="openai") == 0
        assert len(server.asked) == 4
        examples = read()
        found = [[(one.better, one.worse) for one in made.comparisons] for made in examples]
        assert found == [[(0, 1)], [(1, 0)]]
        assert [made.comparisons[0].probability for made in examples] == pytest.approx([0.9, 0.9])
        said = capsys.readouterr().err
        assert "position bias: the response shown first has probability 0.550 on average, where 0.5 is fair" in said
        assert "1 example left out: 1 for fewer than two different responses (pairs.jsonl:3)" in said
        assert "agrees with the judgements given on 0.500 +- 0.500 of 2 pairs that both order" in said
        assert judge(*endpoint, by="openai", output="again.jsonl") == 0
        assert len(server.asked) == 4 and "0 requests, 4 from the cache" in capsys.readouterr().err
    assert Path("again.jsonl").read_bytes() == Path("out.jsonl").read_bytes()


def test_of_two_addresses_one_that_ends_is_left_out_and_nothing_is_lost(folder: Path, capsys: Captured) -> None:
    rows = [{"prompt": f"p{at}", "chosen": f"longer {at}", "rejected": f"no {at}"} for at in range(40)]
    write(folder / "many.jsonl", rows)
    answered: list[Any] = []

    def ends(request: ReceivedRequest) -> Any:
        return Reply(503, {"error": "gone"}) if len(first.asked) > 10 else noted(request)

    def noted(request: ReceivedRequest) -> Any:
        answered.append(json.dumps(request.body["messages"]))
        return longer(request)

    with FaultyServer(ends) as first, FaultyServer(noted) as second:
        options = ("--annotator.base_url", first.url, second.url, "--annotator.model", "big")
        assert judge(*options, data="many.jsonl", by="openai") == 0
    assert len(read()) == 40
    assert len(answered) == len({*answered}) == 80
    said = capsys.readouterr().err
    assert f"{first.address.partition('//')[2]}/v1" in said and "left out" in said


THINKS = "<think>Both fine.</think>"


REFUSED = {
    "max_tokens": "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "temperature": "'temperature' does not support 0 with this model. Only the default (1) value is supported.",
    "top_logprobs": "top_logprobs must be between 0 and 5",
}


def newer(body: dict[str, Any], verdict: dict[str, Any]) -> Any:
    """Takes only what OpenAI's newer models take, and gives the log-probabilities of 5 tokens."""
    for name, message in REFUSED.items():
        if name in body and body[name] != 5:
            return Reply(400, {"error": {"message": message, "param": name}})
    return verdict


def thinking(body: dict[str, Any], verdict: dict[str, Any]) -> Any:
    words = THINKS + verdict["choices"][0]["message"]["content"]
    return said(THINKS[:9], "length") if body["max_tokens"] < 200 else said(words)


def constrained(body: dict[str, Any], verdict: dict[str, Any]) -> Any:
    """Constrains an answer by a choice list alone, without which it says nothing of use."""
    if "response_format" in body:
        return Reply(400, {"error": {"message": "response_format is not supported"}})
    answer = verdict["choices"][0]["message"]["content"]
    return said(answer if "structured_outputs" in body else "Well.")


@pytest.mark.parametrize(
    ("judging", "more", "sure", "told", "last"),
    [
        (newer, (), 0.9, "takes max_completion_tokens in place of max_tokens",
         {"top_logprobs": 5, "temperature": None}),
        (thinking, (), 1.0, "is given 4096 tokens for an answer", {"max_tokens": 4096}),
        (thinking, ("--annotator.max_answer_tokens", 300), 1.0, "verdicts are read from its answers",
         {"max_tokens": 300}),
        (constrained, (), 1.0, "constrained by structured_outputs", {"structured_outputs": {"choice": ["1", "2"]}}),
    ],
)  # fmt: skip
def test_a_judge_is_asked_with_what_it_takes(
    judging: Any, more: tuple[Any, ...], sure: float, told: str, last: dict[str, Any], folder: Path,
    capsys: Captured,
) -> None:  # fmt: skip
    with FaultyServer(lambda asked: judging(asked.body, longer(asked))) as server:
        assert judge(*endpoint_of(server), *more, by="openai") == 0
    examples = read()
    found = [[(one.better, one.worse) for one in made.comparisons] for made in examples]
    assert found == [[(0, 1)], [(1, 0)]]
    assert [made.comparisons[0].probability for made in examples] == pytest.approx([sure, sure])
    assert told in capsys.readouterr().err
    body = server.asked[-1].body
    assert {name: body.get(name) for name in last} == last


def test_an_endpoint_that_fails_loses_no_judgement(folder: Path, capsys: Captured) -> None:
    """Exit code 6 and one line; a second call goes on, and asks only for what is missing."""
    rows = [{"prompt": f"p{at}", "chosen": f"longer {at}", "rejected": f"no {at}"} for at in range(70)]
    write(folder / "many.jsonl", rows)
    down = True

    def reply(asked: ReceivedRequest) -> Any:
        return Reply(401, {"error": "no"}) if down and "p66" in asked.text else longer(asked)

    with FaultyServer(reply) as server:
        endpoint = (*endpoint_of(server), "--annotator.cache", "false")
        assert judge(*endpoint, data="many.jsonl", by="openai") == 6
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("trueup: ") and "OPENAI_API_KEY" in error
        assert error.endswith("What is done is kept in out.jsonl.part, and the same command goes on from there")
        asked, down = len(server.asked), False
        assert judge(*endpoint, "--annotator.concurrency", 3, data="many.jsonl", by="openai") == 0
        assert len(server.asked) - asked == 12
    assert len(read()) == 70


def test_a_process_that_is_asked_to_stop_ends_the_piece_at_hand(folder: Path) -> None:
    """The fourth piece is the last one, so the signal comes in the third."""
    rows = [{"prompt": f"p{70 + at}", "chosen": "a b", "rejected": f"c {at}"} for at in range(230)]
    write(folder / "many.jsonl", rows)
    (folder / "stop").touch()
    errors = folder / "errors.txt"
    assert in_child(lambda: judge(data="many.jsonl"), errors) == 143
    assert errors.read_text().splitlines()[-1] == ("stopped by SIGTERM; the same command goes on from out.jsonl.part")
    assert not Path("out.jsonl").exists() and len(Path("out.jsonl.part").read_text().splitlines()) == 1 + 3
    assert judge(data="many.jsonl") == 0
    assert len(read()) == 230


def test_a_model_in_this_process(folder: Path, tiny_model: Path) -> None:
    """Log-likelihoods are below 0, and the same each time."""
    for output in ("out.jsonl", "again.jsonl"):
        assert judge(by=f"likelihood:{tiny_model}", output=output) == 0
    scores = [one.score for example in read() for one in example.responses]
    assert all(score is not None and -20 < score < 0 for score in scores)
    assert len(set(scores)) > 3 and Path("again.jsonl").read_bytes() == Path("out.jsonl").read_bytes()


def test_chosen_responses_rewritten(folder: Path, capsys: Captured) -> None:
    from trueup.feedback.views import apply, points_with_demonstrations

    def reply(asked: ReceivedRequest) -> Reply:
        return chat(f"Better: {asked.body['messages'][-1]['content']}")

    with FaultyServer(reply) as server:
        endpoint = endpoint_of(server)
        assert judge(*endpoint, "--rewrite", by="openai", output="golden.jsonl") == 0
        assert judge(
            *endpoint, "--rewrite", "--rewrite-template", "improve", "--rewrite-tokens", 64,
            "--annotator.instruction", "Be brief.", by="openai", output="improved.jsonl",
        ) == 0  # fmt: skip
    examples = read("golden.jsonl")
    assert [
        [(one.content, one.label, one.demonstration, one.source) for one in made.responses] for made in examples
    ] == [
        [("Better: p1", None, True, "big"), ("one", 0.0, False, None)],
        [("Better: p2", None, True, "big"), ("oh no", 0.0, False, None)],
    ]
    assert apply(points_with_demonstrations, examples).units == {"points": 2, "demonstrations": 2}
    said = capsys.readouterr().err
    assert "2 chosen responses rewritten by big: 2.0 words on average, where they had 2.0" in said
    assert "1 example left out: 1 for identical pair (pairs.jsonl:3)" in said
    assert server.bodies[-1]["max_tokens"] == 64 and "Be brief." in server.bodies[-1]["messages"][0]["content"]
    assert len(read("improved.jsonl")) == 2


@pytest.mark.parametrize("name", ["helpfulness", "harmlessness", "summary", "improve"])
def test_a_template_is_shown_and_can_be_given_back(name: str, folder: Path, capsys: Captured) -> None:
    assert command("annotate", "--show-template", name) == 0
    text = capsys.readouterr().out
    assert "boundary" in text
    (folder / "mine.jinja").write_text(text)
    with FaultyServer(lambda asked: chat("Better.") if name == "improve" else longer(asked)) as server:
        endpoint = endpoint_of(server)
        option = ("--rewrite", "--rewrite-template") if name == "improve" else ("--annotator.template",)
        assert judge(*endpoint, *option, "mine.jinja", by="openai") == 0
        if name != "improve":
            assert judge(*endpoint, *option, name, by="openai", output="again.jsonl") == 0
            assert Path("again.jsonl").read_bytes() == Path("out.jsonl").read_bytes()


URL = "http://localhost:9/v1"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.jsonl", "--annotator", "world:gold"), 2, "none.jsonl: no such file"),
        (("pairs.jsonl",), 2, "annotator is required, to say who judges: give openai, jury, rubric, weighted"),
        (("pairs.jsonl", "--annotator", "world:gold", "--annotator.instruction", "be polite"), 2, "know 'polite'"),
        (("pairs.jsonl", "--annotator", "reward:none"), 2, "reward model none is not a folder"),
        (("pairs.jsonl", "--annotator", "world:gold"), 2, "pairs.jsonl:1: prompt 1: not a prompt of the world: 'p1'"),
        (("pairs.jsonl", "--annotator", "rewards.py:nan"), 2, "pairs.jsonl:1: rewards.py:nan: prompt 1, 'p1': the fun"),
        (("there.jsonl", "--annotator", "world:gold", "--output", "there.jsonl"), 2, "the file is there already; give"),
        (("pairs.jsonl", "--annotatr", "world:gold"), 2, "annotatr is not an option of trueup annotate; did you mean"),
        (("pairs.jsonl", "--annotator", "world:gold", "--rewrite"), 2, "rewrite needs an endpoint, and annotator.kind"),
        (("pairs.jsonl", "--annotator", "world:gold", "--rewrite-tokens", 9), 2, "rewrite_tokens says how demonstrat"),
        (("--show-template", "helpfullness"), 2, "there is no template 'helpfullness'; did you mean 'helpfulness'?"),
        (
            ("none.jsonl", "--annotator", "openai", "--annotator.base_url", "http://example.org/v1",
             "--annotator.model", "m"),
            2, "the environment variable OPENAI_API_KEY is not set",
        ),
        (
            ("pairs.jsonl", "--annotator", "openai", "--annotator.base_url", URL, "--annotator.model", "m",
             "--annotator.deadline", 0.2),
            6, "localhost:9",
        ),
        (
            ("pairs.jsonl", "--annotator", "openai", "--annotator.base_url", URL, "--annotator.model", "m",
             "--rewrite", "--rewrite-template", "none.jinja"),
            2, "rewrite_template none.jinja: no such file",
        ),
        (
            ("pairs.jsonl", "--annotator", "openai", "--annotator.base_url", URL, "--annotator.model", "m",
             "--rewrite", "--annotator.template", "summary"),
            2, "annotator.template is what a judge is asked, and with rewrite nothing is judged; give rewrite_template",
        ),
    ],
)  # fmt: skip
def test_mistakes_in_one_line(
    folder: Path, capsys: Captured, arguments: tuple[object, ...], code: int, message: str
) -> None:
    write(folder / "there.jsonl", [pair("p1", "a", "b")])
    output = () if "--output" in arguments else ("--output", "out.jsonl")
    before = {path.name for path in folder.iterdir()}
    assert command("annotate", *arguments, *output) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("trueup: ") and message in error
    assert {path.name for path in folder.iterdir()} - before <= {"cache"}


def test_nothing_that_could_be_judged(folder: Path, capsys: Captured) -> None:
    write(folder / "same.jsonl", [pair("p", "same", "same")])
    with FaultyServer(longer) as server:
        endpoint = endpoint_of(server)
        assert judge(*endpoint, data="same.jsonl", by="openai") == 2
        assert not server.asked
    assert "none of 1 example was judged, for the reasons above; nothing was written" in capsys.readouterr().err
    assert not Path("out.jsonl").exists()
