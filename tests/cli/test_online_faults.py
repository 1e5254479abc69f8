"""Faults of `trueup train` that gathers feedback: one line, an exit code, and no judgement paid for twice."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faulty_server import Answer, FaultyServer, Reply
from support.judge_answers import Until, text_of, variety
from support.judged_runs import judged, one_line, own, resume, train
from support.online_runs import reward_calls, write_reward
from support.small_runs import metrics_of, model_bytes

from trueup import stop
from trueup.training import setup

Captured = pytest.CaptureFixture[str]
Errors = Callable[[], str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_time: None) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(variety) as running:
        yield running


@pytest.fixture
def errors(capsys: Captured) -> Errors:
    return lambda: one_line(capsys.readouterr().err)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happens to, and beside it what its judge was asked."""
    folder = tmp_path_factory.mktemp("whole")
    with FaultyServer(variety) as running:
        values = judged(tiny_model, folder, folder / "run", running.url, **{"annotator.cache": "false"})
        assert train("oaif", values) == 0
        (folder / "asked.json").write_text(json.dumps([text_of(one) for one in running.asked]))
    return folder / "run"


def questions(uninterrupted: Path) -> list[str]:
    found: list[str] = json.loads((uninterrupted.parent / "asked.json").read_text())
    return found


def status(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


LASTING: dict[str, tuple[Answer, str]] = {
    "dead": (Reply(close=True), "connection"),
    "401": (Reply(401, {"error": {"message": "Who?"}}), "environment variable OPENAI_API_KEY"),
    "HTML": (Reply(200, "<html>Welcome</html>"), "check base_url"),
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("method", ["oaif", "dpo"])
def test_a_judge_that_fails_from_the_start_leaves_no_run_behind(
    method: str, fault: str, tiny_model: Path, tmp_path: Path, server: FaultyServer, errors: Errors
) -> None:
    """Online, and where all is gathered first; so that the command, once mended, can be given again as it is."""
    server.answers, words = [LASTING[fault][0]], LASTING[fault][1]
    values = judged(tiny_model, tmp_path, tmp_path / "run", server.url)
    assert train(method, values) == 6
    assert words in errors()
    assert not (tmp_path / "run").exists()
    if fault == "401":
        server.answers = variety
        assert train(method, values) == 0


@pytest.fixture
def closed() -> str:
    with FaultyServer(variety) as running:
        return running.url


TOO_EARLY: dict[str, tuple[dict[str, str], int, str]] = {
    "judge": ({}, 6, "annotator.base_url {url}: no server answers: Connection refused. Start it"),
    "sampler": (
        {"annotator": "world:gold", "sampler.engine": "server", "sampler.base_url": "{url}"},
        6,
        "sampler.base_url {url}: no server answers",
    ),
    "unsound": ({"reward": "{file}:unsound"}, 2, "rewards.py has no function unsound; did you mean 'sound'?"),
    "alone": (
        {"reward": "{file}:alone"},
        2,
        "rewards.py:alone cannot be called with a prompt and a response: too many positional arguments. Define "
        "alone(prompt, response)",
    ),
    "broken": ({"reward": "{folder}/broken.py:sound"}, 2, "broken.py cannot be run: ModuleNotFoundError"),
}


@pytest.mark.parametrize("fault", TOO_EARLY)
@pytest.mark.parametrize("method", ["oaif", "dpo"])
def test_what_cannot_judge_or_sample_is_found_before_a_model_is_loaded(
    method: str, fault: str, closed: str, tiny_model: Path, tmp_path: Path, errors: Errors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "rewards.py").write_text("def sound(prompt, *more): return 1\ndef alone(prompt): return 1\n")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setattr(setup, "make_policy", lambda *_: pytest.fail("the model was loaded"))
    places = {"url": closed, "file": tmp_path / "rewards.py", "folder": tmp_path}
    given, code, words = TOO_EARLY[fault]
    values = judged(tiny_model, tmp_path, tmp_path / "run", closed)
    if given:
        values = {name: value for name, value in values.items() if not name.startswith("annotator")}
    assert train(method, {**values, **{key: value.format(**places) for key, value in given.items()}}) == code
    assert words.format(url=closed) in errors()
    assert not (tmp_path / "run").exists()


def test_a_judge_that_is_gone_is_not_missed_where_its_verdicts_are_kept(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    with FaultyServer(variety) as running:
        values = judged(tiny_model, tmp_path, tmp_path / "run", running.url)
        assert train("oaif", values) == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "- sampled: 48 responses in 6 rounds" in card and "- annotator: " in card
    assert card.count("    prompt:   'say ") == card.count("    response: ") == 3
    assert "  max_new_tokens: 6\n" in card and "concurrency" not in card and "eval_" not in card
    capsys.readouterr()
    assert train("oaif", {**values, "output": tmp_path / "again"}) == 0
    assert "no server answers: Connection refused" in capsys.readouterr().err
    assert model_bytes(tmp_path / "again") == model_bytes(tmp_path / "run")
    assert train("oaif", {**values, "output": tmp_path / "other", "annotator.model": "K"}) == 6


@pytest.mark.parametrize("fault", LASTING)
def test_a_judge_that_fails_in_the_middle(
    fault: str, uninterrupted: Path, tiny_model: Path, tmp_path: Path, server: FaultyServer, capsys: Captured
) -> None:
    """Resumed, the run asks for what was not judged, for nothing else, and ends with the weights of a whole one."""
    run = tmp_path / "run"
    failing = server.answers = Until(13, LASTING[fault][0])
    assert train("oaif", judged(tiny_model, uninterrupted.parent, run, server.url)) == 6
    shown = capsys.readouterr().err
    assert LASTING[fault][1] in one_line(shown)
    assert f"what was judged is kept; once that is mended, go on with: trueup train oaif --resume {run}" in shown
    assert status(run)["state"] == "stopped"
    assert 0 < status(run)["step"] < 6
    assert resume("oaif", run) == 6  # it is still down; nothing is lost by trying
    server.answers = variety
    server.asked.clear()
    assert resume("oaif", run) == 0
    assert status(run).items() >= {"state": "done", "step": 6, "steps": 6}.items()
    assert model_bytes(run) == model_bytes(uninterrupted) != {}
    assert (run / "examples.jsonl").read_bytes() == (uninterrupted / "examples.jsonl").read_bytes()
    now = [text_of(one) for one in server.asked]
    assert sorted(now + failing.answered) == sorted(questions(uninterrupted))


def test_a_budget_counts_over_all_sittings(
    uninterrupted: Path, tiny_model: Path, tmp_path: Path, server: FaultyServer, errors: Errors
) -> None:
    run, count = tmp_path / "run", len(questions(uninterrupted))
    values = judged(tiny_model, uninterrupted.parent, run, server.url, **{"annotator.max_requests": 13})
    assert train("oaif", values) == 6
    assert "annotator.max_requests 13 does not allow for another request" in errors()
    assert len(server.asked) == 13
    assert resume("oaif", run) == 6
    assert "13 requests and 3,913 tokens are spent" in errors()
    kept = (run / "spent.json").read_bytes()
    (run / "spent.json").unlink()
    assert resume("oaif", run, "--annotator.max_requests", 8) == 6
    assert "8 requests and 2,408 tokens are spent" in errors()
    assert len(server.asked) == 13
    (run / "spent.json").write_bytes(kept)
    assert resume("oaif", run, "--annotator.max_requests", count - 1) == 6
    assert len(server.asked) == count - 1
    assert resume("oaif", run, "--annotator.max_requests", count, "--annotator.concurrency", 1) == 0
    assert sorted(text_of(one) for one in server.asked) == sorted(questions(uninterrupted))
    assert model_bytes(run) == model_bytes(uninterrupted)
    assert json.loads((run / "spent.json").read_text())["requests"] == count


def test_a_jury_has_a_budget_each_and_goes_on_as_if_nothing_had_been(
    tiny_model: Path, tmp_path: Path, server: FaultyServer, errors: Errors
) -> None:
    (tmp_path / "own.py").write_text("def third(prompt, response):\n    return len(response) % 3\n")
    reward = f"{tmp_path / 'own.py'}:third"
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"prompt": "p", "chosen": "abc", "rejected": "a"}\n')

    def options(run: str, limit: str = "") -> dict[str, Any]:
        first, second = (f"openai?base_url={server.url}&model={name}" for name in "AB")
        more = {
            "annotator": "jury", "annotator.of": [f"{first}{limit}", second, reward], "annotator.gold": gold,
            "annotator.agreement": 0.8,
        }  # fmt: skip
        values = judged(tiny_model, tmp_path, tmp_path / run, server.url, epochs=1, save_every=1)
        return {name: one for name, one in values.items() if not name.startswith("annotator")} | more

    assert train("oaif", options("whole")) == 0
    facts = [json.loads(line)["facts"] for line in (tmp_path / "whole/rounds.jsonl").read_text().splitlines()]
    assert sum(one["annotator/undecided"] for one in facts) > 0 and all(one["annotator/gold"] == 1 for one in facts)
    kept = [json.loads(line) for line in (tmp_path / "whole/examples.jsonl").read_text().splitlines()]
    assert sum("comparisons" not in one for one in kept) == sum(one["annotator/undecided"] for one in facts)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    assert train("oaif", options("run", "&max_requests=13")) == 6
    assert "annotator.max_requests 13 does not allow" in errors()
    run = tmp_path / "run"
    spent = [json.loads((run / f"spent-{number}.json").read_text())["requests"] for number in (1, 2)]
    assert spent[0] == 13 <= spent[1]
    again = options("run", "&max_requests=999")["annotator.of"]
    assert resume("oaif", run, *(part for one in again for part in ("--annotator.of", one))) == 0
    assert model_bytes(run) == model_bytes(tmp_path / "whole")
    assert (run / "rounds.jsonl").read_bytes() != b"" and (run / "examples.jsonl").read_bytes() == (
        tmp_path / "whole/examples.jsonl"
    ).read_bytes()


def terminate_after(requests: int, server: FaultyServer, patch: pytest.MonkeyPatch) -> None:
    """Send this process SIGTERM once a server was asked so often, at a moment when the run listens."""
    original = stop.check

    def check() -> None:
        if len(server.asked) == requests and stop._signal is None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        original()

    patch.setattr(stop, "check", check)


@pytest.mark.parametrize("method", ["oaif", "dpo"])
def test_sigterm_while_a_slow_judge_is_waited_for(
    method: str, tiny_model: Path, tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = Until(9, Reply(delay=300))
    run = tmp_path / "run"
    values = judged(tiny_model, tmp_path, run, server.url, **{"annotator.timeout": 300, "annotator.deadline": 300})
    began = time.monotonic()
    with monkeypatch.context() as patch:
        terminate_after(11, server, patch)
        assert train(method, values) == 143
    assert time.monotonic() - began < 100
    assert status(run)["state"] == "stopped"
    assert not (run / "model").exists()
    server.answers = variety
    asked_before = set(map(text_of, server.asked[:9]))
    server.asked.clear()
    assert resume(method, run) == 0
    assert not asked_before & set(map(text_of, server.asked))


@pytest.mark.parametrize(
    ("method", "fault", "message"),
    [
        ("oaif", "raise KeyError('no word')", "the function failed: KeyError: 'no word' (line 5). Mend it"),
        ("ppo", "return float('nan')", "the function returned nan; it must return a finite number"),
        ("oaif", "return None", "the function returned None; it must return a finite number"),
    ],
)
def test_a_function_that_fails_in_the_middle(
    method: str, fault: str, message: str, tiny_model: Path, tmp_path: Path, errors: Errors
) -> None:
    """Mended, the run goes on with the round it failed in, and asks nothing again that stands in the log."""
    function, rounds = write_reward(tmp_path), {"round_prompts": 4, "sampler.responses": 2}
    sound = (tmp_path / "reward.py").read_text()
    assert train(method, own(tiny_model, tmp_path, tmp_path / "whole", function, **rounds)) == 0
    (tmp_path / "other").mkdir()
    bad = tmp_path / "other" / "reward.py"
    bad.write_text(f"count = 0\ndef variety(prompt, response):\n    global count; count += 1\n    if count > 20:\n"
                   f"        {fault}\n    return min(1.0, len(set(response)) / 10)\n")  # fmt: skip
    run = tmp_path / "run"
    assert train(method, own(tiny_model, tmp_path, run, f"{bad}:variety", **rounds)) == 2
    assert message in errors()
    done = status(run)["step"]
    assert status(run)["state"] == "stopped" and done > 0
    assert (run / "checkpoints" / f"step-{done:08d}").is_dir()  # no save was due
    bad.write_text(sound)
    assert resume(method, run) == 2
    assert "--accept-changed true goes on with them" in errors()
    assert resume(method, run, "--accept-changed", "true") == 0
    assert model_bytes(run) == model_bytes(tmp_path / "whole") != {}
    assert metrics_of(run) == metrics_of(tmp_path / "whole")
    lines = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    first = {one["prompt"] for one in lines if one["round"]["number"] == 1}
    assert reward_calls(tmp_path / "other").total() <= reward_calls(tmp_path).total() - len(first)


def test_a_function_that_fails_at_once_leaves_no_run_behind(tiny_model: Path, tmp_path: Path, errors: Errors) -> None:
    (tmp_path / "reward.py").write_text("def reward(prompt, response):\n    return 1 / 0\n")
    for method in ("oaif", "ca", "ppo"):
        values = own(tiny_model, tmp_path, tmp_path / "run", f"{tmp_path / 'reward.py'}:reward")
        assert train(method, values) == 2
        assert "ZeroDivisionError: division by zero (line 2)" in errors()
        assert not (tmp_path / "run").exists()
