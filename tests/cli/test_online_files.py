"""Files that `trueup train` gathers from and into: damaged, changed, full, of another run; and everything at once."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from support.faulty_feedback import write
from support.faulty_server import FaultyServer, Reply
from support.judge_answers import Until, text_of, variety
from support.judged_runs import judged, one_line, own, resume, train
from support.online_runs import reward_calls, write_prompts, write_reward
from support.small_runs import metrics_of, model_bytes

from trueup.files import append
from trueup.training import rounds

Captured = pytest.CaptureFixture[str]
Errors = Callable[[], str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_time: None) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def errors(capsys: Captured) -> Errors:
    return lambda: one_line(capsys.readouterr().err)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    values = own(tiny_model, folder, folder / "run", write_reward(folder))
    assert train("oaif", values) == 0
    return values


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def full_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def limited(path: Path, content: bytes, durable: bool) -> None:
        written.extend([path] * durable)  # metrics are not
        full = durable and len(written) >= number
        append(path, content[: len(content) // 2] if full else content, durable)
        if full:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("trueup.files.append", limited)


@pytest.mark.parametrize("write", [5, 6])
def test_a_disk_that_is_full(
    write: int, uninterrupted: dict[str, Any], tmp_path: Path, errors: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In examples.jsonl and in rounds.jsonl of the third round."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        full_at(write, patch)
        assert train("oaif", uninterrupted | {"output": run}) == 4
    assert errors() == (
        f"{run}/examples.jsonl: what was gathered cannot be written: No space left on device. Make room, and go on "
        "with --resume"
    )
    assert json.loads((run / "status.json").read_text()) == {"state": "stopped", "step": 2, "steps": 6}
    assert len(lines_of(run / "rounds.jsonl")) == 2
    assert resume("oaif", run) == 0
    assert model_bytes(run) == model_bytes(uninterrupted["output"]) != {}
    assert (run / "examples.jsonl").read_bytes() == (uninterrupted["output"] / "examples.jsonl").read_bytes()


def changed_score(text: str) -> str:
    first, *rest = text.split("\n")
    row = json.loads(first)
    row["responses"][0]["score"] += 0.25
    return "\n".join([json.dumps(row, ensure_ascii=False), *rest])


DAMAGE: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "cut": ("examples.jsonl", lambda text: text[:-40], "examples; rounds.jsonl tells of"),
    "empty": ("examples.jsonl", lambda text: "", "holds 0 examples"),
    "gone": ("examples.jsonl", lambda text: None, "holds 0 examples"),
    "no JSON": ("examples.jsonl", lambda text: "x" + text, "examples.jsonl:1 is damaged"),
    "another score": ("examples.jsonl", changed_score, "are not as round 1 wrote them"),
    "a line less": ("examples.jsonl", lambda text: text.split("\n", 1)[1], "are not as round 1 wrote them"),
    "no UTF-8": ("examples.jsonl", lambda text: text.replace("say", "\udcff", 1), "examples.jsonl:1 is damaged"),
    "index gone": ("rounds.jsonl", lambda text: None, "from line 1 on that rounds.jsonl does not tell of"),
    "no index": ("rounds.jsonl", lambda text: "", "from line 1 on that rounds.jsonl does not tell of"),
    "half an index": ("rounds.jsonl", lambda text: text[: len(text) // 3], "that rounds.jsonl does not tell of"),
    "no JSON in the index": ("rounds.jsonl", lambda text: text.replace("{", "", 1), "rounds.jsonl:1 is damaged"),
    "another index": ("rounds.jsonl", lambda text: '{"step": 1}\n' * 6, "rounds.jsonl:1 is damaged: it has no"),
    "a round twice": ("rounds.jsonl", lambda text: text.replace('"round": 2', '"round": 1'), "rounds.jsonl:2 is dam"),
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(uninterrupted: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        full_at(11, patch)
        assert train("oaif", uninterrupted | {"output": run, "save_every": 2}) == 4
    return run


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_log_that_was_damaged(damage: str, stopped: Path, tmp_path: Path, errors: Errors) -> None:
    """It is refused and named; nothing of it is cut off, and nothing made up."""
    run = copy(stopped, tmp_path)
    name, change, words = DAMAGE[damage]
    file = run / name
    changed = change(file.read_text())
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed.encode("utf-8", "surrogateescape"))
    before = {path: path.read_bytes() for path in run.glob("*.jsonl")}
    assert resume("oaif", run) == 4
    message = errors()
    assert words in message and str(run) in message
    assert "Restore the folder from a backup, or begin a new run" in message
    assert {path: path.read_bytes() for path in run.glob("*.jsonl")} == before


def copy(run: Path, folder: Path) -> Path:
    return Path(copytree(run, folder / "run"))


def test_killed_before_its_first_round_was_vouched_for(uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    """Examples without a line in rounds.jsonl, which there is not even a file of yet, are gathered again."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        full_at(1, patch)
        assert train("oaif", uninterrupted | {"output": run}) == 4
    first = [one for one in lines_of(uninterrupted["output"] / "examples.jsonl") if one["round"]["number"] == 1]
    (run / "examples.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in first))
    (run / "rounds.jsonl").unlink(missing_ok=True)
    assert resume("oaif", run) == 0
    assert (run / "examples.jsonl").read_bytes() == (uninterrupted["output"] / "examples.jsonl").read_bytes()
    assert model_bytes(run) == model_bytes(uninterrupted["output"]) != {}


def test_what_another_run_gathered_is_not_touched(
    uninterrupted: dict[str, Any], tmp_path: Path, errors: Errors
) -> None:
    for name in ("examples.jsonl", "rounds.jsonl", "spent.json"):
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        (run / name).write_text("mine\n")
        for method in ("oaif", "ca"):
            assert train(method, uninterrupted | {"output": run}) == 2
            assert "holds what another run gathered" in errors()
        assert (run / name).read_text() == "mine\n"


def test_prompts_that_have_changed(uninterrupted: dict[str, Any], tmp_path: Path, errors: Errors) -> None:
    run = tmp_path / "run"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(uninterrupted["prompts"].read_text())
    with pytest.MonkeyPatch.context() as patch:
        full_at(5, patch)
        assert train("oaif", uninterrupted | {"output": run, "prompts": prompts}) == 4
    errors()
    text = prompts.read_text()
    prompts.write_text(text.replace("say", "tell", 1))
    assert resume("oaif", run) == 2
    assert f"because these have changed since: {prompts} (was " in errors()
    prompts.write_text(text)
    assert resume("oaif", run) == 0
    assert model_bytes(run) == model_bytes(uninterrupted["output"])


def test_prompts_twice_and_none_at_all(tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    prompts = write_prompts(tmp_path, 4)
    prompts.write_text(prompts.read_text() * 3)
    function = write_reward(tmp_path)
    for method in ("oaif", "rwr"):
        assert train(method, own(tiny_model, tmp_path, tmp_path / method, function, epochs=1)) == 0
        assert "8 duplicate prompts left out" in capsys.readouterr().err
        asked_for = [one["prompt"] for one in lines_of(tmp_path / method / "examples.jsonl")]
        assert len(asked_for) == len(set(asked_for)) <= 4
    prompts.write_text("")
    for method in ("oaif", "rwr"):
        assert train(method, own(tiny_model, tmp_path, tmp_path / "empty", function)) == 2
        assert "prompts.jsonl: the file is empty" in one_line(capsys.readouterr().err)
        assert not (tmp_path / "empty").exists()


def replay(uninterrupted: dict[str, Any], file: Path, output: Path, **more: Any) -> int:
    kept = {name: value for name, value in uninterrupted.items() if name not in ("prompts", "reward")}
    return train("oaif", {**kept, "source": "replay", "data": file, "output": output, **more})


def test_a_replay_of_what_is_no_log(uninterrupted: dict[str, Any], tmp_path: Path, errors: Errors) -> None:
    file = tmp_path / "file.jsonl"
    good = (uninterrupted["output"] / "examples.jsonl").read_text()
    bad = [
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "file.jsonl:1: no round stands there"),
        ("Lorem ipsum\n", "file.jsonl:1: no round stands there"),
        (good + '{"prompt": "a"}\n', f"file.jsonl:{good.count(chr(10)) + 1}: no round stands there"),
        (good.replace('"number": 1', '"number": 0', 1), "file.jsonl:1: no round stands there"),
        (good.replace('"responses": [', '"responses": 7, "x": [', 1), "1"),
        ("\n", "holds no examples"),
    ]
    for content, words in bad:
        file.write_text(content)
        assert replay(uninterrupted, file, tmp_path / "run") == 2
        assert words in errors()
        assert not (tmp_path / "run").exists()


def test_a_replay_with_other_settings_is_told_of(
    uninterrupted: dict[str, Any], tmp_path: Path, capsys: Captured
) -> None:
    file = uninterrupted["output"] / "examples.jsonl"
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, ""), ({"save_every": 1, "run_name": "x"}, ""), ({"batch_size": 2}, "batch_size (was 4, is 2)"),
        ({"round_passes": 2, "beta": 0.5}, "round_passes (was 1, is 2), beta (was nothing, is 0.5)"),
        ({"objective": "ipo"}, "objective (was 'dpo', is 'ipo')"),
    ]  # fmt: skip
    for number, (more, words) in enumerate(cases):
        assert replay(uninterrupted, file, tmp_path / str(number), **more) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "ends with other weights" in line]
        assert len(told) == bool(words)
        assert all(line.startswith("warning: ") and words in line for line in told)
        assert (model_bytes(tmp_path / str(number)) == model_bytes(uninterrupted["output"])) == (not words)


