"""Online runs: what is gathered is trained on, replayed to the same bits, and never asked for twice."""

import json
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from support import small_runs
from support.online_runs import online, replay, reward_calls, write_reward

from trueup.errors import AnnotatorError, InputError, NumericsError, Stopped
from trueup.feedback.read import read_feedback
from trueup.methods import METHODS
from trueup.objectives.rollout import KLControl
from trueup.training import api
from trueup.training.checkpoint import load_newest

SOFT = {"reference.kind": "trust-region", "reference.alpha": 0.6, "reference.every": 2}
HARD = {"reference.kind": "trust-region", "reference.alpha": 1.0, "reference.every": 2}
LORA = {"lora.rank": 3, "lora.dropout": 0.1}
SCALE = {"scale": "range", "score_low": 0.0, "score_high": 1.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("oaif", {"objective": "dpo"}), "dpo-soft-lora": ("oaif", {"objective": "dpo", **SOFT, **LORA}),
    "ipo-hard": ("oaif", {"objective": "ipo", **HARD}),
    "slic-adapter": ("oaif", {"objective": "slic", "beta": 0.5, **LORA}),
    "rrhf-op": ("rrhf", {"sampler.resync": 3, "reward_kl": 0.1}),
    "rrhf-op-lora": ("rrhf", {"sampler.resync": 3, **LORA}),
    "rrhf-ip": ("rrhf", {"round_prompts": 0, "round_passes": 2, "sampler.decode": "diverse-beam"}),
    "kto": ("kto", {"desirable_from": 0.5}), "ulma": ("ulma", {**SCALE, "demonstration_from": 0.9, **SOFT}),
    "pointwise-dpo": ("pointwise-dpo", {**SCALE, "continuous": True}),
    "fa": ("fa", {"reward_mean": 0.5, "reward_std": 0.2}),
    "ppo": ("ppo", {"round_prompts": 8, "round_passes": 2, "kl_target": 1.0, "sampler.responses": 1}),
    "ppo-lora-soft": ("ppo", {"sampler.responses": 2, **LORA, **SOFT}),
    "reinforce": ("reinforce", {"sampler.responses": 1}), "rloo": ("rloo", {}),
    "xpo": ("xpo", {"sampler.responses": 1, "sampler.resync": 2, **SOFT}),
    "nash-md-lora": ("nash-md", {"sampler.responses": 1, **LORA, **SOFT}),
    "grpo": ("grpo", {"round_prompts": 8, "round_passes": 2}),
}  # fmt: skip
"""By name, a method and its settings: every method with a source of its own, every kind of reference, lagging
samplers, several passes, and penalties."""


def test_no_method_is_missing() -> None:
    alone = {name for name, info in METHODS.items() if "offline" not in info.sources}
    assert alone <= {method for method, _ in CASES.values()}


def case(name: str, model: Path, folder: Path, output: str, **more: Any) -> tuple[str, dict[str, Any]]:
    method, chosen = CASES[name]
    return method, online(model, folder, folder / output, **{**chosen, **more})


