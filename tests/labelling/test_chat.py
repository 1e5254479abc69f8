"""`trueup chat`: what a user types, from a pipe and in a terminal, and what is kept."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_runs import metrics_of
from support.tiny_models import char_tokenizer, save_tiny_model

from trueup.batch.encode import Encoder
from trueup.cli.app import run
from trueup.feedback.condition import Condition
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Message

Captured = pytest.CaptureFixture[str]
Chat = Callable[..., tuple[int, str, str]]
SHORT = ("--max-new-tokens", "5")


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Chat:
    """Types lines, and gives the exit code, the output and the messages."""
    monkeypatch.chdir(tmp_path)

    def typed(lines: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        capsys.readouterr()
        code = run(["chat", *arguments, *SHORT])
        return code, *capsys.readouterr()

    return typed


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("other") / "other", seed=1)


def test_preferences_are_kept_and_trained_on(chat: Chat, tiny_model: Path, other_model: Path) -> None:
    kept = Path("kept.jsonl")
    kept.write_text('{"prompt": "torn')
    names = (str(tiny_model), "--against", str(other_model), "--keep", str(kept), "--person", "ann")
    lines = "hello\n7\n1\nand now?\n2\n/undo\nor so?\nt\n/new\n//odd\nn\nlast\n1\n"
    code, out, err = chat(lines, *names, "--system", "Be kind.")
    assert code == 0 and out.count("[1]") == out.count("[2]") == 5
    examples = read_feedback([kept]).examples
    said = [[message.content for message in one.prompt.content if isinstance(message, Message)] for one in examples]
    texts = [
        [one.content[0].content for one in example.responses if not isinstance(one.content, str)]
        for example in examples
    ]
    assert all(text in out for pair in texts for text in pair)
    first = ["hello", texts[0][0]]
    assert [one[1:] for one in said] == [
        ["hello"], [*first, "and now?"], [*first, "or so?"], ["/odd"], ["last"],
    ]  # fmt: skip
    assert {one[0] for one in said} == {"Be kind."}
    better, worse = (Comparison(0, 1),), (Comparison(1, 0),)
    assert [one.comparisons for one in examples] == [better, worse, (), (), better]
    votes = [one.votes[0] for one in examples]
    assert [vote.preferred for vote in votes] == ["first", "second", "tie", "neither", "first"]
    assert {vote.annotator for vote in votes} == {"ann"}
    wins = [
        examples[at].responses[comparisons[0].better].source
        for at, comparisons in ((0, better), (1, worse), (4, better))
    ]
    sources = {one.source for example in examples for one in example.responses}
    assert sources == {str(tiny_model), str(other_model)}
    assert all(f"{name}: {wins.count(name)}" in err for name in wins)
    assert all(one.tokens and len(one.tokens) <= 5 for example in examples for one in example.responses)
    assert len({one.responses[0].source for one in examples}) == 2  # sides are in random order
    before = kept.read_bytes()
    kept.write_bytes(before.rstrip(b"\n"))  # as an editor may leave it
    assert chat("more\n1\n", *names)[0] == 0
    assert kept.read_bytes().startswith(before) and len(read_feedback([kept]).examples) == 6
    command = ["train", "dpo", "--model", str(tiny_model), "--data", str(kept), "--output", "run"]
    assert run([*command, "--steps", "2"]) == 0
    assert [line["step"] for line in metrics_of(Path("run")) if "loss" in line] == [1, 2]


def test_a_model_is_asked_as_it_is_sampled_from(chat: Chat, tmp_path: Path) -> None:
    """Conditions of conditional alignment are applied; without messages the text so far goes on."""
    model = save_tiny_model(tmp_path / "ca", tokenizer=char_tokenizer())
    answers = []
    for reward in (None, 1.5):
        if reward is not None:
            Condition(" score {reward}", 1, "end", reward=reward).save(model)
        code, out, _ = chat("abc\nde\n/quit\nnever\n", str(model), "--decode", "greedy", "--turn", "<{text}>")
        assert code == 0
        first = out.split("\n")[0]
        prompts = ["<abc>", f"<abc>{first}<de>"]
        Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts))
        greedy = ["--decode", "greedy", "--responses", "1", "--overwrite", "--output", "out.jsonl"]
        assert run(["sample", "--model", str(model), "--data", "prompts.jsonl", *greedy, *SHORT]) == 0
        sampled = [one.responses[0].content for one in read_feedback(["out.jsonl"]).examples]
        assert out == "".join(f"{text}\n" for text in sampled)
        answers.append(sampled)
    assert answers[0] != answers[1]


def test_what_a_model_writes_does_not_steer_the_terminal(
    chat: Chat, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Encoder.text
    monkeypatch.setattr(Encoder, "text", lambda self, ids: f"\x1b[2J[bold]\u202e{plain(self, ids)}\x07")
    for more in ((), ("--against", str(tiny_model))):
        code, out, _ = chat("a\n\ud800b\n", str(tiny_model), "--chat", "false", *more)
        assert code == 0 and r"\x1b[2J[bold]\u202e" in out and r"\x07" in out
        assert not any(mark in out for mark in "\x1b\x07\u202e")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--keep", "x.jsonl"), "give --against"),
        (("--against", "world", "--keep", "x.csv"), "ends in .jsonl"),
        (("--against", "world", "--keep", "pairs.jsonl"), "another layout"),
        (("--against", "world", "--keep", "no/x.jsonl"), "cannot be kept there"),
        (("--turn", "x"), "{text} once"),
        (("--against", "no/model"), "no/model"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], said: str, chat: Chat) -> None:
    Path("pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    code, out, err = chat("", "world", *more)
    assert code == 2 and said in err and out == ""


def test_ctrl_c_costs_the_answer_that_is_not_judged_yet(
    tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = iter(["hello", "2", "again"])

    def line(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("builtins.input", line)
    names = [str(tiny_model), "--against", str(other_model), "--keep", "kept.jsonl"]
    assert run(["chat", *names, *SHORT]) == 0
    out, err = capsys.readouterr()
    assert out.index("[1]") < out.index("[2]")
    assert "preferences are in kept.jsonl" in err
    (example,) = read_feedback([tmp_path / "kept.jsonl"]).examples
    assert example.comparisons == (Comparison(1, 0),)
