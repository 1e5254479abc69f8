"""Training from Python and from the command line: from settings to a finished run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup import display, errors, python_objects, stop, words
from trueup.annotators.annotator import ARGUMENTS, COMPARED, unfit
from trueup.config import run_checks, trust
from trueup.config.layers import flatten
from trueup.config.resolve import Resolved, dump, going_on, load_run, of_this_process, resolve
from trueup.feedback.containers import hold_rows, is_dataset
from trueup.metrics import read_lines
from trueup.parallel.processes import alike, joined, owned
from trueup.training.folder import RunFolder

if TYPE_CHECKING:
    from trueup.methods.method import Method


@dataclass(frozen=True, slots=True)
class Result:
    folder: Path
    model: Path
    steps: int
    metrics: dict[str, float]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, over all sittings."""
        return read_lines(RunFolder(self.folder).metrics)

    @property
    def evaluation(self) -> dict[str, float]:
        """The last values that were measured on held-out feedback, `eval_loss` and others; empty without it."""
        return {name: value for name, value in self.metrics.items() if name.startswith("eval_")}


def train(
    method: Method | str,
    *,
    model: str | Path,
    data: Any = None,
    output: str | Path,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Align a model with feedback.

    Args:
        method: for example `trueup.methods.tr_dpo(beta=0.05)`; or its name.
        model: folder of a model or adapter in Hugging Face format, `OWNER/NAME` of the hub, or `world`.
        data: files with feedback, or names such as `world:pairs`; a list of dicts, a `datasets.Dataset`, or several of
            all these; left out where feedback is gathered, as by `source="online", prompts="prompts.jsonl",
            annotator="world:gold"`.
        output: folder of the run; it must not hold one already.
        quiet: show warnings only.
        settings: any setting in docs/settings.md by name; `reward` is short for an annotator that scores
            (`trueup.settings.annotator_settings`). `eval_data` and `prompts` may be in memory too, and
            `reward` and `annotator` functions of a prompt and a response; `annotator` also of a prompt and two.

    Raises:
        InputError, CheckpointError, NumericsError: see `trueup.errors`; the message is one line for the user.
        Stopped: SIGTERM or Ctrl-C; the run goes on with `resume`."""
    if not isinstance(model, str | Path):
        raise errors.InputError(
            f"model: a {type(model).__name__} in memory is not taken, as a run that can be resumed reads its files. "
            "Save it with its tokenizer (save_pretrained), and give that folder"
        )
    if not isinstance(method, str) and not hasattr(method, "settings"):
        raise errors.InputError(
            f"method is {words.as_given(method)}; give trueup.methods.dpo(beta=0.1), for example, or its name"
        )
    name, own = (method, {}) if isinstance(method, str) else (method.name, method.settings)
    given = {**own, **named_objects({"data": data, **settings}), "model": str(model), "output": str(output)}
    with display.shown(quiet=quiet):
        return run(resolve(name, overrides=given), quiet=quiet)


def named_objects(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose objects stand under names from now on (`trueup.python_objects`)."""
    given = dict(settings)
    for setting in ("data", "eval_data", "prompts"):
        if given.get(setting) is not None:
            given[setting] = _named_rows(setting, given[setting])
    for setting in ("reward", "annotator"):
        value = given.get(setting)
        if callable(value):
            label = re.sub(r"\W", "", getattr(value, "__name__", type(value).__name__))
            why = unfit(value, ARGUMENTS)
            compares = bool(why) and setting == "annotator" and not unfit(value, COMPARED)
            if why and not compares:
                raise errors.InputError(
                    f"{setting}: {label} cannot be called with a prompt and a response, to return a score ({why})"
                    f"{'; nor with two, to compare them' * (setting == 'annotator')}"
                )
            held = python_objects.hold(label, value, judges=True)
            given[setting] = f"comparing:{held}" if compares else held
    return given


def _named_rows(setting: str, value: Any) -> Any:
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, Mapping) and "path" in value:  # a source of a mixture
        return {**value, "path": _named_rows(setting, value["path"])}
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, Mapping) and not {*one} <= {"path", "weight", "limit"} for one in value):
            return hold_rows(setting, value)
        return [_named_rows(setting, one) for one in value]
    if is_dataset(value):
        return hold_rows(setting, value)
    raise errors.InputError(
        f"{setting}: a {type(value).__name__} is not taken. Give files, a list of dicts or a datasets.Dataset, such as "
        "a split of a DatasetDict, or list(...) of what is read piece by piece"
    )


