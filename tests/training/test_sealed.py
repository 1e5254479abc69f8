"""A run goes on only if everything that decides how it ends is what it began with; each change is named."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support.broken_runs import put_back
from support.online_runs import online, write_reward
from support.refusals import refused
from support.small_runs import break_off, model_bytes, run_here, settings, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.config.layers import flatten, nest, read_yaml
from trueup.config.resolve import load_run
from trueup.errors import CheckpointError, InputError
from trueup.settings.run_settings import RESUME_MAY_CHANGE
from trueup.training import api, seal
from trueup.training.folder import RunFolder

Change = Callable[[Path], object]  # changes something below the folder that holds model, data and run


def as_text(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


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


TOKENIZER = "the tokenizer or its chat template"
CHANGES: dict[str, tuple[Change, str]] = {
    "rms_norm_eps": (of_json("model/config.json", rms_norm_eps=0.001), "config.rms_norm_eps (was 1e-06, is 0.001)"),
    "rope_theta": (
        of_json("model/config.json", rope_parameters={"rope_theta": 500.0, "rope_type": "default"}),
        "config.rope_parameters.rope_theta (was 10000.0, is 500.0)",
    ),
    "a weight": (of_bytes("model/model.safetensors"), "the weights or the configuration of the model (was"),
    "the tokenizer": (in_file("model/tokenizer.json", r'"x": (\d+)', r'"\\u00e9": \1'), TOKENIZER),
    "how the tokenizer begins": (
        lambda folder: char_tokenizer(chat_template=CHATML, adds_space=True).save_pretrained(folder / "model"),
        TOKENIZER,
    ),
    "a smaller model": (
        lambda folder: save_tiny_model(folder / "model", num_hidden_layers=1),
        "config.num_hidden_layers (was 2, is 1)",
    ),
    "what ends a response": (
        as_text("model/generation_config.json", '{"eos_token_id": [2, 5]}'),
        "the tokens that end a response",
    ),
    "the chat template": (as_text("model/chat_template.jinja", CHATML + " "), TOKENIZER),
    "another template of several": (as_text("model/additional_chat_templates/tool_use.jinja", CHATML), TOKENIZER),
    "the data": (in_file("pairs.jsonl", "red", "rad"), "pairs.jsonl"),
    "beta": (in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3"), "beta (was 0.1, is 0.3)"),
    "the seed": (in_file("run/run.yaml", r"\bseed: 1\b", "seed: 3"), "seed (was 1, is 3)"),
    "the length": (in_file("run/run.yaml", r"epochs: 2\.0", "epochs: 6.0"), "epochs (was 2.0, is 6.0)"),
    "sealed.json": (of_json("run/sealed.json", seed=1, batch_size=4, more=1), "more (was 1, is nothing)"),
}
"""What is changed -> how, and what is said of it."""


def offline_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Write a model and data; the method and settings of a run on them."""
    save_tiny_model(folder / "model")
    return "dpo", settings("dpo", folder / "model", write_feedback(folder), folder / "run")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data, and a DPO run that was killed in step 8, saved at 3 and 6."""
    folder = tmp_path_factory.mktemp("begun")
    break_off(*offline_run(folder), before_step=8)
    return folder


@pytest.fixture
def place(begun: Path) -> Iterator[Path]:
    """That folder, which is put back afterwards as it was."""
    yield from put_back(begun)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_and_refused(what: str, place: Path) -> None:
    change, said = CHANGES[what]
    change(place)
    with pytest.raises(InputError, match="the run cannot go on as it began, because these have changed") as refused:
        api.resume(place / "run", quiet=True)
    assert said in str(refused.value)
    assert not (place / "run" / "model").exists()


MISSING: dict[str, tuple[Change, str]] = {
    "the seal": (lambda folder: (folder / "run" / "sealed.json").unlink(), r"sealed\.json is missing or damaged"),
    "the data": (lambda folder: (folder / "pairs.jsonl").unlink(), r"pairs\.jsonl"),
    "a value": (in_file("run/run.yaml", "batch_size: 4", "batch_size: four"), r"run\.yaml is damaged.*batch_size"),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_run_does_not_go_on_without(what: str, place: Path) -> None:
    change, said = MISSING[what]
    change(place)
    checkpoints = sorted((place / "run" / "checkpoints").rglob("*"))
    with refused(said):
        api.resume(place / "run", quiet=True)
    assert sorted((place / "run" / "checkpoints").rglob("*")) == checkpoints


def test_a_seal_of_another_run_is_refused(place: Path) -> None:
    """Settings and seal changed alike are told by the checkpoint."""
    in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3")(place)
    of_json("run/sealed.json", beta=0.3)(place)
    for more in ({}, {"accept_changed": True}):
        with pytest.raises(InputError, match=r"sealed\.json, which is not the one that the checkpoint was writ"):
            api.resume(place / "run", more, quiet=True)


def test_what_may_change_stays_free(place: Path) -> None:
    in_file("run/run.yaml", r"save_every: 3", "save_every: 5")(place)
    of_json("model/config.json", transformers_version="4.0.0", use_cache=False)(place)
    api.resume(place / "run", {"keep_checkpoints": 1}, quiet=True)
    assert model_bytes(place / "run")


def test_no_setting_of_the_record_changes_unseen(place: Path) -> None:
    """Whatever stands in run.yaml instead: it is refused, or it is the same run with what may change on resume."""
    path, record = place / "run" / "run.yaml", read_yaml(place / "run" / "run.yaml")[0]
    free = {*RESUME_MAY_CHANGE, "output"}
    settings_of_both = {**flatten(record["method_settings"]), **flatten(record["settings"])}
    assert {"beta", "seed", "epochs", "batch_size", "reference.kind", "max_grad_norm"} <= set(settings_of_both)
    for name, value in settings_of_both.items():
        other: object = f"{value}x"
        if isinstance(value, bool | int | float):
            other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2 or 0.25
        kind = "method_settings" if name in flatten(record["method_settings"]) else "settings"
        changed = {**record, kind: nest({**flatten(record[kind]), name: other})}
        path.write_text(yaml.safe_dump(changed))
        assert name in free or refused_as_begun(place / "run", name), name


def test_no_flipped_bit_of_the_record_changes_the_run(place: Path) -> None:
    path, chance = place / "run" / "run.yaml", random.Random(3)
    content = path.read_bytes()
    for at in chance.sample(range(len(content)), 150):
        changed = bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert refused_as_begun(place / "run", "") or as_sealed(place / "run") == as_written(place / "run")


def as_written(run: Path) -> dict[str, Any]:
    """The settings as they were sealed."""
    content: dict[str, Any] = json.loads((run / "sealed.json").read_text())
    known = as_sealed(run)
    return {name: value for name, value in content.items() if name in known}


def as_sealed(run: Path) -> dict[str, Any]:
    """The settings as they would be sealed now."""
    return seal.sealed(load_run(run), {}, {})


def refused_as_begun(run: Path, said: str) -> bool:
    """Whether what run.yaml says is refused, in a line that names what has changed."""
    try:
        seal.refuse_changed(RunFolder(run), as_sealed(run), load_run(run).settings)
    except InputError as error:
        return said.partition(".")[0] in str(error)
    return False


def test_a_checkpoint_says_of_itself_what_is_true(place: Path) -> None:
    """A bit of what it holds beside its weights, flipped, makes it a damaged one, which is passed over."""
    in_file("run/checkpoints/step-00000006/facts.json", r'"step": 6', '"step": 7')(place)
    in_file("run/checkpoints/step-00000003/manifest.json", "policy", "qolicy")(place)
    with pytest.raises(CheckpointError, match="every checkpoint is damaged") as refused:
        api.resume(place / "run", quiet=True)
    assert "step-00000006, step-00000003" in str(refused.value)


GATHERED: dict[str, tuple[Change, str]] = {
    "the reward function": (in_file("reward.py", "return", "return -1.0 *"), "annotator.function "),
    "what it imports": (in_file("scale.py", "10", "20"), "scale.py (was"),
    "another sampler": (of_bytes("other/model/adapter_model.safetensors"), "sampler.models "),
    "the base of another sampler": (of_bytes("base/model.safetensors"), "base (was"),
    "what it is asked with": (of_json("other/model/condition.json", reward=2.0), "sampler.models "),
    "the prompts": (in_file("prompts.jsonl", "say", "tell"), "prompts.jsonl"),
    "what a round says": (in_file("run/rounds.jsonl", r'"online/words": \d', '"online/words": 9'), "round 1 wrote"),
    "which round it was": (in_file("run/rounds.jsonl", r'"round": 1', '"round": 5'), "round 5 wrote"),
}


def online_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Write models, prompts and a reward with a module beside it; the method and settings of a run on them."""
    save_tiny_model(folder / "model")
    save_tiny_model(folder / "base")
    data = write_feedback(folder)
    run_here("dpo", settings("dpo", folder / "base", data, folder / "other", steps=1, epochs=None, **{"lora.rank": 2}))
    condition = {"text": "{reward} ", "decimals": 1, "position": "start", "reward": 1.0}
    as_text("other/model/condition.json", json.dumps(condition))(folder)
    write_reward(folder)
    as_text("scale.py", "SCALE = 10\n")(folder)
    in_file("reward.py", "/ 10", "/ SCALE")(folder)
    in_file("reward.py", "^", "from scale import SCALE\n")(folder)
    models = [str(folder / "other" / "model")]
    return "rrhf", online(folder / "model", folder, folder / "run", **{"sampler.models": models})


