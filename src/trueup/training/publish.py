"""A model for other programs: of a run, of one of its checkpoints or of any folder; merged, cast, put on the hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trueup import errors, model_folder, model_hub, words
from trueup.config.resolve import RUN_FILE, Resolved, load_run
from trueup.feedback.condition import Condition, read_condition
from trueup.feedback.transforms import WrittenReward
from trueup.models import load, lora, reward
from trueup.models.tokenizer import quiet_library
from trueup.settings.command_settings import ExportSettings
from trueup.training import checkpoint, setup
from trueup.training.export import card_of, export, refuse_other_weights
from trueup.training.folder import RunFolder

CPU = torch.device("cpu")
KEPT = ("README.md", "reward.json")  # files beside a model's weights that go with it, where they are there


@dataclass(frozen=True, slots=True)
class Found:
    network: Any
    tokenizer: Any
    base: str
    dtype: torch.dtype
    condition: Condition | None
    card: dict[str, Any] | None
    """Values of the model card's template; None where there is a card, or trueup did not make the model."""
    beside: dict[str, str]


def publish(settings: ExportSettings) -> None:
    """Write the folder, compare what was written with what was to be, and say how it is used."""
    folder = Path(settings.output)
    if folder.exists():
        raise errors.InputError(f"{folder}: the folder is there already; give another --output")
    if settings.push and not ("/" in settings.push and model_hub.ID.fullmatch(settings.push)):
        raise errors.InputError(f"--push {settings.push!r} is no name on the hub; give OWNER/NAME")
    if settings.push and model_hub.is_offline():
        raise errors.InputError(f"--push {settings.push}: the hub is switched off; unset HF_HUB_OFFLINE")
    found = _found(settings)
    network: Any = found.network
    adapted = lora.is_adapted(network)
    if settings.merge and not adapted:
        raise errors.InputError(f"{settings.source}: it is no adapter, so there is nothing to merge. Leave --merge out")
    if settings.base and (settings.merge or not adapted):
        raise errors.InputError("--base says what an adapter stands on, and a full model is written. Leave it out")
    beside = found.beside
    if settings.merge:
        with quiet_library():
            network = network.merge_and_unload()
        beside = {
            name: text.replace("library_name: peft", "library_name: transformers", 1).replace(
                "from peft import AutoPeftModel", "from transformers import AutoModel", 1
            )
            for name, text in beside.items()
        }
    elif adapted:
        lora.stand_on(network, settings.base or found.base)
        base = network.peft_config[lora.POLICY].base_model_name_or_path
        if settings.push and Path(base).is_absolute():
            raise errors.InputError(
                f"--push {settings.push}: the adapter stands on {base}, which nobody finds from the hub. Give its base "
                "model there, as in --base OWNER/NAME, or --merge"
            )
        if not Path(base).is_absolute():
            head = f"library_name: peft\nbase_model: {base}\n"
            beside = {
                name: re.sub(r"library_name: peft\n(base_model: .*\n)?", head, text, count=1)
                for name, text in beside.items()
            }
    dtype = getattr(torch, settings.dtype) if settings.dtype else found.dtype
    export(
        network, found.tokenizer, folder, dtype=dtype, card=found.card, condition=found.condition,
        beside=beside,
    )  # fmt: skip
    refuse_other_weights(folder, network)
    what = "an adapter" if adapted and not settings.merge else f"a full model in {str(dtype)[6:]}"
    words.logger.info(f"{folder}: {what}, read again and found to be what was to be written")
    stands = network.peft_config[lora.POLICY] if adapted and not settings.merge else None
    for line in commands(folder, stands):
        words.logger.info(line)
    if settings.push:
        _push(folder, settings.push, private=not settings.public)


def commands(folder: Path, adapter: Any) -> Sequence[str]:
    """How other programs take a model, or an adapter of this configuration."""
    name = folder.resolve().name
    if adapter is not None:
        revision = f" --revision {adapter.revision}" if adapter.revision else ""
        return (
            f"vLLM:   vllm serve {adapter.base_model_name_or_path}{revision} --enable-lora "
            f"--lora-modules {name}={folder}",
            f"a full model for GGUF and Ollama: trueup export {folder} --merge --output {folder}-merged",
        )
    return (
        f"vLLM:   vllm serve {folder}",
        f"GGUF:   python llama.cpp/convert_hf_to_gguf.py {folder} --outfile {name}.gguf",
        f"Ollama: echo 'FROM ./{name}.gguf' > Modelfile && ollama create {name} -f Modelfile",
    )


def _found(settings: ExportSettings) -> Found:
    place = locate(settings.source, settings.step)
    if place.run is not None and place.model is None:
        return _of_checkpoint(place.run, place.step, trust_remote_code=settings.trust_remote_code)
    return _of_folder(place.model or settings.source, settings.trust_remote_code)


@dataclass(frozen=True, slots=True)
class Place:
    """What a name stands for: the folder of a model, which may be that of a finished run, or a run's checkpoint."""

    model: str | None  # folder of the model; None: what a checkpoint of the run holds
    run: RunFolder | None = None
    step: int | None = None  # of the checkpoint, where one was named; else the newest


