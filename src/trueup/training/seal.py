"""What a run was begun with: all that decides how it ends, from which a run that goes on does not depart.
Beside its settings run.yaml holds versions and fingerprints for people. What is compared is sealed.json: everything by
name, whose hash every checkpoint holds."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trueup import __version__, errors, model_folder, model_hub, words
from trueup.batch.chat_template import DATED
from trueup.config import layers, resolve
from trueup.feedback.condition import Condition
from trueup.files import content_identity
from trueup.methods.method import Method
from trueup.models.tokenizer import tokenizer_folder
from trueup.settings import annotator_settings, run_settings, schema
from trueup.sources.by_name import judging_content, model_folders
from trueup.training.folder import RunFolder

KINDS = {
    "model_identity": "the weights or the configuration of the model",
    "tokenizer_identity": "the tokenizer or its chat template", "end_ids": "the tokens that end a response",
    "tokens_identity": "the tokens of the data", "asked_with": "what the model is asked with",
}  # fmt: skip
"""Kinds of what is recorded of a run -> their names in messages."""
BESIDE = ("annotator.", "eval_by.", "sampler.models ")
"""How the names of files and models begin that judge and sample beside the policy."""
TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("chat_template*", "additional_chat_templates/*", "*.model", "*.tiktoken"),
)
TEMPLATES = ("tokenizer_config.json", "chat_template*", "additional_chat_templates/*")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def record_of(identities: Mapping[str, Any], condition: Condition | None) -> dict[str, Any]:
    """What run.yaml holds beside the settings; `tokens_identity` joins it once the tokens are known."""
    return {
        "versions": {
            "trueup": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        **identities,
        "asked_with": None if condition is None else asdict(condition),
    }


def condition_as_begun(folder: Path, now: Condition | None) -> Condition | None:
    """What the model was asked with when the run began; `trueup condition` may have changed it since."""
    record = resolve.read_record(folder)
    if "asked_with" not in record:
        return now
    begun = record["asked_with"]
    return None if begun is None else Condition(**begun)


def sealed(resolved: resolve.Resolved, record: Mapping[str, Any], configured: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides how a run ends, by name; JSON-ready."""
    plain = resolve.dump(resolved)
    settings = layers.flatten(plain["method_settings"]) | layers.flatten(plain["settings"])
    free = {*run_settings.RESUME_MAY_CHANGE, "output"} - ({"eval_every"} if resolved.settings.best_by else set())
    kept = {name: annotator_settings.decisive(value) for name, value in settings.items() if name not in free}
    known: dict[str, Any] = {"method": resolved.info.name, **kept}
    for kind, value in record.items():
        if isinstance(value, dict) and kind not in ("asked_with", "versions", "reference"):
            known |= value
        elif kind not in ("versions", "reference"):
            known[KINDS.get(kind, kind)] = value
    made: dict[str, Any] = json.loads(json.dumps(known | layers.flatten(configured), default=str))
    return made


