"""A process of two is killed, or asked to stop, in the middle of a checkpoint: the run goes on to the same bits, and in
another number of processes to the same numbers."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.several_processes import MOMENTS, run_all
from support.small_runs import break_off, metrics_of, model_bytes, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model

from trueup.training import api

KILLED = [
    ("shards are planned", 0, 1), ("shards are written", 1, 1), ("shards are written", 1, 0),
    ("hashes are taken", 1, 1), ("there is no manifest", 0, 1), ("there is a manifest", 0, 0),
    ("it is renamed", 0, 0), ("it is renamed", 0, 1), ("it was renamed", 0, 0), ("others are removed", 0, 1),
]  # fmt: skip
"""When, which process comes to it, and which is killed."""


def of(folder: Path, name: str) -> dict[str, Any]:
    """Settings of a run of ten steps with five checkpoints, each of policy, reference and optimizer in shards."""
    more = {"reference.every": 2, "reference.alpha": 0.5, "save_every": 2, "steps": 10, "batch_size": 4}
    made = settings("tr-dpo", folder / "tiny", write_feedback(folder), folder / name, **more)
    return {key: value for key, value in made.items() if key != "epochs"}


@pytest.mark.many
def test_killed(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "tiny")
    runs = list[dict[str, Any]]()
    for place, (moment, actor, target) in enumerate(KILLED):
        runs.append(of(tmp_path, f"run {place}"))
        one = ("tr-dpo", runs[-1], f"SIGKILL to {target} when {moment}", actor)
        said, _ = run_all(tmp_path, 2, [one], ends=False)
        whole = sorted(one.name for one in Path(runs[-1]["output"], "checkpoints").glob("step-*"))
        renamed = moment in ("it was renamed", "others are removed", *["it is renamed"] * target)
        assert whole[-1] == f"step-{6 if renamed else 4:08d}", (moment, whole, said)
    run_all(tmp_path, 2, [("tr-dpo", of(tmp_path, "plain")), *(("go on", one) for one in runs)])
    for one, killed in zip(runs, KILLED, strict=True):
        assert model_bytes(Path(one["output"])) == model_bytes(tmp_path / "plain"), killed


@pytest.mark.parametrize(
    ("first", "then"),
    [(2, 1), pytest.param(1, 2, marks=pytest.mark.many), pytest.param(2, 3, marks=pytest.mark.many)],
)
def test_it_goes_on_in_another_number(first: int, then: int, tmp_path: Path) -> None:
    """With every weight and an adapter, beside a run of one process that was not stopped."""
    save_tiny_model(tmp_path / "tiny", tie_word_embeddings=True)
    for name, more in {"all": {}, "lora": {"lora.rank": 4}}.items():
        run_here("tr-dpo", of(tmp_path, f"plain {name}") | more)
    runs = [of(tmp_path, "all"), of(tmp_path, "lora") | {"lora.rank": 4}]
    if first == 1:
        for one in runs:
            break_off("tr-dpo", one, before_step=7)
    else:
        run_all(tmp_path, first, [("tr-dpo", one, "SIGTERM to 0 when it was renamed", 0) for one in runs])
    assert [len(metrics_of(Path(one["output"]))) for one in runs] == [6, 6]
    if then == 1:
        for one in runs:
            api.resume(one["output"], quiet=True)
    else:
        run_all(tmp_path, then, [("go on", one) for one in runs])
    for name, file in {"all": "model", "lora": "adapter_model"}.items():
        alone, several = tmp_path / f"plain {name}", tmp_path / name
        for one, other in zip(metrics_of(alone), metrics_of(several), strict=True):
            for key in ("loss", "grad_norm"):
                assert other[key] == pytest.approx(one[key], rel=1e-6), (name, one["step"], key)
        whole, made = (load_file(run / f"model/{file}.safetensors") for run in (alone, several))
        for key, value in whole.items():
            assert (value - made[key]).norm() <= 1e-5 * value.norm(), (name, key)


@pytest.mark.many
def test_asked_to_stop(tmp_path: Path) -> None:
    """By either signal, either process, at every moment: all stop before the next step, with a checkpoint."""
    save_tiny_model(tmp_path / "tiny")
    runs: list[tuple[Any, ...]] = [("tr-dpo", of(tmp_path, "plain"))]
    for place, moment in enumerate(MOMENTS):
        for target in range(2):
            one, name = of(tmp_path, f"{moment} {target}"), ("SIGTERM", "SIGINT")[(place + target) % 2]
            runs += [("tr-dpo", one, f"{name} to {target} when {moment}", 0), ("go on", one)]
    _, told = run_all(tmp_path, 2, runs)
    for (how, one, *_), ended in zip(runs[1:], told[1:], strict=True):
        run = Path(one["output"])
        if how == "go on":
            assert all(each.keys() == {"seconds"} for each in ended), (run, ended)
            assert model_bytes(run) == model_bytes(tmp_path / "plain"), run
        else:
            assert [each["error"] for each in ended] == ["Stopped"] * 2, (run, ended)
