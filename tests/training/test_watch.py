"""A run whose figures mean trouble says so while it goes and before it names its model; a healthy one says nothing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support import small_runs
from support.online_runs import online, write_prompts
from support.tiny_reward_models import save_reward

from trueup.settings.run_settings import WatchSettings
from trueup.training import api
from trueup.training.watch import REMEDIES, Watch

REWARDS = '''
def short(prompt, response):
    return -abs(len(response) - 2.0)


def letter(prompt, response):
    """The same for every prompt, and soon the only one."""
    return float(response.count("e"))


def variety(prompt, response):
    return min(1.0, len(set(response)) / 10)
'''
SAMPLED = {"batch_size": 6, "epochs": 4, "sampler.max_new_tokens": 8}
PLANTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "drift": ("dpo", {"learning_rate": 10}, "the log-ratio to the reference is -"),
    "margin": ("dpo", {"learning_rate": 10, "beta": 10}, "chosen and rejected responses are "),
    "chosen": ("kto", {"learning_rate": 10}, "chosen responses are "),
    "nothing": ("kto", {"learning_rate": 1e-6}, "nothing was learned: no log-probability or score moved by more"),
    "nothing of an adapter": ("dpo", {"learning_rate": 1e-6, "lora.rank": 4}, "nothing was learned"),
    "nothing online": ("oaif", {"epochs": None, "steps": 1, "learning_rate": 5e-7}, "nothing was learned"),
    "nothing without a reference": ("sft", {"learning_rate": 1e-6}, "nothing was learned"),
    "length": (
        "rloo",
        {**SAMPLED, "annotator.function": "short", "learning_rate": 0.03, "kl_coef": 0.0, "epochs": 6,
         "sampler.max_new_tokens": 16},
        "responses have ",
    ),
    "alike": ("rloo", SAMPLED | {"annotator.function": "letter", "learning_rate": 0.1}, "of the responses differ"),
    "sampled-drift": (
        "reinforce", SAMPLED | {"annotator.function": "letter", "learning_rate": 0.1, "kl_coef": 0.0},
        "the KL divergence to the reference is ",
    ),
    "reward": ("reward-model", {"learning_rate": 1e-6}, "the model orders 38% of its training pairs rightly"),
}  # fmt: skip
HEALTHY = ("dpo", "kto", "sft", "rrhf", "tr-dpo", "ulma", "slic-hf", "rwr", "oaif", "rloo", "reward-model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feedback of every kind, prompts and rewards."""
    folder = tmp_path_factory.mktemp("feedback")
    small_runs.write_feedback(folder)
    write_prompts(folder, 24)
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def values_of(method: str, model: Path, folder: Path, output: Path, **more: Any) -> dict[str, Any]:
    if method in ("oaif", "rloo", "reinforce"):
        function = more.pop("annotator.function", "variety")
        made = online(model, folder, output, **more)
        return {**made, "annotator.function": f"{folder / 'rewards.py'}:{function}"}
    files = {kind: folder / f"{kind}.jsonl" for kind in small_runs.KIND.values()}
    return small_runs.settings(method, model, files, output, **more)


