"""Places where metrics can go besides metrics.jsonl. Each is imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from trueup.errors import InputError


class Tracker(Protocol):
    """A place for metrics; its failures are reported and otherwise ignored."""

    name: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record a step's values."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class TensorBoard:
    """Event files in RUN/tensorboard."""

    name = "tensorboard"

    def __init__(self, folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run writes the steps after its checkpoint again.
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Module:
    """W&B, and trackio which speaks its dialect: `init`, `log`, `finish`."""

    def __init__(self, name: str, folder: Path, run_name: str, settings: Mapping[str, Any]) -> None:
        import importlib

        self.name = name
        self.module = importlib.import_module(name)
        extra = {"dir": str(folder)} if name == "wandb" else {}
        self.module.init(project="trueup", name=run_name, config=dict(settings), **extra)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.module.log(dict(values), step=step)

    def close(self) -> None:
        self.module.finish()


KINDS: dict[str, Callable[[Path, str, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda folder, run_name, settings, step: _Module("wandb", folder, run_name, settings),
    "trackio": lambda folder, run_name, settings, step: _Module("trackio", folder, run_name, settings),
}


def check_installed(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is missing, before any work is done.

    Raises:
        InputError: naming the package.
    """
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"tracker {name} needs the package {name}, which is not installed. Install trueup[{name}], or leave "
                "the tracker out: metrics.jsonl is always written"
            )


def open_trackers(
    names: tuple[str, ...],
    folder: Path,
    run_name: str,
    settings: Mapping[str, Any],
    step: int,
    warn: Callable[[str], None],
) -> list[Tracker]:
    """Start the trackers asked for, after `step` steps; one that cannot start is reported and left out."""
    opened = []
    for name in names:
        try:
            opened.append(KINDS[name](folder, run_name, settings, step))
        except Exception as error:  # a service that is down, an account that is missing
            warn(f"tracker {name} could not start and is left out: {error}")
    return opened
