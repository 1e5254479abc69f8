"""One sitting of a run: prepare, check, train, write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
import yaml

from trueup import __version__, stop
from trueup.config.resolve import Resolved
from trueup.config.run_file import dump
from trueup.display import Display
from trueup.errors import AnnotatorError, CheckpointError, InputError, Stopped, TrueupError
from trueup.feedback.condition import Condition
from trueup.methods.method import Method
from trueup.models.causal import CausalModel, StreamModel
from trueup.models.load import Loaded
from trueup.references.build import build
from trueup.references.choices import Frozen, NoReference
from trueup.references.reference import NullReference, Reference
from trueup.sources.log import EXAMPLES
from trueup.sources.source import Source
from trueup.training import checkpoint as checkpoints
from trueup.training.export import export
from trueup.training.facts import asked_as_begun, check_unchanged, facts_of
from trueup.training.folder import RunFolder
from trueup.training.invariants import check_first_batch
from trueup.training.loop import Pace, Run, restore, train
from trueup.training.metrics import Metrics
from trueup.training.optimizer import AdamW, Optimizer
from trueup.training.policy import choose_attention, choose_threads, make_policy, threads_for_sampling
from trueup.training.reward_report import reward_report
from trueup.training.schedule import learning_rate
from trueup.training.supply.choose import read_supply
from trueup.training.supply.supply import Context
from trueup.training.trackers import Tracker, check_installed, open_trackers


class Session:
    """Carries one run from its settings to its model.

    Args:
        resolved: what was asked for.
        folder: the run's, locked by this process.
    """

    def __init__(self, resolved: Resolved, folder: RunFolder) -> None:
        self.resolved, self.settings, self.folder = resolved, resolved.settings, folder
        self.display = Display()
        self.method: Method[Any, Any, Any] = resolved.info.configure(resolved.method_settings)
        self.data_lines: list[str] = []

    def go(self, *, resume: bool) -> tuple[int, dict[str, float]]:
        """Train to the end; the number of steps and the last metrics."""
        with same_threads():
            check_installed(self.settings.trackers)
            supply = read_supply(self.settings, self.method)
            self._say_data(supply.lines)
            for warning in supply.warnings:
                self.display.warn(warning)
            policy, loaded = make_policy(
                self.settings, self.display, output=self.method.output, parts=self.method.parts
            )
            if resume:
                loaded = asked_as_begun(self.folder.path, loaded)
            facts = facts_of(policy, supply.fingerprints, loaded)
            if resume:
                self._unchanged(facts)
            threads_for_sampling(policy, self.settings)
            reference = self._reference(policy, loaded)

            def begin() -> None:
                self.folder.write_settings(dump(self.resolved) | facts)
                self.folder.write_status("running", 0, 0)

            context = Context(
                self.settings, self.method, policy, loaded, reference, self.folder, self.display, stop.check,
                begin=(lambda: None) if resume else begin,
            )  # fmt: skip
            with self._gathering(resume):
                supplied = supply.supply(context)
            source = supplied.source
            self._say_data(supplied.lines)
            facts["tokens_identity"] = source.identity()
            if resume:
                self._unchanged(facts)
            saved = (
                checkpoints.load_newest(self.folder.checkpoints, warn=self.display.warn) if resume else None
            )
            choose_threads(policy, source.first_groups(), self.settings)
            choose_attention(policy, source.first_groups(), self.settings, self.display)
            run = self._assemble(policy, reference, source, saved.step if saved else 0)
            if saved is not None:
                restore(run, saved)
                self.display.say(f"going on after step {run.step} of {run.total}")
            else:
                self._start(run, facts, resume)
            run.metrics.trackers = self._trackers(run.step)
            try:
                latest = self._train(run)
            except TrueupError as error:
                self._broke_off(error, run.step, run.total, keep=resume or run.step > 0)
                raise
            finally:
                run.metrics.close()
            self._finish(run, loaded, latest, supplied.condition or loaded.condition)
            return run.step, latest

    @contextmanager
    def _gathering(self, resume: bool) -> Iterator[None]:
        """Around the making of a source, which may gather all of a run's feedback."""
        try:
            yield
        except (TrueupError, Stopped) as error:
            if self.folder.settings.exists():
                self._broke_off(error, 0, 0, keep=resume)
            raise

    def _broke_off(self, error: Exception, step: int, total: int, *, keep: bool) -> None:
        """Say how the run can go on; nothing is left of one that has gathered nothing to go on from.

        Args:
            keep: the run has been there before, or got somewhere.
        """
        mendable = self.settings.gathers and isinstance(error, AnnotatorError | InputError)
        if mendable and not keep and not self.folder.gathered:
            self.folder.discard()
            return
        if mendable:
            self.display.say(
                f"what was judged is kept; once that is mended, go on with: trueup train {self.method.name} "
                f"--resume {self.folder.path}"
            )
            if isinstance(error, InputError) and (examples := self.folder.path / EXAMPLES).exists():
                self.display.say(
                    f"{examples} is feedback like any other: for other settings give it as --data"
                )
        state = "stopped" if mendable or isinstance(error, CheckpointError | Stopped) else "failed"
        with suppress(CheckpointError):  # on a full disk the first error is the one to report
            self.folder.write_status(state, step, total)

    def _reference(self, policy: StreamModel, loaded: Loaded) -> Reference:
        """What the policy is measured against, by the objective or by the penalty in the reward."""
        choice, settings = self.method.reference, self.settings
        if settings.reward_kl and isinstance(choice, NoReference):
            choice = Frozen()
        if isinstance(choice, NoReference):
            return NullReference()
        assert isinstance(policy, CausalModel)  # a reference is read for its log-probabilities
        return build(
            choice,
            policy,
            starts_from_adapter=loaded.starts_from_adapter,
            offline=settings.source == "offline",
        )

    def _assemble(self, policy: StreamModel, reference: Reference, source: Source, step: int) -> Run:
        settings, total = self.settings, source.num_steps
        optimizer = Optimizer(
            policy.trainable(),
            AdamW(
                settings.adam_beta1, settings.adam_beta2, settings.adam_epsilon, settings.weight_decay,
                settings.max_grad_norm,
            ),
        )  # fmt: skip
        peak = settings.learning_rate
        assert peak is not None
        warmup = settings.warmup_steps or math.ceil(settings.warmup_ratio * total)
        rate = partial(learning_rate, peak=peak, schedule=settings.schedule, warmup=warmup, total=total)
        metrics = Metrics(self.folder.metrics, keep_until=step, trackers=(), warn=self.display.warn)
        pace = Pace(
            settings.eval_every or 0, settings.save_every or max(1, math.ceil(total / 10)), settings.log_every,
            settings.keep_checkpoints,
        )  # fmt: skip
        return Run(policy, reference, self.method, source, optimizer, rate, self.folder, metrics, pace)

    def _start(self, run: Run, facts: dict[str, Any], resume: bool) -> None:
        if resume:
            self.display.warn("the run was stopped before its first checkpoint; it begins again at step 1")
        every = getattr(self.method.reference, "every", None)
        if isinstance(every, int) and every >= run.total:
            self.display.warn(
                f"the reference moves every {every} steps, and the run has {run.total}: it never does, or only at "
                "the end. Give a smaller --reference.every"
            )
        run.reference.start(run.source)
        said = check_first_batch(run.policy, run.reference, run.source.first_batch())
        if said:
            self.display.say(said)
        self.folder.write_settings(dump(self.resolved) | facts | {"reference": run.reference.identity})
        self.folder.write_status("running", 0, run.total)

    def _trackers(self, step: int) -> list[Tracker]:
        """Opened once the run has begun, so that one that cannot begin leaves nothing there."""
        return open_trackers(
            self.settings.trackers, self.folder.path, self.settings.run_name or self.folder.path.name,
            dump(self.resolved), step, self.display.warn,
        )  # fmt: skip

    def _train(self, run: Run) -> dict[str, float]:
        try:
            with self.display.bar(self.resolved.method, run.total) as advance:
                return train(run, poll=stop.check, advance=advance)
        except Stopped:
            self.folder.write_status("stopped", run.step, run.total)
            raise

    def _finish(
        self, run: Run, loaded: Loaded, latest: dict[str, float], condition: Condition | None
    ) -> None:
        info = self.resolved.info
        report = reward_report(run, self.display.say) if self.method.output == "scores" else None
        card = {
            "name": self.settings.run_name or self.folder.path.name,
            "base": loaded.base_path,
            "method": info.name,
            "title": info.title,
            "paper": info.paper,
            "formula": info.formula,
            "version": __version__,
            "settings": self._settings_text(),
            "data": self.data_lines,
            "step": run.step,
            "metrics": {key: f"{value:.6g}" for key, value in sorted(latest.items())},
            "report": report.markdown() if report else "",
        }
        dtype = getattr(torch, self.settings.save_dtype)
        export(
            run.policy.network,
            loaded.tokenizer,
            self.folder.model,
            dtype=dtype,
            card=card,
            condition=condition,
            beside=report.files if report else {},
        )
        self.folder.write_status("done", run.step, run.total)
        self.display.say(f"the {'reward' if report else 'aligned'} model is in {self.folder.model}")

    def _settings_text(self) -> str:
        """run.yaml; should somebody have removed it, the settings: the finished model is worth more."""
        try:
            return self.folder.settings.read_text(encoding="utf-8")
        except OSError:
            return yaml.safe_dump(dump(self.resolved), sort_keys=False)

    def _unchanged(self, facts: dict[str, Any]) -> None:
        for warning in check_unchanged(self.folder.path, self.settings.model, facts):
            self.display.warn(warning)

    def _say_data(self, lines: Sequence[str]) -> None:
        self.data_lines += lines
        for line in lines:
            self.display.say(line)


@contextmanager
def same_threads() -> Iterator[None]:
    """Give torch its number of CPU threads back, so that one run in a process does not decide for the next."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
