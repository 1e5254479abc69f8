"""One sitting of a run: prepare, check, train, write."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
import yaml

from trueup import __version__
from trueup.batch.tokens import tokens_identity
from trueup.config.resolve import Resolved, dump, read_facts
from trueup.errors import CheckpointError, InputError, Stopped, TrueupError
from trueup.feedback.condition import Condition
from trueup.methods.method import Method
from trueup.models.causal import CausalModel
from trueup.models.identity import model_identity
from trueup.models.load import Loaded
from trueup.references.build import build
from trueup.sources.offline import OfflineSource
from trueup.training import checkpoint as checkpoints
from trueup.training.data import gather_examples, make_source
from trueup.training.export import export
from trueup.training.folder import RunFolder
from trueup.training.invariants import check_first_batch
from trueup.training.loop import Pace, Run, restore, train
from trueup.training.metrics import Metrics
from trueup.training.optimizer import AdamW, Optimizer
from trueup.training.policy import choose_layout, choose_threads, make_policy
from trueup.training.progress import Display
from trueup.training.schedule import learning_rate
from trueup.training.signals import StopFlag
from trueup.training.trackers import Tracker, check_installed, open_trackers


class Session:
    """Carries one run from its settings to its model.

    Args:
        resolved: what was asked for.
        folder: the run's, locked by this process.
        display: what the user sees.
    """

    def __init__(self, resolved: Resolved, folder: RunFolder, display: Display) -> None:
        self.resolved, self.settings, self.folder, self.display = resolved, resolved.settings, folder, display
        self.method: Method[Any, Any, Any] = resolved.info.build(**dict(resolved.method_settings))
        self.data_lines: list[str] = []

    def go(self, flag: StopFlag, *, resume: bool) -> tuple[int, dict[str, float]]:
        """Train to the end; the number of steps and the last metrics.

        Args:
            flag: set when the user asks to stop.
        """
        with same_threads():
            check_installed(self.settings.trackers)
            examples = gather_examples(self.settings, self.method)
            self._say_data(examples.lines)
            for warning in examples.warnings:
                self.display.warn(warning)
            policy, loaded = make_policy(self.settings, self.display)
            if resume:
                loaded = self._asked_as_begun(loaded)
            condition = examples.condition or loaded.condition
            source, lines = make_source(
                examples, loaded, self.settings, self.method, display=self.display, poll=flag.poll
            )
            self._say_data(lines)
            facts = self._facts(policy, source, examples.fingerprints, loaded)
            if resume:
                self._unchanged(facts)
            saved = (
                checkpoints.load_newest(self.folder.checkpoints, warn=self.display.warn) if resume else None
            )
            choose_threads(policy, source.step_groups(1), self.settings)
            choose_layout(policy, source.step_groups(1), self.settings, self.display)
            run = self._assemble(policy, loaded, source, saved.step if saved else 0)
            if saved is not None:
                restore(run, saved)
                self.display.say(f"going on after step {run.step} of {run.total}")
            else:
                self._start(run, facts, resume)
            run.metrics.trackers = self._trackers(run.step)
            try:
                latest = self._train(run, flag)
            except TrueupError as error:
                state = "stopped" if isinstance(error, CheckpointError) else "failed"
                with suppress(CheckpointError):  # on a full disk the first error is the one to report
                    self.folder.write_status(state, run.step, run.total)
                raise
            finally:
                run.metrics.close()
            self._finish(run, loaded, latest, condition)
            return run.step, latest

    def _assemble(self, policy: CausalModel, loaded: Loaded, source: OfflineSource, step: int) -> Run:
        settings, total = self.settings, source.num_steps
        reference = build(
            self.method.reference, policy, starts_from_adapter=loaded.starts_from_adapter, offline=True
        )
        optimizer = Optimizer(
            policy.network,
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
        said = check_first_batch(run.policy, run.reference, run.source.batches(1)[0])
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

    def _train(self, run: Run, flag: StopFlag) -> dict[str, float]:
        try:
            with self.display.bar(self.resolved.method, run.total) as advance:
                return train(run, poll=flag.poll, advance=advance)
        except Stopped:
            self.folder.write_status("stopped", run.step, run.total)
            raise

    def _finish(
        self, run: Run, loaded: Loaded, latest: dict[str, float], condition: Condition | None
    ) -> None:
        info = self.resolved.info
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
        }
        dtype = getattr(torch, self.settings.save_dtype)
        export(
            run.policy.network,
            loaded.tokenizer,
            self.folder.model,
            dtype=dtype,
            card=card,
            condition=condition,
        )
        self.folder.write_status("done", run.step, run.total)
        self.display.say(f"the aligned model is in {self.folder.model}")

    def _settings_text(self) -> str:
        """run.yaml; should somebody have removed it, the settings: the finished model is worth more."""
        try:
            return self.folder.settings.read_text(encoding="utf-8")
        except OSError:
            return yaml.safe_dump(dump(self.resolved), sort_keys=False)

    def _facts(
        self, policy: CausalModel, source: OfflineSource, fingerprints: dict[str, str], loaded: Loaded
    ) -> dict[str, Any]:
        packages = ("torch", "transformers", "peft", "tokenizers", "safetensors")
        return {
            "versions": {
                "trueup": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
            "data_fingerprints": fingerprints,
            "tokens_identity": tokens_identity((*source.groups, *source.held_out_groups)),
            "model_identity": model_identity(policy.network),
            "asked_with": None if loaded.condition is None else asdict(loaded.condition),
        }

    def _asked_as_begun(self, loaded: Loaded) -> Loaded:
        """The model with the condition it had when the run began; `trueup condition` may have changed it since."""
        facts = read_facts(self.folder.path)
        if "asked_with" not in facts:
            return loaded
        begun = facts["asked_with"]
        return replace(loaded, condition=None if begun is None else Condition(**begun))

    def _unchanged(self, facts: dict[str, Any]) -> None:
        """Refuse to go on with another model, other data or other tokens than the run began with."""
        before = read_facts(self.folder.path)
        changed = [
            f"{name} (was {str(old)[:16]}, is {str(facts['data_fingerprints'].get(name))[:16]})"
            for name, old in before.get("data_fingerprints", {}).items()
            if facts["data_fingerprints"].get(name) != old
        ]
        tokens, now = before.get("tokens_identity"), facts["tokens_identity"]
        if not changed and tokens is not None and tokens != now:  # other data are other tokens anyway
            changed.append(
                f"the tokens of the data, so the tokenizer or the chat template (was {tokens}, is {now})"
            )
        if before.get("model_identity") != facts["model_identity"]:
            changed.append(
                f"{self.settings.model} (was {before.get('model_identity')}, is {facts['model_identity']})"
            )
        if changed:
            raise InputError(
                f"{self.folder.path}: the run cannot go on as it began, because these have changed since: "
                f"{'; '.join(changed)}. Put them back, or begin a new run"
            )
        for name, was in before.get("versions", {}).items():
            now = facts["versions"].get(name)
            if was != now:
                self.display.warn(
                    f"the run began with {name} {was} and goes on with {now}: not bit for bit the same"
                )

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