def seal_of(content: Mapping[str, Any]) -> str:
    """Hash of what is sealed, which every checkpoint holds; its second half is of what judges and samples beside."""
    beside = {name: value for name, value in content.items() if _is_beside(name)}
    own = {name: value for name, value in content.items() if name not in beside}
    digests = [hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest() for one in (own, beside)]
    return "".join(digest[: len(digest) // 2] for digest in digests)


def refuse_changed(
    folder: RunFolder, now: dict[str, Any], settings: run_settings.RunSettings, seal: str | None = None
) -> None:
    """Refuse to go on where anything that decides the result is not what the run began with; each is named.
    By `accept_changed` files and models that judge and sample may have changed, which is warned of and sealed anew.
    What is not known yet may be missing now; `seal` is of the checkpoint that the run goes on from."""
    before, accept = folder.read_sealed(), settings.accept_changed
    # The tokens are known last, be it when a run begins or when it goes on.
    later = {KINDS["tokens_identity"]} - (before.keys() & now.keys())
    changed = {name: said for name, said in layers.differences(before, now).items() if name not in later}
    mended = bool(changed) and all(map(_is_beside, changed))
    if accept and mended:
        words.logger.warning(f"going on although these have changed since the run began: {'; '.join(changed.values())}")
        own = {name: value for name, value in before.items() if not _is_beside(name)}
        folder.write_sealed(own | {name: value for name, value in now.items() if _is_beside(name)}, settings)
        changed = {}
    half = len(seal or "") // 2 if accept else None
    if seal is not None and not changed and seal[:half] != seal_of(before)[:half]:
        changed["seal"] = f"{folder.sealed.name}, which is not the one that the checkpoint was written with"
    if changed:
        raise errors.InputError(
            f"{folder.path}: the run cannot go on as it began, because these have changed since: "
            f"{'; '.join(changed.values())}. Put them back, or begin a new run"
            + ("; --accept-changed true goes on with them" if mended else "")
        )


def _is_beside(name: str) -> bool:
    """Whether what is sealed under a name is a file or a model that judges or samples beside the policy."""
    return name.startswith(BESIDE) and " " in name


def tokenizer_files(settings: run_settings.RunSettings, base: str) -> str:
    """Hash of the files that the tokenizer of a full model's folder and its chat template are read from."""
    folder = Path(tokenizer_folder(model_folder.folder_of(settings.model), base))
    files = sorted({file for form in TOKENIZER for file in folder.glob(form)})
    told = [(file.name, content_identity(file)) for file in files]
    if settings.chat_template is not None:
        told.append(("chat_template", content_identity(Path(settings.chat_template))))
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def other_files(settings: run_settings.RunSettings, base: str) -> dict[str, str]:
    """Hashes of the files and models that judge and sample beside the policy, and of code in its folder, by name."""
    judging = judging_content(settings.annotator) if settings.annotator is not None else {}
    found: dict[str, Path] = {}
    for name in settings.sampler.models:
        found |= {f"sampler.models {model_hub.named(folder)}": folder for folder in model_folders(name)}
    if settings.trust_remote_code:
        found |= {f"the code {file}": file for file in sorted(Path(base).glob("*.py"))}
    made = {name: model_folder.model_content(path) for name, path in found.items()}
    made |= {f"annotator.{name}": content for name, content in judging.items()}
    if settings.eval_prompts and settings.eval_by is not None:
        made |= {f"eval_by.{name}": content for name, content in judging_content(settings.eval_by).items()}
    return made


def others_write_date(settings: run_settings.RunSettings) -> bool:
    """Whether the chat template of a model that judges or samples beside the policy may write today's date."""
    names = list(settings.sampler.models)
    every = annotator_settings.annotators_in(settings.annotator).values() if settings.annotator is not None else ()
    names += [vars(one)[one.about.main] for one in every if one.about.weights is not None]
    return any(
        DATED.encode() in file.read_bytes()
        for folder in map(model_folder.folder_of, names)
        for form in TEMPLATES
        for file in Path(tokenizer_folder(folder, model_folder.base_folder(folder))).glob(form)
    )


def warn_of_versions(folder: Path, record: Mapping[str, Any]) -> None:
    versions = record["versions"]
    for name, was in resolve.read_record(folder).get("versions", {}).items():
        if was != versions.get(name):
            words.logger.warning(
                f"the run began with {name} {was} and goes on with {versions.get(name)}: not bit for bit the same"
            )


def warn_of_departures(log: Path, settings: run_settings.RunSettings, method: Method) -> None:
    """Say in what a replay departs from the run in whose folder the log lies; nothing where there is no such run."""
    try:
        began = resolve.load_run(log.parent)
    except errors.InputError:
        return
    own = layers.flatten(dict(resolve.dump(began)["method_settings"]))
    before = {"method": began.info.name, **own, **_of_result(began.settings)}
    now = {"method": method.name, **layers.flatten(dict(method.settings)), **_of_result(settings)}
    if not settings.micro_batch_tokens:  # the model decides, as it did
        now["micro_batch_tokens"] = before["micro_batch_tokens"]
    changed = layers.differences(before, now)
    if changed:
        said = changed.get("method") or words.listed(changed.values())
        words.logger.warning(
            f"{log} was written by a run with other settings, and this one ends with other weights: {said}. For the "
            f"same ones give --config {log.parent / 'run.yaml'}"
        )


def _of_result(settings: run_settings.RunSettings) -> dict[str, Any]:
    names = {
        setting.path for setting in schema.settings_in(run_settings.RunSettings) if setting.role.affects == "result"
    }
    return {name: value for name, value in layers.flatten(settings.model_dump(mode="json")).items() if name in names}
