"""One sitting of a run: read, build, train, write."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import torch

from trueup import display, errors, metrics, stop, words
from trueup.config import resolve, run_checks
from trueup.methods.method import Method
from trueup.parallel.processes import owned, owns
from trueup.report.run_page import report_at_end
from trueup.settings.annotator_settings import annotators_in
from trueup.sources.log import EXAMPLES
from trueup.training import checkpoint, export, loop, seal, setup, summary, watch
from trueup.training.folder import RunFolder


class Session:
    """Carries one run from its settings to its model, in a folder that this process has locked."""

    def __init__(self, resolved: resolve.Resolved, folder: RunFolder) -> None:
        self.resolved, self.settings, self.folder = resolved, resolved.settings, folder
        self.method: Method = resolved.info.configure(resolved.method_settings)

    def go(self, *, resume: bool) -> tuple[int, dict[str, float]]:
        settings, started = self.settings, time.monotonic()
        threads = torch.get_num_threads()
        with ExitStack() as kept, display.collected() as told:
            # So that one run in a process does not decide for the next.
            kept.callback(torch.set_num_threads, threads)
            stop.check()  # the imports have taken seconds
            metrics.check_installed(settings.trackers)
            data = setup.read_data(settings, self.method)
            parts, record = setup.load_parts(self.resolved, self.method, self.folder, data, resume=resume)
            self.resolved = replace(self.resolved, settings=parts.settings)
            with self._stating(None, resume):
                if settings.prompts and settings.source == "offline" and not resume:
                    # What is gathered from here on is not gathered again once the run is resumed.
                    content = seal.sealed(self.resolved, record, parts.configuration)
                    self.folder.write_sealed(content, parts.settings)
                    self.folder.write_settings(resolve.dump(self.resolved) | record)
                    self.folder.write_status("running", 0, 0)
                source = data.source(parts)
            run = setup.make_run(self.resolved, parts, source, record, resume=resume)
            # Opened once the run has begun, so that one that cannot begin leaves nothing there.
            run.metrics.trackers = metrics.open_trackers(
                settings.trackers, self.folder.path, self.name, resolve.dump(self.resolved), run.step
            )
            try:
                with self._stating(run, resume), display.bar(self.resolved.info.name, run.total) as advance:
                    loop.train(run, advance=advance)
            finally:
                run.metrics.close()
            with self._stating(run, resume):
                self._finish(run, told, list(summary.summary(run, time.monotonic() - started, resumed=resume)))
            return run.step, run.latest

    @property
    def name(self) -> str:
        return self.settings.run_name or self.folder.path.name

    @contextmanager
    def _stating(self, run: loop.Run | None, resume: bool) -> Iterator[None]:
        """Around what may break off: status.json then tells how the run stands, and the user how it can go on.
        Nothing is left of a run that is new and has gathered nothing to go on from. Before it is built, `run` is
        None."""
        try:
            yield
        except (errors.TrueupError, errors.Stopped) as error:
            if run or self.folder.settings.exists():
                self._broke_off(error, *((run.step, run.total) if run else (0, 0)), resume)
            raise

    def _broke_off(self, error: Exception, step: int, total: int, resume: bool) -> None:
        recoverable = (self.settings.gathers or bool(self.settings.eval_prompts)) and isinstance(
            error, errors.AnnotatorError | errors.InputError
        )
        if recoverable and not (resume or step or self.folder.gathered):
            self.folder.discard()
            return
        if recoverable:
            words.logger.info(
                "what was judged is kept; once that is mended, go on with: "
                f"{resolve.going_on(self.resolved, self.folder.path)}"
                f"{' --accept-changed true' if self._may_mend() else ''}"
            )
            if isinstance(error, errors.InputError) and (examples := self.folder.path / EXAMPLES).exists():
                words.logger.info(f"{examples} is feedback like any other: for other settings give it as --data")
        state = "stopped" if recoverable or isinstance(error, errors.CheckpointError | errors.Stopped) else "failed"
        with suppress(errors.CheckpointError):  # on a full disk the first error is the one to report
            self.folder.write_status(state, step, total)
        if owns():
            report_at_end(self.folder.path, self.folder.read_status())

    def _may_mend(self) -> bool:
        """Whether the run is judged by a file of the user's, which a fault may lie in."""
        choice = self.settings.annotator
        return choice is not None and any(
            vars(one)[name] not in (None, *named.known)
            for one in (choice, *annotators_in(choice).values())
            for name, named in one.about.files.items()
        )

    def _finish(self, run: loop.Run, told: Sequence[str], lines: Sequence[str]) -> None:
        """Write the model and its card, and say what became of the run."""
        loaded = run.parts.loaded
        step, values = loop.take_best(run)
        report = export.reward_report(run) if self.method.output == "scores" else None
        troubles = [str(one) for one in self._troubles(run, report)]
        card = export.card_of(
            self.resolved, loaded.base_path, name=self.name, step=step, data=list(told),
            metrics={key: f"{value:.6g}" for key, value in sorted(values.items())}, troubles=troubles,
            report=report, scores=report is not None, summary=lines[1:], samples=summary.samples(run),
        )  # fmt: skip
        export.export(
            run.parts.policy.network, loaded.tokenizer, self.folder.model,
            dtype=getattr(torch, self.settings.save_dtype), card=card,
            condition=run.source.condition or loaded.condition, beside=report.files if report else {},
            same=self.folder.checkpoints / checkpoint.name_of(step) / "policy.safetensors",
        )  # fmt: skip
        found = export.verify(run, self.folder.model)
        words.logger.info(f"{self.folder.model}: read again, and found to be the policy: {found}")
        self.folder.write_status("done", run.step, run.total, troubles)
        if self.settings.keep_checkpoints is None:
            checkpoint.keep_only(self.folder.checkpoints, step)
        for line in lines:
            words.logger.info(line)
        owned(lambda: report_at_end(self.folder.path, self.folder.read_status()))
        for trouble in troubles:
            words.logger.warning(trouble)
        what = f"{'reward' if report else 'aligned'} model is in {self.folder.model}"
        if troubles:
            words.logger.warning(f"the {what}, and what is said above is wrong with it")
        else:
            words.logger.info(f"the {what}")
        words.logger.info(summary.loading(self.folder.model, scores=report is not None))

    def _troubles(self, run: loop.Run, report: export.RewardReport | None) -> Iterator[watch.Trouble]:
        limits, weak = self.settings.watch, run_checks.weak_reward(self.settings)
        yield from run.watch.troubles()
        if unmoved := run.watch.unmoved(setup.first_values(run)):
            yield unmoved
        if report and (right := report.calibration.accuracy.value) < limits.accuracy:
            where = "held-out" if report.held_out else "training"
            yield watch.Trouble("reward", f"the model orders {right:.0%} of its {where} pairs rightly, chance is 50%")
        if weak:
            yield watch.Trouble("annotator", weak)
