"""A run's folder, or a file of settings, that is somebody else's runs no code and sends no key that nobody named."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.broken_runs import put_back
from support.online_runs import online, write_reward
from support.small_runs import break_off, command, model_bytes, settings, write_feedback
from support.tiny_models import save_tiny_model

from trueup.config import trust
from trueup.config.layers import flatten, nest

Said = Callable[[], str]
ON = True
"""What somebody else has put into a run."""
CANARY = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().err


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a reward of one's own and an online run that was killed in step 4."""
    folder = tmp_path_factory.mktemp("begun")
    save_tiny_model(folder / "model")
    write_reward(folder)
    break_off("rrhf", online(folder / "model", folder, folder / "run"), before_step=4)
    return folder


@pytest.fixture
def place(begun: Path) -> Iterator[Path]:
    yield from put_back(begun)


@pytest.fixture
def another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is at the keyboard now has another home than whoever began the run."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another"))


def resume(run: Path, *more: object, method: str = "rrhf") -> int:
    return command("train", method, "--resume", run, *more)


def in_record(run: Path, **values: object) -> None:
    content = yaml.safe_load((run / "run.yaml").read_text())
    flat = flatten(content["settings"]) | {name.replace("__", "."): value for name, value in values.items()}
    (run / "run.yaml").write_text(yaml.safe_dump({**content, "settings": nest(flat)}))