def run(resolved: Resolved, *, quiet: bool = False) -> Result:
    """Begin a run. Raises as `train`; after InputError, what was given being of no use, no run folder is left
    behind."""
    with joined(), display.shown(quiet=quiet):
        run_checks.refuse_unlike(flatten(dump(resolved)))
        resolved = replace(resolved, settings=alike(lambda: run_checks.check_inputs(resolved.settings)))
        folder = RunFolder(Path(resolved.settings.output))
        with folder.locked():
            try:
                owned(lambda: folder.check_fresh(gathers=resolved.settings.gathers))
                if told := of_this_process(resolved):
                    why = "of this process; another one goes on with the run by trueup.resume, given it"
                    words.logger.info(f"{words.listed(told)}: {why}")
                return _go(resolved, folder, resume=False)
            except BaseException:
                folder.discard_if_empty()
                raise


def resume(
    path: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    quiet: bool = False,
    trust_run: bool = False,
    **settings: Any,
) -> Result:
    """Go on with a run from its newest whole checkpoint, bit for bit as if it had not been interrupted.

    Args:
        path: the run's folder.
        overrides: settings that cannot change the result (`trueup.settings.run_settings.RESUME_MAY_CHANGE`).
        quiet: show warnings only.
        trust_run: of a run that another user or machine began, run the code and send the keys that it names.
        settings: further ones; in another process than began the run, the objects that it was given.

    Raises:
        InputError: there is no run, what it was trained on has changed, or it is not to be trusted.
        CheckpointError: every checkpoint is damaged.
        NumericsError, Stopped: as for `train`."""
    given = {**(overrides or {}), **named_objects(settings)}
    resolved = load_run(path, given)
    trust.refuse_run(path, resolved.info, given, trusted=trust_run)
    return go_on(resolved, quiet=quiet)


def go_on(resolved: Resolved, *, quiet: bool = False) -> Result:
    """Go on with a run whose settings were read; raises as `resume` does."""
    folder = RunFolder(Path(resolved.settings.output))
    with joined():
        run_checks.refuse_unlike(flatten(dump(resolved)))
        status = owned(lambda: _refuse_done(folder))
        alike(lambda: run_checks.check_processes(resolved.settings))
        for name in python_objects.names_in(dump(resolved)):
            python_objects.held(name)
        with folder.locked(), display.shown(quiet=quiet), folder.sitting(status):
            return _go(resolved, folder, resume=True)


def _refuse_done(folder: RunFolder) -> dict[str, Any]:
    status = folder.read_status()
    if status.get("state") == "done":
        raise errors.InputError(
            f"{folder.path}: this run is done after {status.get('step')} steps; its model is in {folder.model}. To "
            "train further, begin a run with that folder as --model"
        )
    return status


def _go(resolved: Resolved, folder: RunFolder, *, resume: bool) -> Result:
    with display.logged_to(folder.log), stop.on_signals():  # before the imports, which take seconds
        try:
            from trueup.training.session import Session

            session = Session(resolved, folder)
            return Result(folder.path, folder.model, *session.go(resume=resume))
        except errors.Stopped as stopped:
            words.logger.info(
                f"stopped by {stopped}; go on with: {going_on(resolved, folder.path)}"
                if folder.settings.exists()
                else f"stopped by {stopped} before anything was written"
            )
            raise
