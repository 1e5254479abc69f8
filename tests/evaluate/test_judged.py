"""`trueup evaluate --judge`: win rates by a judge behind a real server, its biases and its faults; what is refused."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.faulty_feedback import pair
from support.faulty_feedback import write as write_rows
from support.faulty_server import Answer, FaultyServer, ReceivedRequest, chat
from support.judge_answers import first_with, shown, text_of, variety
from support.judged_runs import one_line
from support.small_runs import command
from support.tiny_models import save_tiny_model

from trueup.feedback.read import read_feedback

Captured = pytest.CaptureFixture[str]
Judge = Callable[[ReceivedRequest], Answer]
PROMPTS = 120


@pytest.fixture(autouse=True)
def here(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files of three writers; the quality of a response is the number in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    for path in evaluated.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name, level in (("good", 2), ("fair", 1), ("poor", 0)):
        texts = [
            f"{name} {at}: quality {level + dice(name, at) * 3:.3f}" + " x" * int(7 * dice(at, name))
            for at in range(PROMPTS)
        ]
        write(f"{name}.jsonl", texts)
    return tmp_path


def write(name: str, texts: Sequence[str], prompt: str = "p") -> None:
    rows = [{"prompt": f"{prompt}{at}", "response": text} for at, text in enumerate(texts)]
    write_rows(Path(name), rows)


def read(name: str) -> list[str]:
    return [json.loads(line)["response"] for line in Path(name).read_text().splitlines()]


def dice(*parts: object) -> float:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def quality(text: str) -> float:
    return float(text.split("quality ")[1].split()[0])


def biased(by: float) -> Judge:
    """Answers in words, at random: better responses more often, and the one that is shown first even more often."""

    def judge(asked: ReceivedRequest) -> Answer:
        first, second = shown(asked)
        likely = 1 / (1 + math.exp(quality(second) - quality(first) - by))
        return chat("1" if dice(first, second) < likely else "2")

    return judge


def evaluate(server: FaultyServer, *more: object, output: str = "out", code: int = 0) -> dict[str, Any]:
    judge = f"--judge openai --judge.base_url {server.url} --judge.model J --judge.concurrency 4".split()
    assert command("evaluate", *judge, *more, "--output", output) == code
    file = Path(output, "evaluation.json")
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def test_a_judge_who_likes_the_first_place_is_debiased(capsys: Captured) -> None:
    """Asked in one order it would find either model far better; in both, the interval holds the truth."""
    with FaultyServer(biased(1.5)) as server:
        found = evaluate(server, "good.jsonl", "poor.jsonl")
    gaps = [quality(a) - quality(b) for a, b in zip(read("good.jsonl"), read("poor.jsonl"), strict=True)]
    one_order = fmean(1 / (1 + math.exp(-gap - 1.5)) for gap in gaps)
    truth = fmean((1 / (1 + math.exp(-gap - 1.5)) + 1 / (1 + math.exp(-gap + 1.5))) / 2 for gap in gaps)
    (row,) = found["judged"]
    assert row["wins"]["low"] <= truth <= row["wins"]["high"] < one_order
    assert row["won"] + row["tied"] + row["lost"] == PROMPTS and row["tied"] > 10
    assert row["p_corrected"] == row["p"] < 0.001
    assert "position bias: the response shown first has probability 0.6" in capsys.readouterr().err
    assert found["cost"]["judge"]["verdicts"] == 2 * PROMPTS
    assert found["cost"]["judge"]["requests"] == len(server.asked) == 2 * PROMPTS + 1  # the first for log-probabilities


def test_three_models_are_put_on_one_scale_and_all_of_it_is_kept(capsys: Captured) -> None:
    with FaultyServer(biased(0.0)) as server:
        found = evaluate(server, "good.jsonl", "fair.jsonl", "poor.jsonl")
        asked = len(server.asked)
        told = capsys.readouterr()
        assert evaluate(server, "good.jsonl", "fair.jsonl", "poor.jsonl", "--overwrite") == found
        assert len(server.asked) == asked == 2 * 3 * PROMPTS + 1
        against = evaluate(server, "good.jsonl", "fair.jsonl", "poor.jsonl", "--against", "fair.jsonl", output="two")
    points = [found["scale"]["points"][f"{name}.jsonl"]["value"] for name in ("good", "fair", "poor")]
    assert points == sorted(points, reverse=True) and sum(points) == pytest.approx(0)
    assert 0 < found["scale"]["tie"] < 1 and found["scale"]["style"].keys() == {"length", "lists", "headers"}
    assert found["scale"]["style"]["lists"] is None  # no response has one
    assert len(found["judged"]) == 3
    for row in found["judged"]:
        assert row["p"] <= row["p_corrected"]
        assert row["length_controlled"]["low"] < row["wins"]["value"] < row["length_controlled"]["high"]
    shown = ("| all together", "(length)", "good.jsonl against fair.jsonl")
    assert all(words in told.out for words in shown)
    assert [(row["one"], row["other"]) for row in against["judged"]] == [
        ("good.jsonl", "fair.jsonl"), ("fair.jsonl", "poor.jsonl"),
    ]  # fmt: skip
    examples = read_feedback(["out/responses.jsonl"]).examples
    winners = [example.responses[one.better].source for example in examples for one in example.comparisons]
    assert winners.count("good.jsonl") == sum(row["won"] for row in found["judged"] if row["one"] == "good.jsonl")


def test_a_jury_behind_a_server_and_a_function_of_ones_own(capsys: Captured) -> None:
    """Two models on one server, of which one likes the first place, and brevity, who is contrary; four undecided."""
    rows = [pair(f"g{at}", "good: quality 5", "poor: quality -5 x") for at in range(30)]
    write_rows(Path("gold.jsonl"), rows)
    jury = ["--judge", "jury", "--judge.of", "rewards.py:brevity", "--judge.gold", "gold.jsonl"]

    def of(server: FaultyServer) -> list[object]:
        members = [f"openai?base_url={server.url}&model={name}&concurrency=4" for name in ("fond", "fair")]
        return ["good.jsonl", "poor.jsonl", *jury, *(part for one in members for part in ("--judge.of", one))]

    def judge(asked: ReceivedRequest) -> Answer:
        return biased(3.0 if asked.body["model"] == "fond" else 0.0)(asked)

    with FaultyServer(judge) as server:
        assert command("evaluate", *of(server), "--output", "out") == 0
        told, asked = capsys.readouterr().err, len(server.asked)
        # a gold pair for each ten of 64 and of 56 pairs, some twice; one question finds out what an endpoint gives
        assert 2 * 2 * (PROMPTS + 7) < asked <= 2 * 2 * (PROMPTS + 7 + 6) + 2
        first = Path("out/evaluation.json").read_bytes()
        assert command("evaluate", *of(server), "--output", "out", "--overwrite") == 0
        assert len(server.asked) == asked and Path("out/evaluation.json").read_bytes() == first
    found = json.loads(first)
    (row,), judges = found["judged"], found["jury"]["judges"]
    assert row["won"] + row["tied"] + row["lost"] + row["undecided"] == PROMPTS and row["unreadable"] == 0
    undecided = read_feedback(["out/undecided.jsonl"]).examples
    assert len(undecided) == row["undecided"] > 10 and not any(one.comparisons for one in undecided)
    assert judges["fond"]["first"]["low"] > 0.75 and judges["fond"]["flipped"]["low"] > 0.3
    assert judges["fair"]["first"]["low"] <= 0.5 <= judges["fair"]["first"]["high"]
    assert judges["rewards.py:brevity"]["first"] is None
    assert judges["rewards.py:brevity"]["gold"]["value"] == judges["fair"]["gold"]["value"] == 1
    assert found["cost"]["judge"]["fair/requests"] + found["cost"]["judge"]["fond/requests"] == asked
    assert "each in both orders by 3 judges" in told and "judge: fond: sides with the jury on " in told


def test_single_responses_are_rated_by_criteria() -> None:
    """A judge that finds a response good as far as its number says, whichever label stands for that."""

    def judge(asked: ReceivedRequest) -> Answer:
        text = text_of(asked)
        if "by one criterion alone" not in text:
            return variety(asked)
        good = min(1.0, quality(text) / 5) if "sentences follow" in text else 0.25
        return first_with(good if "Answer 1 if the response meets" in text else 1 - good)

    more = ("--rate", "coherence", "--rate", "It names a fruit.", "--count", 10)
    with FaultyServer(judge) as server:
        found = evaluate(server, "good.jsonl", "poor.jsonl", *more)
    for name, row in zip(("good", "poor"), found["models"], strict=True):
        expected = fmean(min(1.0, quality(text) / 5) for text in read(f"{name}.jsonl")[:10])
        assert row["ratings"]["coherence"]["value"] == pytest.approx(expected, abs=1e-6)
        assert row["ratings"]["It names a fruit."]["value"] == pytest.approx(0.25, abs=1e-6)
    assert found["prompts"] == 10


def test_a_rubric_scores_every_response() -> None:
    """Two criteria of all prompts and a third of the first prompt's own, which nothing meets."""

    def judge(asked: ReceivedRequest) -> Answer:
        text = text_of(asked)
        good = 1e-9 if "It rhymes." in text else 0.75 if "sentences follow" in text else 0.25
        return first_with(good if "Answer 1 if the response meets" in text else 1 - good)

    Path("asked.jsonl").write_text('{"prompt": "p0", "rubric": ["It rhymes."]}\n{"prompt": "p1"}\n')
    for name in "ab":
        rows = [{"prompt": "p0", "rubric": ["It rhymes."], "response": name}, {"prompt": "p1", "response": name}]
        write_rows(Path(f"{name}.jsonl"), rows)
    Path("criteria.txt").write_text("coherence=2\n\nIt names a fruit.\n")
    with FaultyServer(judge) as server:
        of = f"openai?base_url={server.url}&model=J"
        more = ("--reward", "rubric", "--reward.of", of, "--reward.file", "criteria.txt", "--output", "out")
        assert command("evaluate", "a.jsonl", "b.jsonl", *more) == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    expected = fmean([(2 * 0.75 + 0.25) / 4, (2 * 0.75 + 0.25) / 3])
    assert found["models"][0]["reward"]["value"] == pytest.approx(expected, abs=1e-6)
    assert found["cost"]["reward"]["met: coherence"] == pytest.approx(4 * 0.75, abs=1e-6)


