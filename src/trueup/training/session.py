"""One sitting of a run: prepare, check, train, write."""

from __future__ import annotations

import math
import platform
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from trueup import __version__
from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokens import TokenGroup
from trueup.config.resolve import Resolved, dump, read_facts
from trueup.errors import CheckpointError, InputError, TrueupError
from trueup.feedback.viewed import apply
from trueup.methods.method import Method
from trueup.models.causal import CausalModel, Layout
from trueup.models.identity import model_identity
from trueup.models.load import Loaded
from trueup.models.prepare import SMALL, AdapterSettings, load_policy, num_parameters, pick_device
from trueup.models.selfcheck import check_layout
from trueup.references.build import build
from trueup.sources.gather import gather, split
from trueup.sources.offline import OfflineSource
from trueup.training import checkpoint as checkpoints
from trueup.training.export import export
from trueup.training.folder import RunFolder
from trueup.training.invariants import check_first_batch
from trueup.training.loop import Pace, Run, restore, train
from trueup.training.metrics import Metrics
from trueup.training.optimizer import AdamW, Optimizer
from trueup.training.prepare import Prepared, prepare
from trueup.training.progress import Display
from trueup.training.schedule import learning_rate
from trueup.training.signals import StopFlag, stop_on_signals
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
        self.fingerprints: dict[str, str] = {}
        self.data_lines: list[str] = []

    def go(self, *, resume: bool) -> tuple[int, dict[str, float]]:
        """Train to the end; the number of steps and the last metrics."""
        with stop_on_signals() as flag:
            check_installed(self.settings.trackers)
            examples, held_out = self._examples()
            policy, loaded = self._policy()
            source = self._source(examples, held_out, loaded, flag)
            facts = self._facts(policy)
            if resume:
                self._unchanged(facts)
            saved = (
                checkpoints.load_newest(self.folder.checkpoints, warn=self.display.warn) if resume else None
            )
            self._choose_layout(policy, source.step_groups(1))
            run = self._assemble(policy, loaded, source, saved.step if saved else 0)
            if saved is not None:
                restore(run, saved)
                self.display.say(f"going on after step {run.step} of {run.total}")
            else:
                self._start(run, facts, resume)
            run.metrics.trackers = self._trackers()
            try:
                latest = self._train(run, flag)
            except TrueupError as error:
                state = "stopped" if isinstance(error, CheckpointError) else "failed"
                with suppress(CheckpointError):  # on a full disk the first error is the one to report
                    self.folder.write_status(state, run.step, run.total)
                raise
            finally:
                run.metrics.close()
            self._finish(run, loaded, latest)
            return run.step, latest

    def _examples(self) -> tuple[Any, Any]:
        settings = self.settings
        gathered = gather(settings.data, skip_bad=settings.skip_bad)
        self.fingerprints |= gathered.fingerprints
        lines = list(gathered.lines)
        train_part, held_out = split(gathered.examples, settings.eval_fraction, settings.seed)
        if settings.eval_data:
            other = gather(settings.eval_data, skip_bad=settings.skip_bad)
            self.fingerprints |= other.fingerprints
            held_out, lines = other.examples, lines + list(other.lines)
        viewed = apply(self.method.view, train_part)
        lines += viewed.lines()
        kept = apply(self.method.view, held_out).groups if held_out else ()
        if held_out:
            lines.append(f"evaluation on {len(kept)} of {len(held_out)} held-out examples")
        self._say_data(lines)
        return viewed.groups, kept

    def _policy(self) -> tuple[CausalModel, Loaded]:
        settings = self.settings
        torch.manual_seed(settings.seed)
        device = pick_device(settings.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "device cuda was asked for, but torch finds no GPU here. Leave --device out, or use cpu"
            )
        adapter = settings.lora and AdapterSettings(
            settings.lora.rank, settings.lora.alpha or 2.0 * settings.lora.rank, settings.lora.dropout,
            settings.lora.targets,
        )  # fmt: skip
        policy, loaded = load_policy(
            self._model_path(), device=device, precision=settings.precision, adapter=adapter or None,
            gradient_checkpointing=settings.gradient_checkpointing, trust_remote_code=settings.trust_remote_code,
            eos_token=settings.eos_token, chat_template=settings.chat_template,
        )  # fmt: skip
        size = num_parameters(policy.network)
        if settings.threads or (device.type == "cpu" and size < SMALL):
            torch.set_num_threads(settings.threads or 1)
        trained = sum(p.numel() for p in policy.network.parameters() if p.requires_grad)
        self.display.say(
            f"{settings.model}: {type(policy.inner).__name__} on {device.type}, {trained:,} of {size:,} weights trained"
            + (", products in bfloat16" if policy.autocast else "")
        )
        return policy, loaded

    def _model_path(self) -> str:
        if self.settings.model != "world":
            return self.settings.model
        from trueup.world.model import world_model_path

        with self.display.bar("making the world's model", None) as advance:
            return str(
                world_model_path(progress=lambda done, total, loss: advance.of(done, total, {"loss": loss}))
            )

    def _source(self, examples: Any, held_out: Any, loaded: Loaded, flag: StopFlag) -> OfflineSource:
        settings = self.settings
        limit = self._max_length(loaded)
        encoder = Encoder(
            loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(limit, settings.max_prompt_length)
        )
        prepared = prepare(
            self.display.track(examples, "tokenizing"), encoder, what="training", poll=flag.poll
        )
        kept = prepare(held_out, encoder, what="evaluation", poll=flag.poll) if held_out else Prepared((), ())
        self._say_data([*prepared.lines, *kept.lines])
        size = len(prepared.groups)
        epochs = settings.epochs if settings.epochs is not None else 1.0
        total = settings.steps * settings.batch_size if settings.steps else max(1, round(epochs * size))
        return OfflineSource(
            prepared.groups, kept.groups, self.method.collate, settings.batch_size, settings.micro_batch_tokens,
            settings.seed, total, flag.poll,
        )  # fmt: skip

    def _max_length(self, loaded: Loaded) -> int:
        network: Any = loaded.network
        most: int | None = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        asked = self.settings.max_length
        if most is None or asked <= most:
            return asked
        if "max_length" in self.settings.model_fields_set:
            raise InputError(
                f"max_length {asked} is more than the {most} positions {self.settings.model} was made for. Give "
                f"--max-length {most} or less"
            )
        return most

    def _choose_layout(self, policy: CausalModel, groups: list[TokenGroup[Any]]) -> None:
        wanted = None if self.settings.attention == "auto" else Layout(self.settings.attention)
        check = check_layout(policy, groups, wanted)
        policy.set_layout(check.layout)
        if check.message:
            self.display.warn(check.message)

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
        run.reference.start(run.source)
        said = check_first_batch(run.policy, run.reference, run.source.batches(1)[0])
        if said:
            self.display.say(said)
        self.folder.write_settings(dump(self.resolved) | facts | {"reference": run.reference.identity})
        self.folder.write_status("running", 0, run.total)

    def _trackers(self) -> list[Tracker]:
        """Opened once the run has begun, so that one that cannot begin leaves nothing there."""
        return open_trackers(
            self.settings.trackers, self.folder.path, self.settings.run_name or self.folder.path.name,
            dump(self.resolved), self.display.warn,
        )  # fmt: skip

    def _train(self, run: Run, flag: StopFlag) -> dict[str, float]:
        from trueup.errors import Stopped

        try:
            with self.display.bar(self.resolved.method, run.total) as advance:
                return train(run, poll=flag.poll, advance=advance)
        except Stopped:
            self.folder.write_status("stopped", run.step, run.total)
            raise

    def _finish(self, run: Run, loaded: Loaded, latest: dict[str, float]) -> None:
        info = self.resolved.info
        card = {
            "name": self.settings.run_name or self.folder.path.name,
            "base": loaded.base_path,
            "method": info.name,
            "title": info.title,
            "paper": info.paper,
            "formula": info.formula,
            "version": __version__,
            "settings": self.folder.settings.read_text(encoding="utf-8"),
            "data": self.data_lines,
            "step": run.step,
            "metrics": {key: f"{value:.6g}" for key, value in sorted(latest.items())},
        }
        dtype = getattr(torch, self.settings.save_dtype)
        export(run.policy.network, loaded.tokenizer, self.folder.model, dtype=dtype, card=card)
        self.folder.write_status("done", run.step, run.total)
        self.display.say(f"the aligned model is in {self.folder.model}")

    def _facts(self, policy: CausalModel) -> dict[str, Any]:
        packages = ("torch", "transformers", "peft", "tokenizers", "safetensors")
        return {
            "versions": {
                "trueup": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
            "data_fingerprints": dict(self.fingerprints),
            "model_identity": model_identity(policy.network),
        }

    def _unchanged(self, facts: dict[str, Any]) -> None:
        """Refuse to go on with another model or other data than the run began with."""
        before = read_facts(self.folder.path)
        changed = [
            f"{name} (was {str(old)[:16]}, is {str(facts['data_fingerprints'].get(name))[:16]})"
            for name, old in before.get("data_fingerprints", {}).items()
            if facts["data_fingerprints"].get(name) != old
        ]
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

    def _say_data(self, lines: list[str]) -> None:
        self.data_lines += lines
        for line in lines:
            self.display.say(line)
