"""Checkpoints: safetensors and JSON, written whole or not at all, verified before they are used.
A checkpoint is a folder `checkpoints/step-00000042` of tensor files, `facts.json`, and `manifest.json` with the SHA-256
of every other file. It is written under another name, flushed to the disk and renamed; a folder under the final name
whose manifest holds is whole. What the manifest does not name is never opened, and nothing is ever unpickled."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from trueup import errors, model_folder, words
from trueup.files import file_hash, replaced_folder
from trueup.parallel import processes, sharding

T = TypeVar("T")
FORMAT = 1
PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a run needs to go on from a step."""

    step: int
    parts: Mapping[str, Mapping[str, Tensor]]  # tensors by file: `policy`, `optimizer`, `reference`, `random`
    metadata: Mapping[str, Any] = field(default_factory=dict)


def name_of(step: int) -> str:
    return f"{PREFIX}{step:08d}"


def save(folder: Path, checkpoint: Checkpoint, *, keep: int, best: int | None = None) -> Path:
    """Write a checkpoint and remove the oldest beyond `keep`; never the only whole one, or that of step `best`.
    A whole one of the same step is left as it is: a run that stops where it was resumed has nothing to add."""
    final, digests = folder / name_of(checkpoint.step), dict[str, str]()

    def together(action: Callable[[], T]) -> list[T]:
        """As `processes.together`; what keeps one process from writing stops all of them there."""

        def own() -> T:
            try:
                return action()
            except Exception as error:  # OSError, and SafetensorError for the same full disk
                needed = sum(tensor.nbytes for each in checkpoint.parts.values() for tensor in each.values())
                raise errors.CheckpointError(
                    f"{final}: the checkpoint could not be written: {words.reason(error)}. It needs {needed / 1e6:.1f} "
                    f"MB and {_free(folder):.1f} MB are free there; earlier checkpoints are intact. Make room and go "
                    "on with --resume"
                ) from error

        return processes.together(own)

    def by_first(action: Callable[[], Any]) -> Any:
        return together(lambda: action() if processes.owns() else None)[0]

    if not by_first(lambda: final.is_dir() and verify(final) is None):
        with ExitStack() as opened:
            part: Path = by_first(lambda: opened.enter_context(replaced_folder(final)))
            for name, tensors in checkpoint.parts.items():
                for files in together(partial(_write, part, name, tensors)):
                    digests |= files
            by_first(lambda: _describe(part, checkpoint, digests))
            by_first(lambda: opened.pop_all().close())
    # Those of later steps are damaged ones that the run went back behind, and comes to again.
    for old in sorted(one for one in _folders(folder) if one.name <= final.name)[:-keep]:
        if processes.owns() and (best is None or old.name != name_of(best)):
            shutil.rmtree(old, ignore_errors=True)
    return final


def keep_only(folder: Path, step: int) -> None:
    """Remove every checkpoint but that of a step, if that is there."""
    if (folder / name_of(step)).is_dir():
        for other in _folders(folder):
            if other.name != name_of(step):
                shutil.rmtree(other, ignore_errors=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, None without one; a damaged one is named and passed over.
    CheckpointError: every checkpoint is damaged, or one was written by a newer version."""
    newest = processes.owned(lambda: _newest(folder))
    return None if newest is None else _read(newest)


def _newest(folder: Path) -> Path | None:
    damaged: list[str] = []
    for path in sorted(_folders(folder), reverse=True):
        fault = verify(path)
        if fault is None:
            if damaged:
                words.logger.warning(f"going on from {path.name}, the newest whole checkpoint")
            return path
        words.logger.warning(f"{path}: damaged checkpoint, not used: {fault}")
        damaged.append(path.name)
    if damaged:
        raise errors.CheckpointError(
            f"{folder}: every checkpoint is damaged ({', '.join(damaged)}); nothing was deleted. Restore one of them "
            "from a backup, or start again with another --output"
        )
    return None


def load_step(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step, which is there and whole."""
    path = folder / name_of(step)
    if not path.is_dir():
        steps = [str(int(one.name.removeprefix(PREFIX))) for one in sorted(_folders(folder))]
        raise errors.InputError(
            f"{folder}: there is no checkpoint of step {step}; there are those of {words.listed(steps)}"
        )
    if (fault := verify(path)) is not None:
        raise errors.CheckpointError(f"{path}: damaged checkpoint: {fault}. Give another step")
    return _read(path)


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        expected = _manifest(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"manifest.json cannot be read ({error})"
    if "facts.json" not in expected:
        return "manifest.json does not name what is to be there"
    for name, digest in expected.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file_hash(file) != digest:
            return f"{name} does not match its checksum"
        if name.endswith(".safetensors"):
            try:
                model_folder.check_safetensors(file)
            except errors.InputError as error:
                return str(error)
    try:  # under a checksum: a flipped bit is not taken for a newer version
        metadata = _metadata(path)
        version, step = int(metadata["format"]), int(metadata["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"facts.json does not tell what belongs there ({words.one_line(error)})"
    if f"{PREFIX}{step:08d}" != path.name:
        return f"facts.json is of step {step}"
    if version > FORMAT:
        raise errors.CheckpointError(
            f"{path}: written in format {version} by a newer trueup; this one reads up to {FORMAT}. Update trueup"
        )
    return None


def _write(part: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Hashes of the files that this process wrote of some tensors."""
    written = [part / f"{name}.safetensors"] if processes.owns() else []
    if any(map(sharding.is_sharded, tensors.values())):
        (part / name).mkdir(exist_ok=True)
        written = sharding.write(part / name, tensors)
    elif written:
        # With what transformers writes, so that the last policy and the finished model may be one file.
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(plain, written[0], metadata={"format": "pt"})
    return {str(file.relative_to(part)): file_hash(file) for file in written}


def _describe(part: Path, checkpoint: Checkpoint, digests: dict[str, str]) -> None:
    metadata = {"format": FORMAT, "step": checkpoint.step, **checkpoint.metadata}
    (part / "facts.json").write_text(json.dumps(metadata, indent=1), encoding="utf-8")
    digests["facts.json"] = file_hash(part / "facts.json")
    (part / "manifest.json").write_text(json.dumps({"files": digests}, indent=1), encoding="utf-8")


def _read(path: Path) -> Checkpoint:
    metadata = _metadata(path)
    parts: dict[str, Mapping[str, Tensor]] = {}
    for name in sorted(_manifest(path)):
        folder, _, file = name.rpartition("/")
        if folder and folder not in parts:
            parts[folder] = sharding.Shards(path / folder)
        elif file.endswith(".safetensors") and not folder:
            with safe_open(path / name, framework="pt") as opened:
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            parts[name.removesuffix(".safetensors")] = tensors
    return Checkpoint(int(metadata["step"]), parts, metadata)


def _manifest(path: Path) -> dict[str, str]:
    return dict(json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"])


def _metadata(path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((path / "facts.json").read_text(encoding="utf-8"))
    return metadata


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{PREFIX}*") if path.is_dir()]


def _free(folder: Path) -> float:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free / 1e6