def test_models_are_asked_and_judged_by_a_judge_of_this_process(here: Path, capsys: Captured) -> None:
    judge = save_tiny_model(here / "judge", max_position_embeddings=4096)
    more = ("--prompts", "prompts.jsonl", "--count", 6, "--max-new-tokens", 4, "--judge", f"local:{judge}")
    assert command("evaluate", "dpo", "good.jsonl", *more, "--output", "out") == 2
    assert "good.jsonl has 1 response to none of the 24 prompts" in one_line(capsys.readouterr().err)
    assert command("evaluate", "dpo", "other", *more, "--rate", "harmlessness", "--output", "out") == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert sum(found["judged"][0][name] for name in ("won", "tied", "lost")) == 6
    assert all(0 < row["ratings"]["harmlessness"]["value"] < 1 for row in found["models"])
    assert found["judged"][0]["length_controlled"]["refused"].endswith("too few: 6")


@pytest.mark.parametrize("count", [4, PROMPTS])
def test_verdicts_that_are_all_unreadable_are_none(count: int, capsys: Captured) -> None:
    with FaultyServer([chat("Both are fine.")]) as server:
        evaluate(server, "good.jsonl", "poor.jsonl", "--count", count, "--judge.asks", 1, code=6)
    said = one_line(capsys.readouterr().err)
    assert said.startswith("judge: no comparison could be read" if count == 4 else "J: 128 of 128 verdicts")
    assert "annotator" not in said


