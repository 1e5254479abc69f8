"""`trueup evaluate`: what it measures of runs, checkpoints, models and files, and that nothing is done twice."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from support.online_runs import online, write_reward
from support.small_runs import command, run_here, settings, write_feedback

from trueup.batch.encode import Encoder, Limits
from trueup.feedback.condition import Condition
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Prompt
from trueup.models.load import load

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in evaluated.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*more: object, prompts: str = "prompts.jsonl", output: str = "out") -> dict[str, Any]:
    asked = ("--prompts", prompts) if prompts else ()
    assert command("evaluate", *more, *asked, "--output", output, "--max-new-tokens", 6) == 0
    found: dict[str, Any] = json.loads(Path(output, "evaluation.json").read_text())
    return found


def test_everything_that_has_a_name_side_by_side(folder: Path, tiny_model: Path, capsys: Captured) -> None:
    step = sorted(Path("tr-dpo/checkpoints").iterdir())[0]
    names = ["dpo", "tr-dpo", str(step), "broken", str(tiny_model)]
    found = evaluate(*names, "--reward", "rewards.py:brevity", "--responses", 2, "--fluency", "other")
    told = capsys.readouterr()
    assert [row["name"] for row in found["models"]] == names
    assert [row["step"] for row in found["models"]] == [None, None, int(step.name[-8:]), 6, None]
    assert "warning: broken is not done: it is taken as it was after step 6 of 12" in told.err
    assert "to draw: 240 responses of at most 6 tokens to 24 prompts" in told.err
    rows = [json.loads(line) for line in Path("out/responses.jsonl").read_text().splitlines()]
    assert len(rows) == found["prompts"] == 24
    assert read_feedback(["out/responses.jsonl"]).examples
    for name, row in zip(names, found["models"], strict=True):
        texts = [[one["content"] for one in each["responses"] if one["source"] == name] for each in rows]
        assert all(len(several) == 2 for several in texts)
        means = [fmean(-len(text) for text in several) for several in texts]
        assert row["reward"]["value"] == pytest.approx(fmean(means))
        assert row["words"]["value"] == pytest.approx(fmean(fmean(len(t.split()) for t in s) for s in texts))
        assert row["perplexity"] > 1
    assert len(found["rewarded"]) == 10
    first, pair = found["models"], found["rewarded"][0]
    gap = first[0]["reward"]["value"] - first[1]["reward"]["value"]
    assert pair["difference"]["value"] == pytest.approx(gap)
    assert pair["difference"]["low"] <= gap <= pair["difference"]["high"]
    assert all(row["p"] <= row["p_corrected"] <= 1 for row in found["rewarded"])
    assert [row.get("reference") for row in first] == [str(tiny_model)] * 4 + [None]
    assert first[0]["kl"]["value"] > 3 * first[0]["kl"]["error"] > 0
    assert "dpo against tr-dpo" in told.out and "held-out feedback" not in told.out


def test_what_is_known_is_not_done_again_and_what_is_new_is(folder: Path, tiny_model: Path, capsys: Captured) -> None:
    body = "with open('calls', 'a') as file:\n        file.write('x')\n    return -len(response)\n"
    Path("counting.py").write_text(f"def brevity(prompt, response):\n    {body}")
    more = ("--reward", "counting.py:brevity", "--held-out", "pairs.jsonl")
    once = evaluate("dpo", tiny_model, *more)
    calls = len(Path("calls").read_text())
    assert calls == 24 * 2 + 24 * 2
    capsys.readouterr()
    again = evaluate("dpo", tiny_model, *more, "--overwrite")
    said = capsys.readouterr().err
    assert again == once and "sampling" not in said and "reading" not in said
    three = evaluate("dpo", "tr-dpo", tiny_model, *more, "--overwrite")
    said = capsys.readouterr().err
    assert "sampling tr-dpo" in said and "sampling dpo" not in said
    assert len(Path("calls").read_text()) == calls + 24
    assert [three["models"][0], three["models"][2]] == once["models"]
    evaluate("dpo", tiny_model, *more, "--seed", 1, "--overwrite")
    assert "sampling dpo" in capsys.readouterr().err
    assert command("evaluate", "dpo", "--prompts", "prompts.jsonl", "--output", "out") == 2
    assert "out/evaluation.json is there already" in capsys.readouterr().err


def test_a_model_does_not_diverge_from_itself(folder: Path, tiny_model: Path) -> None:
    found = evaluate(tiny_model, "other", "--reference", tiny_model, "--held-out", "pairs.jsonl")
    same, other = found["models"]
    assert (same["kl"]["value"], same["kl"]["error"]) == (0.0, 0.0)
    assert other["kl"]["value"] > 0
    assert same["implicit_reward"]["all"]["pairs"]["accuracy"]["value"] == 0  # equal rewards find nothing
    refused = evaluate(tiny_model, "--reference", "other", "--temperature", 0.5, output="cold")["models"][0]["kl"]
    assert "temperature 1" in refused["refused"]


@pytest.mark.parametrize("prompt", ["say 1:", "say 22:"])
def test_divergence_is_that_of_the_distributions(folder: Path, tiny_model: Path, prompt: str) -> None:
    """Of one token the sum over the vocabulary of p log(p / q), within four standard errors of many prompts."""
    Path("same.jsonl").write_text("".join(f'{{"prompt": "{prompt}{" " * at}"}}\n' for at in range(2)))
    exact, encoded = [], None
    for at in range(2):
        log_ps = []
        for name in ("dpo/model", str(tiny_model)):
            loaded = load(name, device=torch.device("cpu"))
            encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(512))
            encoded = encoder.prompt_ids(Prompt(prompt + " " * at))
            network: Any = loaded.network
            with torch.no_grad():
                logits = network(torch.tensor([encoded])).logits[0, -1].double()
            log_ps.append(logits[: len(loaded.tokenizer)].log_softmax(-1))
        exact.append((log_ps[0].exp() * (log_ps[0] - log_ps[1])).sum().item())
    command_line = (
        "dpo", "--prompts", "same.jsonl", "--output", "kl", "--responses", 800, "--max-new-tokens", 1,
    )  # fmt: skip
    assert command("evaluate", *command_line) == 0
    found = json.loads(Path("kl/evaluation.json").read_text())["models"][0]["kl"]
    assert found["value"] == pytest.approx(fmean(exact), rel=0.15)


def test_held_out_feedback_is_measured_by_file_and_against_others(folder: Path, capsys: Captured) -> None:
    more = [("--held-out", f"{name}.jsonl") for name in ("pairs", "rankings", "points")]
    found = evaluate("dpo", "--reward", "rewards.py:brevity", *sum(more, ()))
    told = " ".join(capsys.readouterr().out.split())
    assert "held-out feedback | pairs right | sure, off by | best of n | labels right | Brier of labels" in told
    assert "implicit reward of dpo, rankings.jsonl |" in told and "reward, points.jsonl |" in told
    for measured in (found["models"][0]["implicit_reward"], found["reward_on_held_out"]):
        assert set(measured) == {"all", "pairs.jsonl", "rankings.jsonl", "points.jsonl"}
        assert measured["all"]["pairs"]["pairs"] == 24 + 3 * 24
        assert measured["rankings.jsonl"]["best_of_n"].keys() == {"value", "low", "high"}
        assert "best_of_n" not in measured["pairs.jsonl"]
        assert set(measured["points.jsonl"]) == {"labels"} and "brier" in measured["all"]["labels"]
    implicit = found["models"][0]["implicit_reward"]
    assert implicit["pairs.jsonl"]["pairs"]["accuracy"]["value"] > 0.9  # it was trained on them
    by_length = found["reward_on_held_out"]["pairs.jsonl"]["pairs"]["accuracy"]["value"]
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert by_length == fmean(len(row["chosen"]) < len(row["rejected"]) for row in rows)


def test_a_model_with_a_condition_is_asked_with_it(
    tiny_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here("ca", settings("ca", tiny_model, write_feedback(folder / "."), folder / "ca", steps=2, epochs=None))
    asked: list[str] = []
    applied = Condition.applied

    def spy(self: Condition, prompt: Prompt, *more: Any) -> Prompt:
        asked.append(str(prompt.content))
        return applied(self, prompt, *more)

    monkeypatch.setattr(Condition, "applied", spy)
    found = evaluate("ca", tiny_model)
    assert len(set(asked)) == 24 and len(asked) >= 2 * 24  # sampled, and read for the divergence
    assert found["models"][0]["kl"]["value"] != 0


def test_who_judged_a_run_is_not_to_say_how_good_it_is(tiny_model: Path, folder: Path, capsys: Captured) -> None:
    reward = write_reward(folder / "own")
    run_here("rloo", online(tiny_model, folder / "own", folder / "rloo"))
    capsys.readouterr()
    evaluate("rloo", "dpo", "--reward", reward)
    said = capsys.readouterr().err
    assert f"warning: rloo was trained by the judgements of this very reward, {reward}" in said
    assert "dpo was trained" not in said.replace("rloo was trained", "")


def test_a_dry_run_says_what_it_would_take(folder: Path, capsys: Captured) -> None:
    judge = ("--judge", "openai", "--judge.base_url", "http://127.0.0.1:9/v1", "--judge.model", "J")
    more = ("--rate", "helpfulness", "--reward", "rewards.py:brevity", "--dry-run", "--output", "dry")
    names = ("dpo", "tr-dpo", "other")
    assert command("evaluate", *names, "--prompts", "prompts.jsonl", *judge, *more) == 0
    said = capsys.readouterr().err
    assert "to draw: 72 responses" in said
    assert "to judge: 72 pairs and 72 ratings, each in both orders: at most 288 requests" in said
    assert "to score: 72 responses" in said and not Path("dry").exists()
