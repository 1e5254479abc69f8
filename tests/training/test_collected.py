"""Sample, score, train in one command: FA, RWR, CA and RRHF from prompts and a reward."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.online_runs import reward_calls, write_prompts, write_reward
from support.small_runs import metrics_of, model_bytes, rows_of, run_here, snapshot

from trueup.feedback.condition import read_condition
from trueup.training import api, rounds

METHODS: dict[str, dict[str, Any]] = {
    "fa": {}, "rwr": {}, "ca": {"condition": " {reward}"},
    "rrhf": {"sampler.decode": "diverse-beam", "sampler.responses": 4}, "dpo": {},
    "kto": {"desirable_from": 0.5}, "ulma": {"scale": "min-max"},
}  # fmt: skip


def values(model: Path, folder: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": str(model), "output": str(output), "prompts": [str(write_prompts(folder))],
        "reward": f"{folder / 'reward.py'}:variety", "sampler.responses": 3, "sampler.max_new_tokens": 8,
        "batch_size": 4, "epochs": 2, "learning_rate": 3e-3, "save_every": 2, "seed": 1, **more,
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_prompts_and_a_reward_are_enough(method: str, tiny_model: Path, tmp_path: Path) -> None:
    write_reward(tmp_path)
    run_here(method, values(tiny_model, tmp_path, tmp_path / "run", **METHODS[method]))
    rows = rows_of(tmp_path / "run" / "examples.jsonl")
    assert len(rows) == 12
    told = [(one["content"], one["score"]) for row in rows for one in row["responses"]]
    assert told == [(text, min(1.0, len(set(text)) / 10)) for text, _ in told]
    assert reward_calls(tmp_path).total() == len(told)  # each once
    assert "loss" in metrics_of(tmp_path / "run")[-1]
    assert (read_condition(tmp_path / "run" / "model") is not None) == (method == "ca")


def test_it_trains_as_on_the_file_that_it_wrote(tiny_model: Path, tmp_path: Path) -> None:
    write_reward(tmp_path)
    given = values(tiny_model, tmp_path, tmp_path / "run")
    run_here("rwr", given)
    kept = {key: value for key, value in given.items() if key.partition(".")[0] not in ("prompts", "reward", "sampler")}
    data = [str(tmp_path / "run" / "examples.jsonl")]
    run_here("rwr", kept | {"output": str(tmp_path / "again"), "data": data})
    assert model_bytes(tmp_path / "again") == model_bytes(tmp_path / "run") != {}


def test_a_data_set_s_own_responses_join_those_sampled(tiny_model: Path, tmp_path: Path) -> None:
    """RRHF's P + DP: one ranking a prompt, all of it scored by the one reward."""
    write_reward(tmp_path)
    prompts = [row["prompt"] for row in rows_of(write_prompts(tmp_path))]
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": one, "chosen": "abc", "rejected": "aa"} for one in prompts[:5]]
    rows.append({"prompt": "another:", "chosen": "xyz", "rejected": "x"})
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_here("rrhf", values(tiny_model, tmp_path, tmp_path / "run", data=[str(pairs)]))
    made = {row["prompt"]: row["responses"] for row in rows_of(tmp_path / "run" / "examples.jsonl")}
    assert set(made) == {*prompts, "another:"}
    for prompt in (*prompts[:5], "another:"):
        texts = {one["content"]: one["score"] for one in made[prompt]}
        assert texts["xyz" if prompt == "another:" else "abc"] == 0.3
        assert len(texts) > 2


def test_killed_while_it_samples_it_asks_for_the_rest_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "CHUNK", 2)
    begun, copy = tmp_path / "begun", tmp_path / "killed"
    write_reward(begun)
    with snapshot(begun / "run", copy, lines=2, looks=4, file="rounds.jsonl"):
        run_here("fa", values(tiny_model, begun, begun / "run"))
    before, paid = reward_calls(begun), reward_calls(copy)
    assert len(rows_of(copy / "run" / "rounds.jsonl")) == 2 and not (copy / "run" / "checkpoints").exists()
    api.resume(copy / "run", quiet=True)
    assert model_bytes(copy / "run") == model_bytes(begun / "run") != {}
    for file in ("examples.jsonl", "rounds.jsonl"):
        assert (copy / "run" / file).read_bytes() == (begun / "run" / file).read_bytes()
    paid += reward_calls(begun) - before
    assert (paid - before).total() <= 6  # at most the chunk under way