def locate(name: str, step: int | None = None) -> Place:
    """Where the model is that is named by the folder of a run, of one of its checkpoints, or by its own."""
    source = Path(name)
    run = source
    if source.parent.name == "checkpoints" and source.name.startswith(checkpoint.PREFIX):
        if step is not None:
            raise errors.InputError(f"{source} is a checkpoint, and --step names another. Leave one of them out")
        run, step = source.parent.parent, int(source.name.removeprefix(checkpoint.PREFIX))
    if not (run / RUN_FILE).is_file():
        if step is not None:
            raise errors.InputError(f"{source} is not the folder of a run, so it has no steps. Leave --step out")
        return Place(name)
    folder = RunFolder(run)
    done = step is None and folder.read_status().get("state") == "done"
    return Place(str(folder.model) if done else None, folder, step)


def _of_folder(path: str, trust_remote_code: bool) -> Found:
    path = model_folder.folder_of(model_folder.check_model(path, trust_remote_code=trust_remote_code, world=False))
    base = model_folder.base_folder(path)
    read = reward.load_reward if model_folder.scores_text(path) or model_folder.scores_text(base) else load.load
    options: dict[str, Any] = {"device": torch.device("cpu"), "trust_remote_code": trust_remote_code}
    loaded: load.Loaded = read(path, **options)
    beside = {name: (Path(path) / name).read_text("utf-8") for name in KEPT if (Path(path) / name).is_file()}
    dtype = _stored(Path(base))
    return Found(loaded.network, loaded.tokenizer, loaded.base_path, dtype, loaded.condition, None, beside)


def _stored(folder: Path) -> torch.dtype:
    """What most of the weights in a folder are held in."""
    from safetensors import safe_open

    counts: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no mapping
                part = opened.get_slice(key)
                counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + 1
    common = max(counts, key=lambda name: counts[name])
    return {"BF16": torch.bfloat16, "F16": torch.float16}.get(common, torch.float32)


def restored(
    folder: RunFolder, step: int | None, *, trust_remote_code: bool, device: torch.device = CPU
) -> tuple[load.Loaded, Resolved, int]:
    """The policy of a run at a step, the run's settings, and the step; None takes the newest whole checkpoint.
    Whether the model's code is trusted is said by who asks, whatever the run's settings say."""
    resolved = load_run(folder.path)
    settings = resolved.settings
    if settings.model != model_folder.WORLD:
        model_folder.check_model(settings.model, trust_remote_code=trust_remote_code)
    # What is added to a model is added to its weights as they are, not to those in 4 bits.
    given = {"trust_remote_code": trust_remote_code, "device": device.type, "quantize": None}
    settings = settings.model_copy(update=given)
    if step is None:
        saved = checkpoint.load_newest(folder.checkpoints)
        if saved is None:
            raise errors.InputError(f"{folder.path}: the run has no checkpoint yet; go on with it first")
    else:
        saved = checkpoint.load_step(folder.checkpoints, step)
    method = resolved.info.configure(resolved.method_settings)
    policy, loaded = setup.make_policy(settings, method)
    trained = policy.trainable()
    with torch.no_grad():
        for name, value in saved.parts["policy"].items():
            trained[name].copy_(value)
    condition = read_condition(folder.model) or loaded.condition
    if condition is None and any(isinstance(one, WrittenReward) for one in method.transforms):
        raise errors.InputError(
            f"{folder.path}: what {method.name} asks its model with is known when the run is done. Go on with it first"
        )
    return replace(loaded, network=policy.network, condition=condition), resolved, saved.step


def _of_checkpoint(folder: RunFolder, step: int | None, *, trust_remote_code: bool) -> Found:
    loaded, resolved, step = restored(folder, step, trust_remote_code=trust_remote_code)
    name = f"{folder.path.name}, step {step} of {folder.read_status().get('steps')}"
    scores = resolved.info.configure(resolved.method_settings).output == "scores"
    card = card_of(resolved, loaded.base_path, name=name, step=step, scores=scores)
    dtype = getattr(torch, resolved.settings.save_dtype)
    return Found(loaded.network, loaded.tokenizer, loaded.base_path, dtype, loaded.condition, card, {})


def _push(folder: Path, name: str, *, private: bool) -> None:
    from huggingface_hub import HfApi

    try:
        hub = HfApi()
        hub.create_repo(name, private=private, exist_ok=True)
        done = hub.upload_folder(repo_id=name, folder_path=str(folder), commit_message="trueup export")
    except Exception as error:  # the library raises of its own, of its client and of the system
        why = "cannot be reached" if model_hub.is_of_the_network(error) else "refuses it"
        raise errors.InputError(
            f"--push {name}: the hub {why}: {model_hub.without_secrets(words.one_line(error))}. {folder} is complete; "
            "look at the name, at the token in HF_TOKEN and at the network"
        ) from None
    words.logger.info(f"{name} is on the hub{' (private)' if private else ''}: {done.commit_url}")