def test_a_replay_of_a_run_that_was_not_finished(
    uninterrupted: dict[str, Any], tmp_path: Path, capsys: Captured
) -> None:
    """It takes the steps that are told of, and does not take those that are missing for a policy that collapsed."""
    values = uninterrupted | {"epochs": 6}
    assert train("oaif", values | {"output": tmp_path / "long"}) == 0
    lines = lines_of(tmp_path / "long" / "examples.jsonl")
    file = tmp_path / "part.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in lines if one["round"]["number"] <= 7))
    assert replay(values, file, tmp_path / "run") == 0
    assert "part.jsonl ends with round 7 of 18" in capsys.readouterr().err
    ours, theirs = metrics_of(tmp_path / "run"), metrics_of(tmp_path / "long")
    assert [one.get("loss") for one in ours[:7]] == [one.get("loss") for one in theirs[:7]]
    assert not any("loss" in one for one in ours[7:])


def test_everything_at_once_fails_in_the_middle(
    tiny_model: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a data set's responses among those judged: what was judged is not asked for again, nor paid for twice."""
    monkeypatch.setattr(rounds, "CHUNK", 4)
    prompts = [row["prompt"] for row in lines_of(write_prompts(tmp_path))]
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": one, "chosen": "abcde", "rejected": "aa"} for one in [*prompts[:5], "another:"]]
    write(data, rows)
    with FaultyServer(variety) as server:
        values = judged(tiny_model, tmp_path, tmp_path / "whole", server.url, data=data, **{"annotator.cache": "false"})
        assert train("dpo", values) == 0
        questions = Counter(map(text_of, server.asked))
        made = {one["prompt"]: one for one in lines_of(tmp_path / "whole" / "examples.jsonl")}
        assert {*prompts[:5], "another:"} <= set(made)
        assert {"abcde", "aa"} <= {one["content"] for one in made["another:"]["responses"]}

        server.asked.clear()
        sound = questions.total() * 3 // 4
        failing = server.answers = Until(sound, Reply(401))
        run = tmp_path / "run"
        assert train("dpo", values | {"output": run, "annotator.cache": "true"}) == 6
        said = capsys.readouterr().err
        assert "401" in one_line(said)
        assert f"go on with: trueup train dpo --resume {run}" in said
        assert json.loads((run / "status.json").read_text())["state"] == "stopped"
        assert len(lines_of(run / "rounds.jsonl")) >= 1

        data.write_text(data.read_text().replace("abcde", "abcdx"))
        assert resume("dpo", run) == 2
        assert f"{data} (was" in one_line(capsys.readouterr().err)
        data.write_text(data.read_text().replace("abcdx", "abcde"))

        server.answers = variety
        server.asked.clear()
        assert resume("dpo", run, "--annotator.max_requests", questions.total() - sound) == 6
        assert f"{sound} requests and" in one_line(capsys.readouterr().err)
        assert not server.asked
        assert resume("dpo", run, "--annotator.max_requests", questions.total()) == 0
        assert Counter(map(text_of, server.asked)) + Counter(failing.answered) == questions
    assert model_bytes(run) == model_bytes(tmp_path / "whole") != {}


def test_scores_that_are_all_the_same(tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    """Which is known only when all has been gathered; that was paid for, and can be used in another way."""
    (tmp_path / "reward.py").write_text("def reward(prompt, response):\n    return 1.0\n")
    values = own(tiny_model, tmp_path, tmp_path / "run", f"{tmp_path / 'reward.py'}:reward")
    assert train("ca", values) == 2
    said = capsys.readouterr().err
    assert one_line(said).startswith("all 24 rewards are 1. Give feedback")
    file = tmp_path / "run" / "examples.jsonl"
    assert f"{file} is feedback like any other: for other settings give it as --data" in said
    kept = {
        name: value for name, value in values.items() if name.partition(".")[0] not in ("prompts", "reward", "sampler")
    }
    assert train("sft", kept | {"data": file, "output": tmp_path / "again"}) == 0


@pytest.mark.parametrize("source", ["online", "offline"])
@pytest.mark.parametrize("method", ["kto", "ulma"])
def test_scores_that_a_method_cannot_use(
    method: str, source: str, tiny_model: Path, tmp_path: Path, errors: Errors
) -> None:
    """Said before anything is sampled, and not by a run that learns nothing."""
    values = own(tiny_model, tmp_path, tmp_path / "run", write_reward(tmp_path), source=source)
    assert train(method, values) == 2
    assert errors().startswith(f"annotator function gives scores, and method {method} as it is set can use none")
    assert not (tmp_path / "run").exists()
    assert not reward_calls(tmp_path)


def test_a_reward_model_answers_no_prompts(tiny_model: Path, tmp_path: Path, errors: Errors) -> None:
    values = own(tiny_model, tmp_path, tmp_path / "run", write_reward(tmp_path))
    assert train("reward-model", values) == 2
    assert errors().startswith("method reward-model trains a model that scores and writes nothing")
    assert not (tmp_path / "run").exists()
