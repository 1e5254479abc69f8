"""Where metrics go beside metrics.jsonl: one entry of `TRACKERS` each, whose package is imported where it is used."""

import importlib
import importlib.util
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import InputError
from trueup.files import replaced_whole

logger = logging.getLogger(__name__)

WANDB = "wandb.id"
"""In the run's folder."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """A place for metrics; its failures are reported and otherwise ignored."""

    name: str
    log: Callable[[int, Mapping[str, float]], None]
    """Records the values of a step."""
    close: Callable[[], None]


def _tensorboard(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    """Event files in RUN/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    # A resumed run writes the steps after its checkpoint again.
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def log(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return Tracker("tensorboard", log, writer.close)


def _module(name: str, run_name: str, settings: Mapping[str, Any], **more: Any) -> Tracker:
    """W&B, and trackio which speaks its dialect: `init`, `log`, `finish`."""
    module = importlib.import_module(name)
    module.init(project="trueup", name=run_name, config=dict(settings), **more)
    return Tracker(name, lambda step, values: module.log(dict(values), step=step), module.finish)


def _wandb(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    """W&B knows a run by its id, which is kept in the run's folder so that a resumed run goes on with its own."""
    file = folder / WANDB
    if not file.exists():
        with replaced_whole(file) as opened:
            opened.write(f"{uuid.uuid4().hex[:12]}\n".encode())
    number = file.read_text(encoding="utf-8").strip()
    return _module("wandb", run_name, settings, dir=str(folder), id=number, resume="allow")


def _trackio(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    """trackio knows a run by its name."""
    return _module("trackio", run_name, settings, **({"resume": "allow"} if step else {}))


TRACKERS: dict[str, Callable[[Path, str, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""Name of a tracker and of its package -> what opens it, told the run's folder, name, settings and steps so far."""


def check_installed(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is missing, before any work is done.

    Raises:
        InputError: naming the package.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"tracker {name} needs the package {name}, which is not installed. Install trueup[{name}], or leave "
                "the tracker out: metrics.jsonl is always written"
            )


def open_trackers(
    names: tuple[str, ...], folder: Path, run_name: str, settings: Mapping[str, Any], step: int
) -> list[Tracker]:
    """Start the trackers asked for, after `step` steps; one that cannot start is reported and left out."""
    opened = []
    for name in names:
        try:
            opened.append(TRACKERS[name](folder, run_name, settings, step))
        except Exception as error:  # a service that is down, an account that is missing
            logger.warning(f"tracker {name} could not start and is left out: {error}")
    return opened
