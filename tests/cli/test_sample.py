"""`trueup sample`: what it writes, what it says, and what it refuses."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import pair, write
from support.faulty_server import FaultyServer, Reply
from support.small_runs import command, in_child
from support.tiny_models import save_tiny_model

from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example
from trueup.gathering.resumable import Work

Captured = pytest.CaptureFixture[str]
FUNCTIONS = """
def brevity(prompt, response):
    return -len(response)

def fails(prompt, response):
    raise ValueError("no")
"""


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of other weights and the same tokenizer."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(tiny_model, folder / "A")
    save_tiny_model(folder / "B", seed=1)
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: models A and B, prompts, feedback on some of them, and functions."""
    for name in "AB":
        (tmp_path / name).symlink_to(models / name)
    rows = [{"prompt": f"say {number}:"} for number in (1, 2, 3, 1)]
    write(tmp_path / "asked.jsonl", rows)
    pairs = [pair("say 1:", "good", "bad"), pair("say 9:", "yes", "no, not at all, never in my life")]
    write(tmp_path / "pairs.jsonl", pairs)
    (tmp_path / "rewards.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*more: object, data: str = "asked.jsonl", model: str = "A", output: str = "out.jsonl") -> int:
    return command("sample", "--model", model, "--data", data, "--output", output, "--max-new-tokens", 6, *more)


def read(name: str = "out.jsonl") -> tuple[Example, ...]:
    return read_feedback([name]).examples


def test_several_models_several_responses(folder: Path, capsys: Captured) -> None:
    assert ask("--model", "B", "--responses", 3) == 0
    examples = read()
    assert [one.prompt.content for one in examples] == ["say 1:", "say 2:", "say 3:"]
    for example in examples:
        assert [one.source for one in example.responses] == ["A"] * 3 + ["B"] * 3
        for one in example.responses:
            assert one.tokens is not None and 1 <= len(one.tokens) <= 6
            assert (one.score, one.label, one.demonstration) == (None, None, False)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[:2] == ["asked.jsonl: prompts, 4 rows", "1 duplicate prompt left out"]
    assert any(line.startswith("A: 9 responses to 3 prompts, ") and "ran out of tokens" in line for line in lines)
    assert lines[-1] == "18 responses to 3 prompts written to out.jsonl"
    assert sorted(path.name for path in folder.glob("*out*")) == ["out.jsonl"]


def test_greedy_beams_and_a_longest_length(folder: Path) -> None:
    assert ask("--decode", "greedy", "--responses", 1) == 0
    beams = ("--decode", "diverse-beam", "--responses", 3, "--diversity-penalty", 5)
    assert ask(*beams, output="beams.jsonl") == 0
    assert [len(one.responses) for one in read()] == [1, 1, 1]
    assert [len(one.responses) for one in read("beams.jsonl")] == [3, 3, 3]


def test_models_with_different_tokenizers_store_no_ids(folder: Path, capsys: Captured) -> None:
    from support.tiny_models import char_tokenizer

    save_tiny_model(folder / "C", tokenizer=char_tokenizer(bos=False))
    assert ask("--model", "C") == 0
    assert "the models have different tokenizers, so that no token ids are stored" in capsys.readouterr().err
    assert all(one.tokens is None for example in read() for one in example.responses)


def test_what_the_data_hold_is_kept_or_not(folder: Path, capsys: Captured) -> None:
    assert ask(data="pairs.jsonl") == 0
    merged = read()
    assert [[one.content for one in example.responses[:2]] for example in merged] == [
        ["good", "bad"], ["yes", "no, not at all, never in my life"],
    ]  # fmt: skip
    assert [len(one.responses) for one in merged] == [4, 4]
    assert all(len(one.comparisons) == 1 for one in merged)
    assert "4 responses of the data kept beside them (--no-keep-responses leaves them out)" in capsys.readouterr().err
    for option in (["--no-keep-responses"], ["--keep-responses", "false"]):
        assert ask("--overwrite", *option, data="pairs.jsonl") == 0
        assert [[one.source for one in example.responses] for example in read()] == [["A", "A"]] * 2
    new = [[one.content for one in example.responses[2:]] for example in merged]
    assert [[one.content for one in example.responses] for example in read()] == new
    assert ask("--count", 1, data="pairs.jsonl", output="one.jsonl") == 0
    assert [(one.prompt.content, len(one.responses)) for one in read("one.jsonl")] == [("say 1:", 4)]


def test_judged_right_away_and_the_best_alone(folder: Path, capsys: Captured) -> None:
    assert ask("--annotator", "rewards.py:brevity", data="pairs.jsonl") == 0
    judged = read()
    for example in judged:
        assert [one.score for one in example.responses] == [-float(len(str(one.content))) for one in example.responses]
        assert example.comparisons == ()
    said = capsys.readouterr().err
    assert "8 scores: mean " in said and "agrees with the judgements given on " in said
    assert ask("--annotator", "rewards.py:brevity", "--best", data="pairs.jsonl", output="best.jsonl") == 0
    best = read("best.jsonl")
    assert [len(one.responses) for one in best] == [1, 1]
    for example, whole in zip(best, judged, strict=True):
        assert example.responses[0].score == max(one.score for one in whole.responses if one.score is not None)
        assert example.responses[0] in whole.responses


def test_conversations_and_a_chat_template(folder: Path) -> None:
    talk = [{"role": "user", "content": "hi"}]
    write(folder / "talks.jsonl", [{"prompt": talk}])
    assert ask(data="talks.jsonl") == 0
    (example,) = read()
    assert all(len(one.content) == 1 and not isinstance(one.content, str) for one in example.responses)
    (folder / "other.jinja").write_text("{% for m in messages %}{{ m.role }}>{{ m.content }};{% endfor %}")
    assert ask("--chat-template", "other.jinja", data="talks.jsonl", output="other.jsonl") == 0
    assert read("other.jsonl") != read()


KILLED = """
import os, pathlib, signal

def brevity(prompt, response):
    if prompt == "say 70:" and pathlib.Path("kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return -len(response)
"""


@pytest.mark.parametrize("keeps", [0, 2, 4])
def test_a_process_that_is_killed_goes_on_bit_for_bit(
    folder: Path, keeps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first pieces of samples, or in the middle of judging; 80 prompts are three pieces and two."""
    write(folder / "many.jsonl", [{"prompt": f"say {number}:"} for number in range(80)])
    (folder / "rewards.py").write_text(KILLED)
    arguments = ("--annotator", "rewards.py:brevity", "--seed", 4)
    assert ask(*arguments, data="many.jsonl", output="whole.jsonl") == 0
    original, done = Work.keep, 0

    def keep(self: Work, name: str, value: Any) -> None:
        nonlocal done
        if done == keeps:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, name, value)
        done += 1

    with monkeypatch.context() as patched:
        patched.setattr(Work, "keep", keep)
        if keeps == 4:
            (folder / "kill").touch()
        assert in_child(lambda: ask(*arguments, data="many.jsonl")) == -signal.SIGKILL
    (folder / "kill").unlink(missing_ok=True)
    parts = Path("out.jsonl.part").read_text().splitlines()
    assert len(parts) == 1 + keeps and not Path("out.jsonl").exists()
    assert in_child(lambda: ask("--seed", 5, "--annotator", "rewards.py:brevity", data="many.jsonl")) == 2
    assert ask(*arguments, data="many.jsonl") == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert sorted(path.name for path in folder.glob("*out*")) == ["out.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "none.jsonl"}, "none.jsonl: no such file"),
        ({"data": "world:prompt"}, "'world:prompt': unknown kind of world feedback 'prompt'"),
        ({"model": "none"}, "model none is not a folder"),
        ({"output": "there.jsonl"}, "there.jsonl: the file is there already; give another output, or --overwrite"),
        ({"output": "."}, ".: this is a folder; name a file in it"),
        ({"output": "-"}, "output: give a file, as work that is stopped goes on beside it; not the standard output"),
        ({"more": ("--model", "A")}, "a model is given twice; give it once, and more responses"),
        ({"more": ("--decode", "beams")}, "decode must be one of sample, greedy, beam, diverse-beam; got 'beams'"),
        ({"more": ("--decode", "greedy")}, "decode greedy gives one response; got responses 2"),
        ({"more": ("--best",)}, "best needs an annotator that judges the responses, as in"),
        ({"more": ("--annotator", "world:gold")}, "asked.jsonl:1: prompt 1: not a prompt of the world: 'say 1:'"),
        ({"more": ("--annotator", "rewards.py:fails")}, "asked.jsonl:1: rewards.py:fails: prompt 1, 'say 1:': the"),
        ({"more": ("--engine", "server")}, "engine server needs base_url, as in http://localhost:8000/v1"),
        ({"more": ("--chat-template", "none.jinja")}, "none.jinja: no such file"),
    ],
)  # fmt: skip
def test_mistakes_in_one_line(folder: Path, capsys: Captured, arguments: dict[str, Any], message: str) -> None:
    (folder / "there.jsonl").touch()
    before = {path.name for path in folder.iterdir()}
    assert ask(*arguments.pop("more", ()), **arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("trueup: ") and message in error
    sampled = "out.jsonl.part" if message.startswith("asked.jsonl:1:") else ""  # before anything was judged
    assert {path.name for path in folder.iterdir()} - before == {sampled} - {""}


def test_a_server(folder: Path, capsys: Captured) -> None:
    """Without a model, and with one for its tokenizer; two servers that are alike, and one that is gone beside it."""

    def reply(asked: Any) -> dict[str, Any]:
        if asked.method == "GET":
            return {"object": "list", "data": [{"id": "served", "object": "model"}]}
        wanted = asked.body.get("n", 1)
        choices = [
            {"index": at, "text": f" red {at}", "message": {"role": "assistant", "content": f" red {at}"},
             "finish_reason": "stop", "logprobs": None}
            for at in range(wanted)
        ]  # fmt: skip
        return {"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}

    with FaultyServer(reply) as server, FaultyServer(reply) as other:
        served = ("--engine", "server", "--base-url", server.url, "--server-model", "served")
        alone = ("--data", "asked.jsonl", "--output", "out.jsonl", "--responses", 1)
        assert command("sample", *alone, *served) == 0
        assert ask(*served, output="with.jsonl") == 0
        assert not other.asked
        both = (*served[:4], other.url, *served[4:], "--responses", 8)
        assert command("sample", *alone[:2], "--output", "both.jsonl", *both) == 0
        assert any("prompt" in body for body in other.bodies)
        with FaultyServer(lambda asked: Reply(503) if asked.method == "POST" else reply(asked)) as gone:
            both = (*served[:3], gone.url, *both[3:])
            assert command("sample", *alone[:2], "--output", "left.jsonl", *both) == 0
    assert f"{gone.url}: 503: {{}}; it is left out for a while, and the others are asked" in capsys.readouterr().err
    assert Path("left.jsonl").read_bytes() == Path("both.jsonl").read_bytes()
    assert [[one.content for one in example.responses] for example in read()] == [[" red 0"]] * 3
    assert {one.source for example in read() for one in example.responses} == {"served"}
    assert all(one.tokens is None for example in read() for one in example.responses)
    written = [one for example in read("with.jsonl") for one in example.responses]
    assert {one.content for one in written} <= {" red 0", " red 1"} and all(one.tokens for one in written)
