"""What the policy writes while it trains: measured by what is known of it, resumed to the bit, and best by it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support import small_runs
from support.judged_runs import one_line
from support.online_runs import online, write_reward
from support.several_processes import run_all
from support.tiny_models import save_tiny_model

from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Sampled

SAID = "def letters(prompt, response):\n    return len(set(response))\n"


@pytest.fixture
def values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "reward.py").write_text(SAID)
    (tmp_path / "asked.jsonl").write_text("".join(f'{{"prompt": "tell {at}:"}}\n' for at in range(8)))
    data = small_runs.write_feedback(tmp_path, easy=True)
    more = {
        "eval_prompts": [str(tmp_path / "asked.jsonl")], "eval_by": f"{tmp_path / 'reward.py'}:letters",
        "eval_every": 4, "sampler.max_new_tokens": 8, "learning_rate": 3e-2,
    }  # fmt: skip
    return small_runs.settings("dpo", tiny_model, data, tmp_path / "run", **more)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [one for one in small_runs.metrics_of(folder) if "eval_words" in one]


def test_an_offline_run_is_measured_by_what_it_writes(values: dict[str, Any], tmp_path: Path) -> None:
    """At first it is the start model: no divergence, and neither wins; and measuring changes no weight."""
    plain = {name: one for name, one in values.items() if not name.startswith(("eval_", "sampler"))}
    small_runs.run_here("dpo", plain | {"output": str(tmp_path / "plain")})
    small_runs.run_here("dpo", values | {"keep_best": "eval_score", "early_stopping": 9})
    run = tmp_path / "run"
    found = lines(run)
    assert [one["step"] for one in found] == [0, 4, 8, 12]
    first = found[0]
    assert (first["eval_sequence_kl"], first["eval_sequence_kl_error"], first["eval_wins"]) == (0, 0, 0.5)
    started = [json.loads(line) for line in (run / "start_responses.jsonl").read_text().splitlines()]
    texts = [one["responses"][0]["content"] for one in started]
    assert [one["prompt"] for one in started] == [f"tell {at}:" for at in range(8)]
    assert first["eval_score"] == fmean(len(set(text)) for text in texts)
    assert first["eval_words"] == fmean(len(text.split()) for text in texts)
    assert all(one["eval_sequence_kl_error"] > 0 and one["eval_tokens"] <= 8 for one in found[1:])
    assert found[-1]["eval_sequence_kl"] > 0.1
    best = max(found[1:], key=lambda one: one["eval_score"])
    last = sorted((run / "checkpoints").glob("step-*"))[0].name
    assert last == f"step-{best['step']:08d}" or best["step"] == 12
    again = values | {"output": str(tmp_path / "again")}
    small_runs.run_here("dpo", again)
    assert small_runs.model_bytes(tmp_path / "again") == small_runs.model_bytes(tmp_path / "plain")
    assert lines(tmp_path / "again") == found


def test_a_rubric_of_ones_own_scores_what_is_written(values: dict[str, Any], tmp_path: Path) -> None:
    """By options as of any annotator; its judges and its file are sealed."""
    save_tiny_model(tmp_path / "judge", max_position_embeddings=4096)
    (tmp_path / "criteria.txt").write_text("coherence=2\nIt names a fruit.\n")
    rubric = {"eval_by": "rubric", "eval_by.of": f"local:{tmp_path / 'judge'}"}
    values |= rubric | {"eval_by.file": str(tmp_path / "criteria.txt"), "epochs": 1}
    assert small_runs.command("train", "dpo", *small_runs.options(values)) == 0
    assert [0 < one["eval_score"] < 1 for one in lines(tmp_path / "run")] == [True] * 3
    sealed = json.loads((tmp_path / "run/sealed.json").read_text())
    assert any(name.startswith("eval_by.") and "criteria.txt" in name for name in sealed)


@pytest.mark.parametrize("method", ["dpo", "rloo"])
def test_prompts_that_are_trained_on_are_warned_of(
    method: str, values: dict[str, Any], tmp_path: Path, told: list[str]
) -> None:
    """Of feedback, and of prompts that an online run samples responses to."""
    if method == "rloo":
        write_reward(tmp_path)
        kept = {name: values[name] for name in ("eval_prompts", "eval_every")}
        values = online(Path(values["model"]), tmp_path, tmp_path / "run", **kept)
    known = Path((values.get("prompts") or values["data"])[0]).read_text().splitlines()[:3]
    rows = [json.dumps({"prompt": json.loads(line)["prompt"]}) for line in known]
    (tmp_path / "asked.jsonl").write_text("\n".join([*rows, '{"prompt": "another"}']))
    small_runs.run_here(method, values | {"epochs": 0.5})
    (line,) = [one for one in told if "also trained on" in one]
    assert line.startswith("3 of 4 evaluation examples have a prompt") and "says little of new prompts" in line
    assert lines(tmp_path / "run")


@pytest.mark.parametrize("before", [3, 8])
def test_a_run_that_was_broken_off_measures_the_same(values: dict[str, Any], tmp_path: Path, before: int) -> None:
    small_runs.run_here("dpo", values)
    broken = values | {"output": str(tmp_path / "broken"), "save_every": 2}
    small_runs.break_off("dpo", broken, before_step=before)
    started = tmp_path / "broken" / "start_responses.jsonl"
    written = started.read_bytes()
    started.unlink()  # it is made again
    assert small_runs.command("train", "dpo", "--resume", tmp_path / "broken") == 0
    assert started.read_bytes() == written
    assert lines(tmp_path / "broken") == lines(tmp_path / "run")
    assert small_runs.model_bytes(tmp_path / "broken") == small_runs.model_bytes(tmp_path / "run")


def test_methods_without_a_reference_are_measured_from_the_start_model(values: dict[str, Any], tmp_path: Path) -> None:
    """And without a judge by divergence and length alone."""
    data = small_runs.write_feedback(tmp_path, easy=True)
    del values["eval_by"]
    kept = {name: one for name, one in values.items() if name.startswith(("eval_", "sampler"))}
    sft = small_runs.settings("sft", Path(values["model"]), data, tmp_path / "sft", learning_rate=3e-2, **kept)
    small_runs.run_here("sft", sft)
    first, *_, last = lines(tmp_path / "sft")
    assert first["eval_sequence_kl"] == 0 < last["eval_sequence_kl"] and "eval_score" not in last


@pytest.mark.many
def test_two_processes_measure_together(values: dict[str, Any], tmp_path: Path) -> None:
    alone, two = (values | {"output": str(tmp_path / name), "steps": 4, "epochs": None} for name in ("one", "two"))
    small_runs.run_here("dpo", alone)
    run_all(tmp_path, 2, [("dpo", two)])
    one, other = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [row["step"] for row in one] == [row["step"] for row in other] == [0, 4]
    assert one[0] == pytest.approx(other[0], abs=1e-5)


REFUSED = {
    "no prompts": ({"eval_prompts": []}, "eval_by judges what is written to eval_prompts"),
    "empty": ({"eval_prompts": ["empty.jsonl"]}, "empty.jsonl"),
    "not there": ({"eval_prompts": ["gone.jsonl"]}, "gone.jsonl: no such file"),
    "a function that is not there": ({"eval_by": "reward.py:gone"}, "has no function gone"),
    "twice": ({"eval_by": "jury", "eval_by.of": ["world:gold"] * 2}, "of names 'gold' twice"),
    "an unknown name": ({"eval_by": "goold"}, "eval_by 'goold' is not known"),
    "no such metric": ({"keep_best": "eval_scores"}, "give one of eval_wins, eval_score, eval_loss"),
}  # fmt: skip


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    more: dict[str, Any], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").write_text("")
    given = values | {"data": [str(tmp_path / "pairs.jsonl")]} | more
    assert small_runs.command("train", "dpo", *small_runs.options(given)) == 2
    assert words in one_line(capsys.readouterr().err) and not Path("run/run.yaml").exists()


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_an_online_run_tells_how_far_its_sampler_is_from_its_trainer(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """Next to nothing in process; and what was planted, with a warning, of a sampler that tells of other weights."""
    original = InProcessSampler.sample

    def sample(self: InProcessSampler, *given: Any, **more: Any) -> list[tuple[Sampled, ...]]:
        return [
            tuple(replace(one, log_probs=tuple(value - off for value in one.log_probs or ())) for one in several)
            for several in original(self, *given, **more)
        ]

    monkeypatch.setattr(InProcessSampler, "sample", sample)
    write_reward(tmp_path)
    small_runs.run_here(
        "oaif",
        online(tiny_model, tmp_path, tmp_path / "run",
            **{"annotator.function": f"{tmp_path / 'reward.py'}:variety", "sampler.temperature": 0.7}),
    )  # fmt: skip
    rounds = [json.loads(line)["facts"] for line in (tmp_path / "run/rounds.jsonl").read_text().splitlines()]
    assert len(rounds) == 6
    for one in rounds:
        assert one["online/gap"] == pytest.approx(off, abs=1e-5) and one["online/gap_max"] == pytest.approx(
            off, abs=1e-4
        )
        assert one["online/gap_kl"] == pytest.approx(math.expm1(off) - off, abs=1e-5)
    warnings = json.loads((tmp_path / "run/status.json").read_text()).get("warnings", [])
    assert any("log-probabilities 0.3 nats apart" in one for one in warnings) == (off > 0)