def test_a_run_of_ones_own_goes_on(place: Path, said: Said) -> None:
    (key,) = Path(os.environ["XDG_CONFIG_HOME"], "trueup").glob("runs-of-*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert resume(place / "run") == 0
    assert "not begun here" not in said()
    assert model_bytes(place / "run")


@pytest.mark.usefixtures("another_user")
def test_the_run_of_another_needs_to_be_trusted_once(place: Path, said: Said) -> None:
    function = f"{place / 'reward.py'}:variety"
    assert resume(place / "run") == 2
    assert said() == (
        f"trueup: {place / 'run'} was not begun here by this user, and has what you have not named: annotator.function "
        f"{function!r} (runs that file); look at it; then give it on the command line, or --trust-run\n"
    )
    stopped = ("--steps", "1")  # refused, but later
    assert resume(place / "run", "--annotator.function", f"{place / 'other.py'}:variety", *stopped) == 2
    assert "annotator.function" in said()
    assert resume(place / "run", "--reward", function, *stopped) == 2
    assert "cannot change when a run is resumed" in said()
    assert resume(place / "run", "--trust-run", "--keep_checkpoints", "3") == 0
    assert "is trusted with: annotator.function" in said()
    assert trust.is_own(place / "run", flatten(yaml.safe_load((place / "run/run.yaml").read_text())["settings"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda run: in_record(run, annotator__function=f"{run.parent / 'evil.py'}:variety"),
        lambda run: in_record(run, trust_remote_code=ON),
        lambda run: (run / "sealed.json").unlink(),
        lambda run: (run / "sealed.json").write_text(
            (run / "sealed.json").read_text().replace('"seed": 1', '"seed": 2')
        ),
        lambda run: shutil.rmtree(os.environ["XDG_CONFIG_HOME"]),
    ],
    ids=["another function", "code of models", "no seal", "another seal", "no secret"],
)
def test_nothing_is_run_of_a_run_that_was_changed(
    change: Callable[[Path], Any], place: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(os.environ["XDG_CONFIG_HOME"], tmp_path / "config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (place / "evil.py").write_text(CANARY + (place / "reward.py").read_text())
    (place / "reward.py").write_text((place / "evil.py").read_text())
    change(place / "run")
    assert resume(place / "run") == 2
    assert "was not begun here by this user, and has what you have not named" in said()
    assert not (place / "ran").exists()


def test_no_variable_is_sent_unnamed() -> None:
    url, variable = "http://127.0.0.1:9/v1", "AWS_SECRET_ACCESS_KEY"
    layer = {"annotator.base_url": [url], "annotator.key_variable": variable}
    sent = (
        f"annotator.base_url ['{url}'] (gets texts, and the key in the environment variable '{variable}', "
        "annotator.key_variable)"
    )
    for named in ({}, {"annotator.base_url": url}, {"annotator.key_variable": variable}):
        assert trust.unnamed(layer, named) == [sent]
    assert trust.unnamed(layer, {"annotator.base_url": url, "annotator.key_variable": variable}) == []
    usual = {**layer, "annotator.key_variable": "OPENAI_API_KEY"}
    assert trust.unnamed(usual, {"annotator.base_url": url}) == []
    assert "OPENAI_API_KEY" in trust.unnamed({"annotator.base_url": [url]}, {})[0]
    assert "TRUEUP_API_KEY" in trust.unnamed({"sampler.base_url": [url]}, {})[0]


def test_what_several_annotators_run_and_send_is_seen_too() -> None:
    url = "http://127.0.0.1:9/v1"
    layer = {"annotator.of": ["evil.py:f", f"openai?base_url={url}&key_variable=SECRET"], "eval_by.function": "a.py:g"}
    layer |= {"eval_by.of": {"kind": "function", "function": "worse.py:f"}}
    found = trust.unnamed(layer, {})
    assert [one.partition(" (")[0] for one in found] == [
        "eval_by.function 'a.py:g'", "annotator.of.0.function 'evil.py:f'", f"annotator.of.1.base_url '{url}'",
        "eval_by.of.0.function 'worse.py:f'",
    ]  # fmt: skip
    assert "'SECRET', annotator.of.1.key_variable" in found[2]
    assert trust.unnamed(layer, layer) == []


@pytest.fixture
def config(begun: Path, tmp_path: Path) -> Path:
    function = f"{tmp_path / 'reward.py'}:variety"
    (tmp_path / "reward.py").write_text(CANARY + (begun / "reward.py").read_text())
    values = online(begun / "model", tmp_path, tmp_path / "run", steps=1, epochs=None)
    kept = {name: value for name, value in values.items() if value is not None}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**kept, "annotator.function": function}))
    return file


def test_a_file_of_ones_own_is_taken_at_its_word(config: Path, said: Said) -> None:
    assert command("train", "rrhf", "--config", config) == 0
    assert f"{config}: annotator.function" in said()
    assert (config.parent / "ran").exists()


@pytest.mark.parametrize("why", ["may be written by others", "belongs to another user", "is the record of a run"])
def test_a_file_of_another_needs_to_be_trusted(why: str, config: Path, said: Said, begun: Path) -> None:
    if "written" in why:
        config.chmod(0o666)
    elif "belongs" in why:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(config, 12345, 12345)
    else:
        values = yaml.safe_load((begun / "run/run.yaml").read_text())
        values["settings"]["annotator"]["function"] = f"{config.parent / 'reward.py'}:variety"
        values["settings"]["output"] = str(config.parent / "run")
        config.write_text(yaml.safe_dump(values))
    function = f"{config.parent / 'reward.py'}:variety"
    assert command("train", "rrhf", "--config", config) == 2
    assert f"{config} {why}" in said() and not (config.parent / "ran").exists()
    assert command("train", "rrhf", "--config", config, "--annotator.function", function, "--beta", "x") == 2
    assert why not in said()
    assert command("train", "rrhf", "--config", config, "--trust-run", "--steps", "1") == 0
    assert (config.parent / "ran").exists()


def test_code_of_a_models_folder_is_run_by_no_checkpoint(tmp_path: Path, said: Said) -> None:
    """`trueup export` of a run that trusts its model's code asks for that trust again."""
    save_tiny_model(tmp_path / "model")
    data = write_feedback(tmp_path)
    break_off("dpo", settings("dpo", tmp_path / "model", data, tmp_path / "run"), before_step=8)
    config = json.loads((tmp_path / "model/config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, "model_type": "evil"}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    (tmp_path / "model/evil.py").write_text(CANARY)
    in_record(tmp_path / "run", trust_remote_code=ON)
    assert command("export", tmp_path / "run", "--output", tmp_path / "out") == 2
    assert "names Python code to run (auto_map), and trust_remote_code is off" in said()
    assert not (tmp_path / "model/ran").exists()
