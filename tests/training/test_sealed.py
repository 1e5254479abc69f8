"""A run goes on only if everything that decides how it ends is what it began with; each change is named."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.online_runs import online, write_reward
from support.small_runs import break_off, model_bytes, run_here, settings, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.errors import InputError
from trueup.training import api

Change = Callable[[Path], object]
"""Changes something below the folder that holds model, data and run."""


def in_file(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        (path,) = folder.glob(name)
        text = path.read_text()
        assert re.search(old, text), text
        path.write_text(re.sub(old, new, text, count=1))

    return change


def of_json(name: str, **values: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def of_bytes(name: str) -> Change:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "rms_norm_eps": (
        of_json("model/config.json", rms_norm_eps=0.001),
        "config.rms_norm_eps (was 1e-06, is 0.001)",
    ),
    "rope_theta": (
        of_json("model/config.json", rope_parameters={"rope_theta": 500.0, "rope_type": "default"}),
        "config.rope_parameters.rope_theta (was 10000.0, is 500.0)",
    ),
    "hidden_act": (
        of_json("model/config.json", hidden_act="gelu"),
        "config.hidden_act (was 'silu', is 'gelu')",
    ),
    "a weight": (of_bytes("model/model.safetensors"), "the weights or the configuration of the model"),
    "the tokenizer": (
        in_file("model/tokenizer.json", r'"x": (\d+)', r'"\\u00e9": \1'),
        "the tokenizer or its chat template",
    ),
    "how the tokenizer begins": (
        lambda folder: char_tokenizer(chat_template=CHATML, adds_space=True).save_pretrained(
            folder / "model"
        ),
        "the tokenizer or its chat template",
    ),
    "another model": (
        lambda folder: save_tiny_model(folder / "model", seed=9),
        "the weights or the configuration of the model (was",
    ),
    "a smaller model": (
        lambda folder: save_tiny_model(folder / "model", num_hidden_layers=1),
        "config.num_hidden_layers (was 2, is 1)",
    ),
    "the data": (in_file("pairs.jsonl", "red", "rad"), "pairs.jsonl"),
    "beta": (in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3"), "beta (was 0.1, is 0.3)"),
    "the seed": (in_file("run/run.yaml", r"\bseed: 1\b", "seed: 3"), "seed (was 1, is 3)"),
    "the length": (in_file("run/run.yaml", r"epochs: 2\.0", "epochs: 6.0"), "epochs (was 2.0, is 6.0)"),
    "sealed.json": (of_json("run/sealed.json", seed=1, batch_size=4, more=1), "more (was 1, is nothing)"),
}
"""What is changed -> how, and what is said of it."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data, and a DPO run that was killed in step 8, saved at 3 and 6."""
    folder = tmp_path_factory.mktemp("begun")
    save_tiny_model(folder / "model")
    break_off("dpo", settings("dpo", folder / "model", write_feedback(folder), folder / "run"), before_step=8)
    return folder


@pytest.fixture
def place(begun: Path) -> Iterator[Path]:
    """That folder, which is put back afterwards as it was."""
    kept = begun.with_name("kept")
    shutil.copytree(begun, kept)
    yield begun
    shutil.rmtree(begun)
    kept.rename(begun)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_and_refused(what: str, place: Path) -> None:
    change, said = CHANGES[what]
    change(place)
    with pytest.raises(
        InputError, match="the run cannot go on as it began, because these have changed"
    ) as refused:
        api.resume(place / "run", quiet=True)
    assert said in str(refused.value)
    assert not (place / "run" / "model").exists()


def test_without_its_seal_a_run_does_not_go_on(place: Path) -> None:
    (place / "run" / "sealed.json").unlink()
    with pytest.raises(InputError, match=r"sealed\.json is missing or damaged"):
        api.resume(place / "run", quiet=True)


def test_a_seal_of_another_run_is_refused(place: Path) -> None:
    """Settings and seal changed alike are told by the checkpoint."""
    in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3")(place)
    of_json("run/sealed.json", beta=0.3)(place)
    with pytest.raises(
        InputError, match=r"sealed\.json, which is not the one that the checkpoint was written with"
    ):
        api.resume(place / "run", quiet=True)


def test_what_may_change_stays_free(place: Path) -> None:
    in_file("run/run.yaml", r"save_every: 3", "save_every: 5")(place)
    of_json("model/config.json", transformers_version="4.0.0", use_cache=False)(place)
    api.resume(place / "run", {"keep_checkpoints": 1}, quiet=True)
    assert model_bytes(place / "run")


GATHERED: dict[str, tuple[Change, str]] = {
    "the reward function": (in_file("reward.py", "return", "return -1.0 *"), "annotator.function "),
    "another sampler": (of_bytes("other/model.safetensors"), "sampler.models "),
}


@pytest.mark.parametrize("what", GATHERED)
def test_what_judges_and_samples_is_sealed_too(what: str, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    save_tiny_model(tmp_path / "other")
    write_reward(tmp_path)
    values = online(
        tmp_path / "model", tmp_path, tmp_path / "run", **{"sampler.models": [str(tmp_path / "other")]}
    )
    break_off("rrhf", values, before_step=4)
    change, said = GATHERED[what]
    change(tmp_path)
    with pytest.raises(InputError, match=re.escape(said)):
        api.resume(tmp_path / "run", quiet=True)


def test_a_run_that_was_stopped_before_its_first_checkpoint_is_sealed(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    values = settings("dpo", tmp_path / "model", write_feedback(tmp_path), tmp_path / "run", save_every=10)
    break_off("dpo", values, before_step=3)
    in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3")(tmp_path)
    with pytest.raises(InputError, match=r"beta \(was 0\.1, is 0\.3\)"):
        api.resume(tmp_path / "run", quiet=True)


def test_an_adapter_is_sealed_with_its_configuration(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    data = write_feedback(tmp_path)
    run_here("dpo", settings("dpo", tmp_path / "model", data, tmp_path / "first", **{"lora.rank": 2}))
    adapter = tmp_path / "first" / "model"
    break_off("dpo", settings("dpo", adapter, data, tmp_path / "run"), before_step=8)
    of_json("first/model/adapter_config.json", lora_alpha=64)(tmp_path)
    with pytest.raises(InputError, match=r"adapter\.default\.lora_alpha \(was 4\.0, is 64\)"):
        api.resume(tmp_path / "run", quiet=True)
