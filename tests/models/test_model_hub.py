"""Models of a small hub on the loopback: what is taken, at which commit, and what is said where it cannot be."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from support.hub_server import Files, Hub
from support.online_runs import online
from support.refusals import refused
from support.small_runs import break_off, command, model_bytes, options, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model
from support.tiny_reward_models import save_reward

from trueup import model_hub
from trueup.model_folder import base_folder, check_model
from trueup.training import api

REST = {
    "pytorch_model.bin": b"pickle",
    "code.py": b"raise SystemExit(9)",
    "onnx/model.onnx": b"",
    "README.md": b"-",
}
"""What a model's repository holds beside what is taken of it."""


def files_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()} | REST


@pytest.fixture(scope="module")
def published(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """A model at two revisions, and others that judge, stand on it, would run code or have pickles alone."""
    folder = tmp_path_factory.mktemp("published")
    tiny, other = files_of(tiny_model), files_of(save_tiny_model(folder / "other", seed=1))
    config = json.loads(tiny["config.json"])
    foreign = json.dumps({**config, "model_type": "mine", "auto_map": {"AutoConfig": "code.C"}}).encode()
    data = write_feedback(folder)
    run_here("dpo", settings("dpo", tiny_model, data, folder / "run", steps=1, epochs=None, **{"lora.rank": 4}))
    adapter = files_of(folder / "run" / "model")
    of_adapter = {**json.loads(adapter["adapter_config.json"]), "base_model_name_or_path": "ann/tiny"}
    return {
        "models/ann/tiny": tiny,
        "models/ann/tiny@v2": other,
        "models/ann/reward": files_of(save_reward(folder / "reward")),
        "models/ann/adapter": {**adapter, "adapter_config.json": json.dumps(of_adapter).encode()},
        "models/ann/code": {**tiny, "config.json": foreign},
        "models/ann/pickles": {name: one for name, one in tiny.items() if name != "model.safetensors"},
    }


@pytest.fixture
def hub(published: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process asks, with an empty cache, in an empty folder."""
    failing = {"models/ann/gated": (403, "GatedRepo"), "models/ann/broken": (500, "")}
    with Hub(dict(published), failing).running() as running:
        cache = tmp_path / "cache"
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", running.address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_CACHE", str(cache)),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.chdir(tmp_path)
        yield running


def small(model: str, folder: Path, **more: Any) -> dict[str, Any]:
    return settings("dpo", Path(model), write_feedback(folder), folder / "run", **more)


def test_what_is_taken_and_that_the_cache_will_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.commit("models/ann/tiny")
    expected = (
        f"ann/tiny@{commit}",
        str(Path(constants.HF_HUB_CACHE, "models--ann--tiny", "snapshots", commit)),
    )
    assert model_hub.fetched("ann/tiny", weights=False) == expected
    assert "model.safetensors" not in hub.sent and "tokenizer.json" in hub.sent
    assert model_hub.fetched("hub:ann/tiny@main") == expected
    assert not set(REST) & set(hub.sent)
    assert len(hub.sent) == len(set(hub.sent))  # nothing twice
    assert check_model("ann/tiny", trust_remote_code=False) == expected[0]
    assert model_hub.fetched("ann/tiny@v2")[0] == f"ann/tiny@{hub.commit('models/ann/tiny@v2')}"
    assert model_hub.origin_of(expected[1]) == ("ann/tiny", commit)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert model_hub.fetched("ann/tiny") == model_hub.fetched(expected[0]) == expected
    with refused(r"^ann/reward: no such folder, and the hub is switched off"):
        model_hub.fetched("ann/reward")


def test_what_is_here_goes_before_the_hub(hub: Hub, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, Path("ann/tiny"))
    assert not model_hub.is_hub_model("ann/tiny")
    assert check_model("ann/tiny", trust_remote_code=False) == "ann/tiny"
    assert not hub.sent
    with refused(r"ann/reward is not a folder, and ann is one here; of the hub it is hub:ann"):
        check_model("ann/reward", trust_remote_code=False)
    assert model_hub.is_hub_model("hub:ann/tiny")
    assert model_hub.is_hub_model(f"ann/tiny@{'0' * 40}")


REFUSED = {
    "ann/absent": "ann/absent: no such folder, and the hub has no such model, or it is private; check the id",
    "hub:ann/absent": "hub:ann/absent: the hub has no such model, or it is private",
    "ann/tiny@v9": "ann/tiny@v9: the model has no revision 'v9'; give a branch, a tag or a commit",
    "ann/gated": "ann/gated: access to this model is restricted; ask for it on its page",
    "ann/broken": "ann/broken: the hub answered with HTTP status 500; check the network and HF_ENDPOINT",
    "hub:a/b/c": "'hub:a/b/c': not the id of a model; write OWNER/NAME or OWNER/NAME@REVISION",
    "ann/pickles": "has no weights: model.safetensors is missing",
    "ann/code": "names Python code to run (auto_map), and no code is taken from the hub; read it there, then hf down",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(small(name, Path()))
    for more in ([], ["--trust-remote-code"]) if name == "ann/code" else ([],):
        code = command("train", "dpo", *given, *more)
        said = capsys.readouterr().err.splitlines()
        assert code == 2
        assert REFUSED[name] in said[-1] and said[-1].startswith("trueup: ")
    assert not Path("run").exists()
    assert not set(REST) & set(hub.sent)


def test_a_run_keeps_the_commit_that_it_began_with(hub: Hub, tmp_path: Path) -> None:
    """Also where the branch has moved on, the cache is gone, and the same command is given again."""
    began = hub.commit("models/ann/tiny")
    (tmp_path / "full").mkdir()
    full = small("ann/tiny", tmp_path / "full")
    run_here("dpo", full)
    values = small("ann/tiny", tmp_path)
    break_off("dpo", values, before_step=5)
    assert f"model: ann/tiny@{began}" in (tmp_path / "run" / "run.yaml").read_text()
    hub.repositories["models/ann/tiny@main"] = hub.repositories.pop("models/ann/tiny")
    hub.repositories["models/ann/tiny"] = {**hub.repositories["models/ann/tiny@v2"], "new": b""}
    shutil.rmtree(constants.HF_HUB_CACHE)
    api.resume(tmp_path / "run", {"model": "ann/tiny"}, quiet=True)
    assert model_bytes(tmp_path / "run") == model_bytes(tmp_path / "full" / "run")
    assert f"ann/tiny@{began} aligned" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert "base_model: ann/tiny\n" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_commit_that_cannot_be_had_is_said(hub: Hub, tmp_path: Path) -> None:
    began = hub.commit("models/ann/tiny")
    break_off("dpo", small("ann/tiny", tmp_path), before_step=5)
    with refused("model cannot change when a run is resumed"):
        api.resume(tmp_path / "run", {"model": "ann/tiny@v2"}, quiet=True)
    del hub.repositories["models/ann/tiny"]
    hub.repositories["models/ann/tiny"] = hub.repositories["models/ann/tiny@v2"]
    shutil.rmtree(constants.HF_HUB_CACHE)
    with refused(f"ann/tiny@{began}: the model has no revision '{began}'"):
        api.resume(tmp_path / "run", quiet=True)


def test_an_adapter_stands_on_the_hub_s_model(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the hub is read with its base; one that is trained here names the commit; so does what is exported."""
    commit = hub.commit("models/ann/tiny")
    name, folder = model_hub.fetched("ann/adapter")
    assert check_model("ann/adapter", trust_remote_code=False) == name
    assert model_hub.origin_of(base_folder(folder)) == ("ann/tiny", commit)
    run_here("dpo", small("ann/adapter", tmp_path))
    (tmp_path / "lora").mkdir()
    run_here("dpo", small("ann/tiny", tmp_path / "lora", **{"lora.rank": 4}))
    for run in (tmp_path, tmp_path / "lora"):
        assert command("export", run / "run", "--output", run / "exported") == 0
    assert f"vllm serve ann/tiny --revision {commit} --enable-lora" in capsys.readouterr().err
    for made in (tmp_path / "lora" / "run" / "model", tmp_path / "lora" / "exported"):
        config = json.loads((made / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("ann/tiny", commit)


def test_what_samples_and_judges(hub: Hub, tmp_path: Path) -> None:
    """Each is kept with its commit, and sealed; `sample` and `annotate` take them too."""
    values = online(Path("ann/tiny"), tmp_path, tmp_path / "run", **{"sampler.models": ["ann/tiny@v2"]})
    given = {name: value for name, value in values.items() if not name.startswith("annotator")}
    values = {**given, "reward": "ann/reward"}
    run_here("rrhf", values)
    commits = {name: hub.commit(f"models/{name}") for name in ("ann/tiny", "ann/tiny@v2", "ann/reward")}
    sealed = json.loads((tmp_path / "run" / "sealed.json").read_text())
    assert sealed["model"] == f"ann/tiny@{commits['ann/tiny']}"
    assert sealed["sampler.models"] == [f"ann/tiny@{commits['ann/tiny@v2']}"]
    assert sealed["annotator.model"] == f"ann/reward@{commits['ann/reward']}"
    assert sealed[f"annotator.model ann/reward@{commits['ann/reward']}"]
    drawn = tmp_path / "candidates.jsonl"
    data = write_feedback(tmp_path)["pairs"]
    sampling = ["sample", data, "--model", "ann/tiny", "--count", 2, "--max-new-tokens", 3, "--output", drawn]
    assert command(*sampling) == 0
    assert f"ann/tiny@{commits['ann/tiny']}" in drawn.read_text()
    judging = ["annotate", drawn, "--annotator", "reward:ann/reward", "--output", tmp_path / "judged.jsonl"]
    assert command(*judging) == 0
    assert command("inspect", data, "--model", "ann/tiny") == 0
