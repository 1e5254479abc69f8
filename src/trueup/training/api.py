"""Training from Python and from the command line: from settings to a finished run folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup import display, stop
from trueup.config.resolve import Resolved, load_run, resolve
from trueup.config.run_checks import check_inputs, check_output
from trueup.config.trust import refuse_run
from trueup.errors import InputError, Stopped
from trueup.parallel.processes import alike, inside, joined, owned
from trueup.settings.run_settings import RunSettings
from trueup.training.folder import RunFolder

if TYPE_CHECKING:
    from trueup.methods.method import Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run left behind."""

    folder: Path
    model: Path
    """Folder of the aligned model, or of its adapter."""
    steps: int
    metrics: dict[str, float]
    """The last values of every metric."""


def train(
    method: Method,
    *,
    model: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    output: str | Path,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Align a model with feedback.

    Args:
        method: for example `trueup.methods.tr_dpo(beta=0.05)`.
        model: folder of a model or adapter in Hugging Face format, or `world`.
        data: files with feedback, or names such as `world:pairs`; left out where feedback is gathered, as by
            `source="online", prompts="prompts.jsonl", annotator="world:gold"`.
        output: folder of the run; it must not hold one already.
        quiet: show warnings only.
        settings: any setting in docs/settings.md by name; `reward` is short for an
            annotator that scores (`trueup.config.annotator_names`).

    Raises:
        InputError, CheckpointError, NumericsError: see `trueup.errors`; the message is one line for the user.
        Stopped: SIGTERM or Ctrl-C; the run goes on with `resume`.
    """
    given: dict[str, Any] = {"model": str(model), "output": str(output), **settings}
    if data is not None:
        given["data"] = [str(file) for file in ([data] if isinstance(data, str | Path) else data)]
    with display.shown(quiet=quiet):
        return run(resolve(method.name, overrides={**method.settings, **given}), quiet=quiet)


def run(resolved: Resolved, *, quiet: bool = False) -> Result:
    """Begin a run.

    Raises:
        InputError: what was given cannot be trained on; the run folder is not left behind.
        CheckpointError, NumericsError, Stopped: as for `train`.
    """
    with joined(), display.shown(quiet=quiet):
        resolved = replace(resolved, settings=alike(lambda: check_inputs(resolved.settings)))
        folder = RunFolder(Path(resolved.settings.output))
        with folder.locked():
            try:
                owned(lambda: _check_folder(resolved.settings, folder))
                return _go(resolved, folder, resume=False)
            except BaseException:
                folder.discard_if_empty()
                raise


def _check_folder(settings: RunSettings, folder: RunFolder) -> None:
    """Look at the run's folder again, now that no other run can begin here."""
    check_output(settings.output)
    folder.check_fresh(gathers=settings.gathers)


def resume(
    path: str | Path, overrides: dict[str, Any] | None = None, *, quiet: bool = False, trust_run: bool = False
) -> Result:
    """Go on with a run from its newest whole checkpoint, bit for bit as if it had not been interrupted.

    Args:
        path: the run's folder.
        overrides: settings that cannot change the result (`trueup.settings.run_settings.RESUME_MAY_CHANGE`).
        trust_run: of a run that another user or machine began, run the code and send the keys that it names.

    Raises:
        InputError: there is no run, what it was trained on has changed, or it is not to be trusted.
        CheckpointError: every checkpoint is damaged.
        NumericsError, Stopped: as for `train`.
    """
    resolved = load_run(path, overrides)
    refuse_run(path, resolved.info, overrides or {}, trusted=trust_run)
    return go_on(resolved, quiet=quiet)


def go_on(resolved: Resolved, *, quiet: bool = False) -> Result:
    """Go on with a run whose settings were read; raises as `resume` does."""
    folder = RunFolder(Path(resolved.settings.output))
    with joined():
        status = owned(lambda: _refuse_done(folder))
        with folder.locked(), display.shown(quiet=quiet), folder.sitting(status):
            return _go(resolved, folder, resume=True)


def _refuse_done(folder: RunFolder) -> dict[str, Any]:
    """How the run stands, which is not done."""
    status = folder.read_status()
    if status.get("state") == "done":
        raise InputError(
            f"{folder.path}: this run is done after {status.get('step')} steps; its model is in {folder.model}. To "
            "train further, begin a run with that folder as --model"
        )
    return status


def _go(resolved: Resolved, folder: RunFolder, *, resume: bool) -> Result:
    """Everything that needs torch, imported only now that the settings are known to make sense."""
    with display.logged_to(folder.log), stop.on_signals():  # before the imports, which take seconds
        try:
            parallel = resolved.settings.parallel
            alike(lambda: inside(parallel.shard, parallel.replicate))
            from trueup.training.session import Session

            session = Session(resolved, folder)
            return Result(folder.path, folder.model, *session.go(resume=resume))
        except Stopped as stopped:
            logger.info(
                f"stopped by {stopped}; go on with: trueup train {resolved.info.name} --resume {folder.path}"
                if folder.settings.exists()
                else f"stopped by {stopped} before anything was written"
            )
            raise