@pytest.fixture(scope="module")
def gathering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that, and an online run that was killed in step 4."""
    folder = tmp_path_factory.mktemp("gathering")
    break_off(*online_run(folder), before_step=4)
    return folder


@pytest.fixture
def there(gathering: Path) -> Iterator[Path]:
    """That folder, which is put back afterwards as it was."""
    yield from put_back(gathering)


@pytest.mark.parametrize("what", GATHERED)
def test_what_judges_and_samples_is_sealed_too(what: str, there: Path) -> None:
    change, said = GATHERED[what]
    change(there)
    with pytest.raises(CheckpointError if "round" in what else InputError, match=re.escape(said)):
        api.resume(there / "run", quiet=True)


def test_notes_beside_another_model_may_change(there: Path) -> None:
    (there / "other" / "model" / "README.md").write_text("# Another card\n")
    api.resume(there / "run", quiet=True)
    assert model_bytes(there / "run")


def test_a_run_that_was_stopped_before_its_first_checkpoint_is_sealed(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    values = settings("dpo", tmp_path / "model", write_feedback(tmp_path), tmp_path / "run", save_every=10)
    break_off("dpo", values, before_step=3)
    in_file("run/run.yaml", r"beta: 0\.1\b", "beta: 0.3")(tmp_path)
    in_file("run/run.yaml", "threads: null", "threads: 2")(tmp_path)
    with pytest.raises(InputError, match=r"beta \(was 0\.1, is 0\.3\); threads \(was nothing, is 2\)"):
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


def in_checkpoint(change: Change) -> Change:
    """The same, with a manifest that vouches for what is there then."""

    def changed(folder: Path) -> None:
        change(folder)
        for manifest in folder.glob("run/checkpoints/*/manifest.json"):
            names = json.loads(manifest.read_text())["files"]
            digests = {n: hashlib.sha256((manifest.parent / n).read_bytes()).hexdigest() for n in names}
            manifest.write_text(json.dumps({"files": digests}))

    return changed


def every(file: str, content: bytes) -> Change:
    return lambda folder: [path.write_bytes(content) for path in folder.glob(f"run/checkpoints/*/{file}")]


def of_policy(change: Callable[[dict[str, Any]], object]) -> Change:
    def changed(folder: Path) -> None:
        for path in folder.glob("run/checkpoints/*/policy.safetensors"):
            tensors = load_file(path)
            change(tensors)
            save_file(tensors, path)

    return changed


OTHER = "is as its manifest says, but not of this run"
FOREIGN: dict[str, tuple[Change, str]] = {
    "no JSON": (every("facts.json", b"{"), "every checkpoint is damaged"),
    "too deep": (every("facts.json", b"[" * 100_000), "every checkpoint is damaged"),
    "nothing told": (every("facts.json", b"{}"), "every checkpoint is damaged"),
    "no tensors": (every("policy.safetensors", b"hello"), "every checkpoint is damaged"),
    "a tensor less": (of_policy(dict.popitem), OTHER),
    "another shape": (of_policy(lambda tensors: tensors.update({min(tensors): torch.zeros(3, 5)})), OTHER),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_checkpoint_with_a_right_manifest_and_wrong_content(what: str, place: Path) -> None:
    change, said = FOREIGN[what]
    in_checkpoint(change)(place)
    with pytest.raises(CheckpointError, match=said):
        api.resume(place / "run", quiet=True)
