"""Checkpoints: what was saved comes back, and whatever is damaged is named and passed over, not believed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.toy_checkpoints import flip, same, toy

from trueup.errors import CheckpointError
from trueup.training import checkpoint as checkpoints
from trueup.training.checkpoint import Checkpoint, load_newest, save, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Whole checkpoints of steps 3 and 6."""
    for step in (3, 6):
        save(tmp_path / "checkpoints", toy(step), keep=2)
    return tmp_path / "checkpoints"


def test_it_is_tensors_and_json(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "step-00000006").iterdir())
    tensors = [f"{name}.safetensors" for name in ("optimizer", "policy", "random", "reference")]
    assert names == sorted([*tensors, "facts.json", "manifest.json"])
    facts = json.loads((folder / "step-00000006" / "facts.json").read_text())
    assert (facts["step"], facts["format"]) == (6, checkpoints.FORMAT)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (3, 6, 9, 12):
        save(tmp_path, toy(step), keep=keep)
        assert same(load_newest(tmp_path), toy(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (3, 6, 9, 12)[-keep:]]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_only_whole_one_is_kept_behind_damaged_ones(tmp_path: Path, keep: int) -> None:
    """A run that goes back behind them and stops before it comes to them again."""
    for step in (4, 8, 10):
        save(tmp_path, toy(step), keep=9)
    for step in (8, 10):
        flip(tmp_path / f"step-{step:08d}" / "policy.safetensors")
    for step in (5, 8, 9):
        save(tmp_path, toy(step), keep=keep)
        assert same(load_newest(tmp_path), toy(step))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped bit": flip, "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0), "missing": lambda file: file.unlink(),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b" "),
}  # fmt: skip
FILES = (
    "policy.safetensors", "optimizer.safetensors", "reference.safetensors", "random.safetensors",
    "facts.json",
)  # fmt: skip


@pytest.mark.parametrize(
    "name, damage",
    [(name, damage) for name in FILES for damage in DAMAGE]
    + [("manifest.json", damage) for damage in DAMAGE if damage != "longer"],  # space after JSON changes nothing
)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_used(
    folder: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGE[damage](folder / "step-00000006" / name)
    assert same(load_newest(folder), toy(3))
    said = caplog.messages
    assert len(said) == 2
    assert f"{folder / 'step-00000006'}: damaged checkpoint, not used: " in said[0]
    if (name, damage) != ("manifest.json", "flipped bit"):  # it is in a checksum, and the file is named whose it is
        assert name in said[0]
    assert "going on from step-00000003" in said[1]
    assert len(list(folder.iterdir())) == 2  # nothing was deleted


def test_no_flipped_bit_anywhere_is_believed(tmp_path: Path) -> None:
    """Every bit of the manifest, and some of the rest: names and shapes of tensors, their values, and facts."""
    saved = save(tmp_path, Checkpoint(6, {"policy": {"a": torch.ones(2)}}, {"update_pending": False}), keep=1)
    for file in sorted(saved.iterdir()):
        content = file.read_bytes()
        listing = file.name == "manifest.json"
        for place in range(0, len(content), 1 if listing else 5):
            for bit in range(8) if listing else [place % 8]:
                damaged = bytearray(content)
                damaged[place] ^= 1 << bit
                file.write_bytes(damaged)
                assert verify(saved) is not None, (file.name, place, bit)
        file.write_bytes(content)
    assert verify(saved) is None


def test_a_format_from_the_future_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even beside an older one that could be read: what came between them would be lost without a word."""
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 41)
    save(folder, toy(9), keep=3)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"step-00000009: written in format 42 by a newer trueup.*Update"):
        load_newest(folder)


def test_a_whole_one_of_the_same_step_stays_as_it_is(folder: Path) -> None:
    """A run that is stopped where it was resumed saves the step it was resumed from."""
    before = {path: path.stat().st_mtime_ns for path in (folder / "step-00000006").iterdir()}
    assert save(folder, toy(6), keep=1) == folder / "step-00000006"
    assert {path: path.stat().st_mtime_ns for path in (folder / "step-00000006").iterdir()} == before


def test_everything_is_on_the_disk_before_it_has_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a file that was not flushed may be empty though its name is there."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(handle: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def record_rename(old: Path, new: Path) -> None:
        calls.append(("rename", Path(new).name))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    save(folder, toy(9), keep=2)
    renamed = calls.index(("rename", "step-00000009"))
    flushed = {name for what, name in calls[:renamed] if what == "fsync"}
    assert flushed == {*FILES, "manifest.json", ".step-00000009.part"}
    assert calls[renamed + 1 :] == [("fsync", "checkpoints")]