def test_a_few_unreadable_ones_are_counted(capsys: Captured) -> None:
    def judge(asked: ReceivedRequest) -> Answer:
        return chat("?") if "p7\n" in text_of(asked) else biased(0.0)(asked)

    with FaultyServer(judge) as server:
        (row,) = evaluate(server, "good.jsonl", "poor.jsonl", "--judge.asks", 1)["judged"]
    assert row["unreadable"] == 1 and row["won"] + row["tied"] + row["lost"] == PROMPTS - 1


def test_markup_scripts_and_other_writing_pass_through(capsys: Captured) -> None:
    texts = ["[red]x[/red] <script>alert(1)</script>", "\u05e9\u05dc\u05d5\u05dd \u202eabc"]
    texts += ["\U0001f600 # **x**", "&amp; {{ first }}"]
    write("[bold]a[_].jsonl", texts)
    write("b.jsonl", [f"{text}!" for text in texts])
    names = ("[bold]a[_].jsonl", "b.jsonl")
    with FaultyServer(variety) as server:
        found = evaluate(server, *names)
    assert found["prompts"] == 4 and "[bold]a[_].jsonl against b.jsonl" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("out/responses.jsonl").read_text().splitlines()]
    assert [row["responses"][0]["content"] for row in rows] == texts


REFUSED = {
    "nothing to look at": ((), "models is required: runs"),
    "no prompts": (("dpo",), "prompts is required, to ask the models"),
    "twice": (("dpo", "dpo"), "dpo is given twice"),
    "nowhere": (("nothing", "--prompts", "prompts.jsonl"), "nothing: no such file"),
    "a judge that scores": (("dpo", "--judge", "world:gold"), "judge 'world:gold' is refused, as it scores"),
    "a reward that compares": (("dpo", "--reward", "local:other"), "reward 'local:other' is refused, as it compares"),
    "a judge that is none": (("dpo", "--judge", "nobody"), "judge 'nobody' is not known"),
    "a judge that is not there": (("dpo", "--judge", "local:gone"), "judge.kind local: model gone is not a folder"),
    "a jury of one": (("dpo", "--judge", "jury", "--judge.of", "rewards.py:brevity"),
        "a jury has two judges or more, and of names one"),
    "a criterion of no weight": (
        ("dpo", "--reward", "rubric", "--reward.of", "local:x", "--reward.criteria", "It rhymes.=0"),
        "criterion 'It rhymes.': the weight 0 says nothing",
    ),
    "a rubric by who rates nothing": (("dpo", "--reward", "rubric", "--reward.of", "rewards.py:brevity"),
        "of names function, which rates by no criterion"),
    "a rubric without a line": (
        ("dpo", "--reward", "rubric", "--reward.of", "openai?base_url=http://localhost:1/v1&model=J", "--reward.file",
         "empty.jsonl", "--prompts", "prompts.jsonl"),
        "reward.file empty.jsonl: it is empty",
    ),
    "a judge twice": (("dpo", "--judge", "jury", "--judge.of", "world:gold", "--judge.of", "world:gold"),
        "of names 'gold' twice with the same settings"),
    "a setting of a judge": (("dpo", "--judge", "jury", "--judge.of", "world:gold?loud", "--judge.of", "world:proxy"),
        "'loud' is no setting; write NAME?setting=value"),
    "gold that is not there": (
        ("dpo", "--judge", "jury", "--judge.of", "world:gold", "--judge.of", "world:proxy", "--judge.gold", "x"),
        "x: no such file",
    ),
    "gold that is not known": (
        ("dpo", "--judge", "jury", "--judge.of", "world:gold", "--judge.of", "world:proxy", "--judge.gold",
         "prompts.jsonl"),
        "prompts.jsonl:1: no known layout",
    ),
    "rated by none": (("dpo", "--rate", "coherence"), "rate needs a judge"),
    "against another": (("dpo", "--against", "other", "--reward", "rewards.py:brevity", "--prompts", "prompts.jsonl"),
        "against other: it is none of the models given"),
    "an empty file": (("dpo", "--prompts", "empty.jsonl"), "empty.jsonl"),
    "other prompts": (("good.jsonl", "far.jsonl"),
        "far.jsonl has 1 response to none of the 120 prompts of the others"),
    "a file as output": (("good.jsonl", "--output", "far.jsonl"), "output far.jsonl: File exists"),
    "no checkpoint": (("unfinished", "--prompts", "prompts.jsonl"), "unfinished: the run has no checkpoint yet"),
    "no room": (("dpo", "--prompts", "prompts.jsonl", "--max-length", 3), "no prompt leaves room for a response"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(given: tuple[object, ...], words: str, capsys: Captured) -> None:
    write("empty.jsonl", [])
    write("far.jsonl", ["x"], prompt="elsewhere")
    Path("unfinished").mkdir()
    Path("unfinished/run.yaml").write_text(Path("dpo/run.yaml").read_text())
    assert command("evaluate", *given) == 2
    assert words in one_line(capsys.readouterr().err)


def test_files_with_several_writers_and_further_responses(capsys: Captured) -> None:
    said = [{"content": f"{who}{number}", "source": who} for who in "AB" for number in (1, 2)]
    write_rows(Path("both.jsonl"), ({"prompt": f"p{at}", "responses": said} for at in range(30)))
    write("part.jsonl", ["mine"] * 20)
    assert command("evaluate", "both.jsonl", "part.jsonl", "--output", "out") == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert [row["name"] for row in found["models"]] == ["both.jsonl:A", "both.jsonl:B", "part.jsonl"]
    assert found["prompts"] == 20
    told = capsys.readouterr().err
    assert "both.jsonl:A has more than 1 responses to 30 prompts; --responses takes more" in told
    assert "part.jsonl has no response to 10 of 30 prompts: left out of all" in told
