"""Runs that are killed, run out of room or lose their folder, and what must become of them."""

import ctypes
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch

from support.small_runs import command, metrics_of, model_bytes, options
from trueup.training import api, checkpoint

MORE = {"reference.kind": "trust-region", "reference.alpha": 0.6, "reference.every": 2}


def put_back(folder: Path) -> Iterator[Path]:
    """The folder, which is as it was again once the one who has it is done."""
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)


def die_at(number: int) -> None:
    """Have this process killed at the n-th call that changes the disk, or in the middle of a write."""
    calls = 0

    def point() -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **more: Any) -> Any:
            point()
            return function(*arguments, **more)

        return inner

    def in_two(content: bytes, file: Any) -> None:
        point()
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            file.write(part)
            file.flush()
            point()

    def save_file(tensors: Any, path: Path, metadata: dict[str, str]) -> None:
        with open(path, "wb") as file:
            in_two(safetensors.torch.save(tensors, metadata), file)

    def write_text(path: Path, text: str, **_: Any) -> None:
        with open(path, "wb") as file:
            in_two(text.encode(), file)

    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    checkpoint.save_file = save_file  # type: ignore[assignment]
    Path.write_text = write_text  # type: ignore[method-assign, assignment]


def goes_on(output: Path, whole: Path) -> Any:
    """The result of resuming, which gives what the uninterrupted run gave."""
    result = api.resume(output, quiet=True)
    assert model_bytes(output) == model_bytes(whole) != {}
    assert metrics_of(output) == metrics_of(whole)
    return result


def train(values: dict[str, Any]) -> int:
    return command("train", "dpo", *options(values))


def one_line(errors: Path) -> str:
    """What the command said at its end, which must be one line and no traceback."""
    lines = errors.read_text().splitlines()
    assert not [line for line in lines if "Traceback" in line]
    assert [line for line in lines if line.startswith("trueup: ")] == lines[-1:]
    return lines[-1]


CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 1, 0x20, 0x1000, 0x4000, 1 << 18


def own_mounts() -> Any:
    """The C library, once what this process mounts is seen by no other; None where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        return None
    return libc


def mount_small(path: Path, size: str) -> bool:
    """Put a small file system at `path`, for this process alone."""
    libc = own_mounts()
    return libc is not None and not libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, f"size={size}".encode())


def make_read_only(folder: Path) -> bool:
    """Let this process write to the folder no longer; files that it has open are not affected."""
    if os.geteuid():
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o500)
        return True
    libc, name = own_mounts(), str(folder).encode()
    if libc is None or libc.mount(name, name, None, MS_BIND, None):
        return False
    return not libc.mount(b"none", name, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)


def make_writable(folder: Path) -> None:
    """Take back what `make_read_only` did to the folder itself."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