def rounds(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rounds.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a case's run that nothing happened to; beside it, what its reward was asked. And in `killed`
    beside that folder, all of it as it was at a random moment."""

    @cache
    def run(name: str) -> Path:
        folder, chance = tmp_path_factory.mktemp(name) / "begun", random.Random(name)
        write_reward(folder)
        killed = folder.with_name("killed")
        with small_runs.snapshot(folder / "whole", killed, lines=chance.randint(1, 4), looks=chance.randint(1, 6)):
            small_runs.run_here(*case(name, tiny_model, folder, "whole"))
        return folder / "whole"

    return run


@pytest.mark.parametrize("name", CASES)
def test_replayed_offline_it_gives_the_same_bits(
    name: str, uninterrupted: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    first, second = uninterrupted(name), tmp_path / "second"
    before = reward_calls(first.parent)
    method, values = case(name, tiny_model, first.parent, "whole")
    small_runs.run_here(method, replay(tiny_model, first, second, values))
    assert reward_calls(first.parent) == before  # no endpoint is asked again
    assert small_runs.model_bytes(second) == small_runs.model_bytes(first) != {}
    ours, theirs = small_runs.metrics_of(first), small_runs.metrics_of(second)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        gathered = ("online/", "annotator/", "objective/kl", "epoch")  # a replay does not know of passes
        assert {key: value for key, value in one.items() if not key.startswith(gathered)} == {
            key: value for key, value in other.items() if not key.startswith(gathered)
        }


@pytest.mark.parametrize("name", CASES)
def test_killed_and_resumed_equals_uninterrupted(
    name: str, uninterrupted: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    """At a random moment, with SIGKILL or as a copy; what a whole round was judged by is never asked again."""
    expected = uninterrupted(name)
    before, killed = reward_calls(expected.parent), expected.parents[1] / "killed" / "whole"
    paid = reward_calls(killed.parent)
    if name == "rrhf-op":
        write_reward(tmp_path)
        method, values = case(name, tiny_model, tmp_path, "killed")
        killed = small_runs.killed_and_resumed(method, values, random.Random(name), (1, 4))
        paid = reward_calls(tmp_path)
    else:
        api.resume(killed, quiet=True)
        paid += reward_calls(expected.parent) - before
    assert small_runs.model_bytes(killed) == small_runs.model_bytes(expected) != {}
    assert small_runs.metrics_of(killed) == small_runs.metrics_of(expected)
    for file in ("examples.jsonl", "rounds.jsonl"):
        assert (killed / file).read_bytes() == (expected / file).read_bytes()
    # At most the round that was under way when it was killed was paid for twice.
    assert (paid - before).total() <= max(int(one["rows"]) for one in rounds(expected)) * 3


def test_several_passes_move_the_policy_within_a_round(uninterrupted: Callable[[str], Path]) -> None:
    """At the first step of four the ratio to the policy that wrote is 1; by the last it is not, and is clipped."""
    lines = small_runs.metrics_of(uninterrupted("grpo"))
    assert [line["policy/ratio"] == 1 for line in lines] == [True, False, False, False] * 3
    assert all(line["policy/approxkl"] > 0 and line["policy/clipfrac"] > 0 for line in lines[3::4])


def test_stopped_wherever_a_run_listens(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at any look at the flag, in the middle of gathering too, it goes on to the same bits."""
    write_reward(tmp_path)
    looks = small_runs.stopping_at(monkeypatch, 0)
    method, values = case("ppo", tiny_model, tmp_path, "whole", epochs=1)
    small_runs.run_here(method, values)
    total, begun = len(looks), 0
    for number in range(3, total, max(1, total // 8)):
        output = tmp_path / str(number)
        small_runs.stopping_at(monkeypatch, number)
        with pytest.raises(Stopped):
            small_runs.run_here(method, {**values, "output": str(output)})
        small_runs.stopping_at(monkeypatch, 0)
        if (output / "run.yaml").exists():
            begun += 1
            api.resume(output, quiet=True)
            assert small_runs.model_bytes(output) == small_runs.model_bytes(tmp_path / "whole")
    assert begun >= 4


def test_what_is_gathered_is_feedback_by_the_policy_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    """Canonical records with scores, the sampling policy's version and its tokens; no two responses alike."""
    write_reward(tmp_path)
    method, values = case("rrhf-op", tiny_model, tmp_path, "run", reward_kl=0.0)
    small_runs.run_here(method, values)
    read = read_feedback([tmp_path / "run" / "examples.jsonl"]).examples
    lines = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    assert len(read) == len(lines) > 20
    for example, line in zip(read, lines, strict=True):
        done = line["round"]["number"] - 1
        assert {one.source for one in example.responses} == {f"{tiny_model}@{done - done % 3}"}
        assert all(one.score == min(1.0, len(set(str(one.content))) / 10) for one in example.responses)
        assert all(one.tokens for one in example.responses)
        assert len({one.content for one in example.responses}) == len(example.responses)
    assert len({json.dumps(line["prompt"]) for line in lines}) == 12


def test_a_penalty_is_taken_off_the_score(tiny_model: Path, tmp_path: Path) -> None:
    """R - beta log(pi / pi_ref): nothing at the first step, where both are one, and something afterwards."""
    write_reward(tmp_path)
    small_runs.run_here(*case("rrhf-op", tiny_model, tmp_path, "run", reward_kl=0.5))
    lines = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    gaps: dict[int, list[float]] = {}
    for line in lines:
        for one in line["responses"]:
            raw = min(1.0, len(set(one["content"])) / 10)
            gaps.setdefault(line["round"]["number"], []).append(raw - one["score"])
    assert set(gaps[1]) == {0.0}
    assert all(any(gap != 0 for gap in several) for number, several in gaps.items() if number > 1)
    told = {one["round"]: one["facts"]["objective/kl"] for one in rounds(tmp_path / "run")}
    for number, several in gaps.items():
        assert told[number] == pytest.approx(sum(several) / len(several) / 0.5, abs=1e-6)


def test_several_rewards_are_added_up_and_each_is_told(tiny_model: Path, tmp_path: Path) -> None:
    """Through a break, too; other weights are another run."""
    variety = write_reward(tmp_path)
    (tmp_path / "length.py").write_text("def length(prompt, response):\n    return len(response)\n")
    several = {
        "annotator.kind": "weighted", "annotator.of": [variety, f"{tmp_path / 'length.py'}:length"],
        "annotator.weights": [1.0, -0.25],
    }  # fmt: skip
    for output, run in (("whole", small_runs.run_here), ("broken", partial(small_runs.break_off, before_step=4))):
        values = online(tiny_model, tmp_path, tmp_path / output, **several)
        del values["annotator.function"]
        run("rloo", values)
    with pytest.raises(InputError, match="annotator"):
        api.resume(tmp_path / "broken", {"annotator.weights": [1.0, -0.5]}, quiet=True)
    api.resume(tmp_path / "broken", quiet=True)
    assert rounds(tmp_path / "broken") == rounds(tmp_path / "whole")
    assert small_runs.model_bytes(tmp_path / "broken") == small_runs.model_bytes(tmp_path / "whole")
    for facts in (one["facts"] for one in rounds(tmp_path / "whole")):
        each = [facts[f"online/score/{one}"] for one in several["annotator.of"]]
        assert facts["online/score"] == pytest.approx(each[0] - 0.25 * each[1]) and each[1] > 1


def test_every_round_goes_on_from_what_the_one_before_it_left(tiny_model: Path, tmp_path: Path) -> None:
    """PPO's KL coefficient by its rule, and the moments of all scores so far; over a break as well."""
    write_reward(tmp_path)
    small = {"round_passes": 1, "round_prompts": 4, "sampler.responses": 2}
    more = {"kl_coef": 0.1, "kl_target": 0.001, "kl_horizon": 20.0, **small}
    values = online(tiny_model, tmp_path, tmp_path / "run", **more)
    small_runs.break_off("ppo", values, before_step=4)
    api.resume(tmp_path / "run", quiet=True)
    control, lines = KLControl(0.1, 0.001, 20.0), small_runs.metrics_of(tmp_path / "run")
    expected = 0.1
    for line in lines:
        assert line["objective/kl_coef"] == pytest.approx(expected)
        expected = control.after(expected, line["objective/kl"], 8)
    assert len(lines) == len({line["objective/kl_coef"] for line in lines}) == 6
    saved = load_newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    memory = saved.metadata["source"]["memory"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    scores = [one["score"] for row in rows for one in row["responses"]]
    assert (memory["kl_coef"], memory["score_count"]) == (pytest.approx(expected), len(scores))
    assert memory["score_mean"] == pytest.approx(sum(scores) / len(scores))


LETTERS = "def reward(prompt, response):\n    return sum(one in 'abcdefgh' for one in response) / 6\n"
LEARNS: dict[str, dict[str, Any]] = {
    "oaif": {"beta": 0.1, "sampler.responses": 4},
    "rrhf": {"sampler.responses": 4},
    "kto": {"desirable_from": 0.2, "beta": 0.5},
    "ppo": {
        "sampler.responses": 2, "kl_coef": 0.01, "kl_target": None, "round_passes": 2, "round_prompts": 12,
    },
    "reinforce": {"sampler.responses": 4, "kl_coef": 0.01},
    "rloo": {"sampler.responses": 4, "kl_coef": 0.01},
    "nash-md": {"sampler.responses": 1, "beta": 0.01},
}  # fmt: skip


@pytest.mark.parametrize("method", LEARNS)
def test_online_learning_raises_the_reward_it_is_given(method: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(LETTERS)
    more = {"annotator.function": f"{tmp_path / 'letters.py'}:reward", "epochs": 10, "batch_size": 12}
    small_runs.run_here(
        method, online(tiny_model, tmp_path, tmp_path / "run", **{**more, "learning_rate": 1e-2, **LEARNS[method]})
    )
    scores = [one["facts"]["online/score"] for one in rounds(tmp_path / "run")]
    assert sum(scores[-3:]) / 3 > 1.5 * sum(scores[:2]) / 2, scores


def test_judgements_that_tell_nothing_stop_a_run(tiny_model: Path, tmp_path: Path) -> None:
    """Rounds of which nothing can be learned are steps that move nothing, and after eight in a row an error."""
    (tmp_path / "same.py").write_text("def reward(prompt, response):\n    return 1.0\n")
    more = {"annotator.function": f"{tmp_path / 'same.py'}:reward", "epochs": 2}
    method, values = case("dpo", tiny_model, tmp_path, "short", **more)
    small_runs.run_here(method, values)
    assert all("loss" not in line for line in small_runs.metrics_of(tmp_path / "short"))
    assert small_runs.metrics_of(tmp_path / "short")[0]["online/not_used"] == 4
    with pytest.raises(NumericsError, match=r"round 8: the last 8 rounds gave nothing to learn from"):
        small_runs.run_here(method, {**values, "epochs": 4, "output": str(tmp_path / "long")})


def test_only_empty_rounds_in_a_row_stop_a_run(tiny_model: Path, tmp_path: Path) -> None:
    """Two of three rounds are empty, ten in all; one in between begins the count again."""
    (tmp_path / "one.py").write_text(
        "def reward(prompt, response):\n    return len(set(response)) if ' 0:' in prompt else 1.0\n"
    )
    more = {"annotator.function": f"{tmp_path / 'one.py'}:reward", "epochs": 5}
    method, values = case("dpo", tiny_model, tmp_path, "run", **more)
    small_runs.run_here(method, values)
    learned = ["loss" in line for line in small_runs.metrics_of(tmp_path / "run")]
    assert learned.count(False) >= 8 and any(learned)


def test_empty_responses_stop_a_run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trueup.batch.encode import Encoder

    write_reward(tmp_path)
    monkeypatch.setattr(Encoder, "text", lambda self, ids: "")
    with pytest.raises(AnnotatorError, match="round 1: all 12 responses to 4 prompts are empty"):
        small_runs.run_here(*case("dpo", tiny_model, tmp_path, "run"))