def status_of(output: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((output / "status.json").read_text())
    return made


MORE = {"drift": 1e6, "sampled_drift": 1e6, "margin": 1e6, "chosen": 1e6, "length": 1e6, "distinct": 1e-6}
"""Of each threshold, what no figure reaches."""


def no_more_told(output: Path, kind: str) -> bool:
    """Whether the figures of a run are trouble of a kind by the thresholds as they are, and none by a laxer one."""
    folder = max((output / "checkpoints").iterdir())
    state = json.loads((folder / "facts.json").read_text())["watch"]
    name = {"alike": "distinct", "sampled-drift": "sampled_drift"}.get(kind, kind)
    if name not in MORE:  # what is measured at the end alone
        return True
    strict, lax = Watch(WatchSettings()), Watch(WatchSettings(**{name: MORE[name]}))
    for watch in (strict, lax):
        watch.restore(state)
    strictly, laxly = ([one.kind for one in watch.troubles()] for watch in (strict, lax))
    return strictly == [one for one in strictly if one == kind or one in laxly] and kind in {*strictly} - {*laxly}


@pytest.mark.parametrize("name", PLANTED)
def test_a_ruined_run_says_what_is_wrong(
    name: str, tiny_model: Path, folder: Path, tmp_path: Path, told: list[str]
) -> None:
    """On the screen before the model is named, in status.json and on the card; and the run is done all the same."""
    method, more, seen = PLANTED[name]
    small_runs.run_here(method, values_of(method, tiny_model, folder, tmp_path / "run", **more))
    status = status_of(tmp_path / "run")
    kind = name.partition(" ")[0]
    (found,) = (line for line in status["warnings"] if seen in line)
    assert found.endswith(REMEDIES[kind]) and status["state"] == "done"
    assert no_more_told(tmp_path / "run", kind)
    (named,) = (line for line in told if " model is in " in line)
    assert named.endswith("/run/model, and what is said above is wrong with it")
    assert told.index(found) < told.index(named)
    if kind not in ("nothing", "reward"):
        assert [line for line in told if line.startswith("step ") and line.endswith(REMEDIES[kind])]
    assert f"## What is wrong with it\n\n- {status['warnings'][0]}" in (tmp_path / "run/model/README.md").read_text()


@pytest.mark.parametrize("method", HEALTHY)
def test_a_healthy_run_says_nothing(
    method: str, tiny_model: Path, folder: Path, tmp_path: Path, told: list[str]
) -> None:
    small_runs.run_here(method, values_of(method, tiny_model, folder, tmp_path / "run"))
    assert "warnings" not in status_of(tmp_path / "run")
    kind = "reward" if method == "reward-model" else "aligned"
    assert told[-2] == f"the {kind} model is in {tmp_path / 'run' / 'model'}"
    assert not [line for line in told if line.endswith(tuple(REMEDIES.values()))]


def test_thresholds_are_settings(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    more = {"watch.drift": 1e9, "watch.margin": 1e9, "watch.chosen": 1e9, "learning_rate": 10}
    small_runs.run_here("dpo", values_of("dpo", tiny_model, folder, tmp_path / "quiet", **more))
    assert "warnings" not in status_of(tmp_path / "quiet")
    small_runs.run_here("dpo", values_of("dpo", tiny_model, folder, tmp_path / "strict", **{"watch.moved": 1e6}))
    assert len(status_of(tmp_path / "strict")["warnings"]) == 1
    more = {"watch.moved": 1e-9, "watch.accuracy": 0.01, "learning_rate": 1e-6}
    for method in ("kto", "reward-model"):
        small_runs.run_here(method, values_of(method, tiny_model, folder, tmp_path / method, **more))
        assert "warnings" not in status_of(tmp_path / method)


def test_a_run_that_was_killed_says_the_same(tiny_model: Path, folder: Path, tmp_path: Path, told: list[str]) -> None:
    """What it warned of before it is not repeated, and counts at the end."""
    for name in ("whole", "broken"):
        values = values_of("dpo", tiny_model, folder, tmp_path / name, learning_rate=10)
        if name == "whole":
            small_runs.run_here("dpo", values)
            continue
        small_runs.break_off("dpo", values, before_step=8)
        told.clear()
        api.resume(tmp_path / name, quiet=True)
    assert status_of(tmp_path / "broken") == status_of(tmp_path / "whole")
    assert not [line for line in told if line.startswith("step ")]


def test_training_with_a_reward_model_that_is_no_better_than_chance(
    tiny_model: Path, folder: Path, tmp_path: Path, told: list[str]
) -> None:
    """It is said before anything is loaded, and with the finished model; of a good one nothing is said."""
    for right in (0.17, 0.8):
        output, reward = tmp_path / f"run{right}", save_reward(tmp_path / f"reward{right}")
        (reward / "reward.json").write_text(json.dumps({"accuracy": right, "measured_on": "training"}))
        values = online(tiny_model, folder, output, **{"annotator.kind": "reward", "annotator.model": str(reward)})
        del values["annotator.function"]
        told.clear()
        small_runs.run_here("ppo", {**values, "sampler.responses": 1, "epochs": 1})
        seen = f"reward model {reward} orders 17% of its training pairs rightly, chance is 50%"
        kept = [line for line in status_of(output).get("warnings", []) if line.startswith("reward model")]
        if right == 0.17:
            assert told[0].startswith(seen) and kept == [f"{seen}. {REMEDIES['annotator']}"]
        else:
            assert not kept and not [line for line in told if "rightly" in line]


def test_rows_that_the_tokenizer_cannot_spell_are_told(
    tiny_model: Path, folder: Path, tmp_path: Path, told: list[str]
) -> None:
    rows = (folder / "pairs.jsonl").read_text().splitlines()
    odd = tmp_path / "pairs.jsonl"
    odd.write_text("\n".join([rows[0].replace("say", "s\u00e4y"), *rows[1:]]) + "\n", encoding="utf-8")
    values = values_of("dpo", tiny_model, folder, tmp_path / "run")
    small_runs.run_here("dpo", {**values, "data": [str(odd)]})
    (line,) = (line for line in told if "does not know" in line)
    assert line.startswith("training data: 1 of 24 examples hold text that the tokenizer does not know")


def test_figures_that_are_not_finite() -> None:
    watch = Watch(WatchSettings())
    assert watch.look(1, {"loss": 0.7}) == []
    (found,) = watch.look(2, {"loss": 0.7, "val/mean": math.inf})
    assert str(found).startswith("figures are not finite: val/mean at step 2. Look at")
    assert watch.look(3, {"val/mean": math.nan}) == [] and [one.kind for one in watch.troubles()] == ["not-finite"]


def test_a_single_step_is_no_trouble() -> None:
    """A running mean is, and a round of few responses tells nothing of their length."""
    watch = Watch(WatchSettings())
    steps = [0.0, 0.0, 390.0, 0.0, 390.0, 390.0]
    found = [bool(watch.look(step, {"rewards/margins": value})) for step, value in enumerate(steps, 1)]
    assert found == [False, False, False, False, True, False]
    for responses, expected in ((4.0, 0), (8.0, 1)):
        watch = Watch(WatchSettings())
        told = []
        for number, tokens in enumerate((100.0, *[1.0] * 9), 1):
            told += watch.look(number, {"online/responses": responses, "online/tokens": tokens})
        assert len(told) == expected


@pytest.mark.parametrize(("last", "told"), [(290.0, False), (310.0, True), (34.0, False), (32.0, True)])
def test_responses_may_run_away_in_length_either_way(last: float, told: bool) -> None:
    """Three times as long or as short as at first; where a server says no tokens, by words."""
    for name in ("online/tokens", "online/words"):
        watch = Watch(WatchSettings())
        rounds = [{"online/responses": 8.0, name: value} for value in (100.0, *[last] * 40)]
        found = [one for number, values in enumerate(rounds, 1) for one in watch.look(number, values)]
        assert [one.kind for one in found] == ["length"] * told
