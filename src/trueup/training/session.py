"""One sitting of a run: read, build, train, write.

A run is built of policy, reference and optimizer, and of what an earlier sitting saved.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import torch
import yaml

from trueup import __version__, display, stop
from trueup.batch.chat_template import writes_date
from trueup.batch.rows import Demonstrations
from trueup.batch.stream import collate_batch, cut
from trueup.config.resolve import Resolved, dump
from trueup.errors import AnnotatorError, CheckpointError, InputError, Stopped, TrueupError
from trueup.methods.method import Method
from trueup.metrics import Metrics, check_installed, open_trackers
from trueup.models import prepare, selfcheck
from trueup.models.causal import CausalModel, StreamModel, model_identity
from trueup.models.load import Loaded
from trueup.references.build import build, check_first_batch
from trueup.references.choices import Frozen
from trueup.references.reference import NullReference, Reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import model_named
from trueup.sources.log import EXAMPLES
from trueup.sources.source import Source
from trueup.training import rounds
from trueup.training.checkpoint import load_newest
from trueup.training.data import Data, Parts, examples_of, offline_source, view_all
from trueup.training.export import export, reward_report
from trueup.training.folder import RunFolder, condition_as_begun, record_of, refuse_changed, warn_of_versions
from trueup.training.lazy import read_lazily
from trueup.training.loop import Run, restore_run, train
from trueup.training.optimizer import Optimizer, learning_rate
from trueup.words import listed

logger = logging.getLogger(__name__)


def read_data(settings: RunSettings, method: Method) -> Data:
    """Read what a run's examples are, or will be made of, and say what it was taken for.

    Raises:
        InputError: it cannot be read, or the method cannot use it.
    """
    if settings.turns == "all" and settings.source != "offline":
        raise InputError(
            f"turns is all, but source {settings.source} learns from the responses sampled alone. Leave turns at last"
        )
    if settings.source == "offline" and not settings.prompts:
        if lazily := read_lazily(settings, method):
            return lazily
        examples = examples_of(settings, settings.data)
        viewed = view_all(settings, method, examples.examples, examples.weights)
        return Data({**examples.fingerprints, **viewed.fingerprints}, partial(offline_source, viewed))
    if settings.source == "online":
        return rounds.online(settings, method)
    if settings.source == "replay":
        return rounds.replay(settings, method)
    return rounds.sampled_first(settings, method)


def load_parts(
    resolved: Resolved,
    method: Method,
    folder: RunFolder,
    fingerprints: Mapping[str, str],
    *,
    resume: bool,
) -> tuple[Parts, dict[str, Any]]:
    """Load the models of a run; and what its run.yaml holds beside the settings.

    Args:
        fingerprints: of its data.

    Raises:
        InputError: a model cannot be loaded or adapted as asked; or, resumed, it is another than the run began with.
    """
    settings = resolved.settings
    policy, loaded = make_policy(settings, method)
    day = settings.template_date
    if day is None and not resume and writes_date(loaded.tokenizer):
        day = date.today().isoformat()
        logger.info(f"the chat template writes the date: in all of this run it is {day} (template_date)")
    loaded = replace(loaded, template_date=day)
    settings = settings.model_copy(update={"template_date": day})
    if resume:
        loaded = replace(loaded, condition=condition_as_begun(folder.path, loaded.condition))
    record = record_of(model_identity(policy.network), fingerprints, loaded.condition)
    if resume:
        refuse_changed(folder.path, settings.model, record)
        warn_of_versions(folder.path, record)
    if settings.prompts:  # something is sampled, before the first batch is known
        prepare.set_threads(policy.network, settings.micro_batch_tokens, settings.threads)
    reference = make_reference(method, settings, policy, loaded)
    return Parts(settings, method, policy, loaded, reference, folder), record


def make_run(
    resolved: Resolved, parts: Parts, source: Source, record: dict[str, Any], *, resume: bool
) -> Run:
    """A run at its beginning, or where its newest whole checkpoint left it.

    Args:
        record: what run.yaml holds beside the settings, to which the source's tokens are added.

    Raises:
        InputError: resumed, its tokens are other than it began with; or no attention backend is exact for the model.
        CheckpointError: every checkpoint is damaged, or nothing can be written.
        NumericsError: the policy is not its reference before the first step.
    """
    settings, policy, folder = parts.settings, parts.policy, parts.folder
    record["tokens_identity"] = source.identity()
    if resume:
        refuse_changed(folder.path, settings.model, record)
    saved = load_newest(folder.checkpoints) if resume else None
    groups = source.first_groups()
    prepare.set_threads(policy.network, sum(group.num_tokens for group in groups), settings.threads)
    # The fastest backend that is exact for this model, unless one was asked for.
    wanted = None if settings.attention == "auto" else settings.attention
    check = selfcheck.check_attention(policy, groups, wanted, settings.max_length)
    policy.set_attention(check.attention)
    if check.message:
        logger.warning(check.message)
    if kept := selfcheck.keep_as_at_inference(policy, groups):
        logger.warning(
            f"{listed(kept)} of this model compute something else in training than at inference; they are kept as at "
            "inference"
        )
    run = _assemble(parts, source, saved.step if saved else 0)
    if saved is not None:
        restore_run(run, saved)
        logger.info(f"going on after step {run.step} of {run.total}")
        return run
    if resume:
        logger.warning("the run was stopped before its first checkpoint; it begins again at step 1")
    _start(run)
    folder.write_settings(dump(resolved) | record | {"reference": parts.reference.identity})
    folder.write_status("running", 0, run.total)
    return run


def _assemble(parts: Parts, source: Source, step: int) -> Run:
    """The run after `step` steps, nothing restored."""
    settings, total = parts.settings, source.num_steps
    optimizer = Optimizer(
        parts.policy.trainable(),
        betas=(settings.adam_beta1, settings.adam_beta2),
        epsilon=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
    )
    peak = settings.learning_rate
    assert peak is not None
    warmup = settings.warmup_steps or math.ceil(settings.warmup_ratio * total)
    return Run(
        parts=parts,
        source=source,
        optimizer=optimizer,
        learning_rate=partial(
            learning_rate, peak=peak, schedule=settings.schedule, warmup=warmup, total=total
        ),
        metrics=Metrics(parts.folder.metrics, keep_until=step),
    )


def _start(run: Run) -> None:
    """Take the policy as it is for the reference, and see that both agree."""
    parts, every = run.parts, run.parts.method.reference.period
    if every is not None and every >= run.total:
        logger.warning(
            f"the reference moves every {every} steps, and the run has {run.total}: it never does, or only at "
            "the end. Give a smaller --reference.every"
        )
    parts.reference.start(run.source)
    first = next(cut(run.source.first_groups(), parts.settings.micro_batch_tokens))
    check_first_batch(parts.policy, parts.reference, collate_batch(first, Demonstrations.collate))


def make_policy(settings: RunSettings, method: Method) -> tuple[StreamModel, Loaded]:
    """Load what is to be trained, seeded, and say how large it is.

    Raises:
        InputError: the model cannot be loaded or adapted as asked, or the device is not there.
    """
    torch.manual_seed(settings.seed)
    device = prepare.pick_device(settings.device)
    options: dict[str, Any] = {
        "device": device,
        "precision": settings.precision,
        "adapter": settings.lora,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "trust_remote_code": settings.trust_remote_code,
        "eos_token": settings.eos_token,
        "chat_template": settings.chat_template,
    }
    path = model_named(settings.model)
    policy: StreamModel
    if method.output == "scores":
        policy, loaded = prepare.load_reward_policy(path, seed=settings.seed, **options)
    else:
        policy, loaded = prepare.load_policy(path, **options)
        if "values" in method.parts:
            policy.add_value_head()
        if method.temperature != 1:
            policy.set_temperature(method.temperature)
    size = prepare.num_parameters(policy.network)
    trained = sum(p.numel() for p in policy.network.parameters() if p.requires_grad)
    logger.info(
        f"{settings.model}: {type(policy.inner).__name__} on {device.type}, {trained:,} of {size:,} weights trained"
        + (", products in bfloat16" if policy.autocast else "")
    )
    return policy, loaded


def make_reference(method: Method, settings: RunSettings, policy: StreamModel, loaded: Loaded) -> Reference:
    """What the policy is measured against, by the objective or by the penalty in the reward."""
    choice = method.reference
    if settings.reward_kl and not choice.measures:
        choice = Frozen()
    if not choice.measures:
        return NullReference()
    assert isinstance(policy, CausalModel)  # a reference is read for its log-probabilities
    return build(
        choice,
        policy,
        starts_from_adapter=loaded.starts_from_adapter,
        offline=settings.source == "offline",
    )


class Session:
    """Carries one run from its settings to its model.

    Args:
        resolved: what was asked for.
        folder: the run's, locked by this process.
    """

    def __init__(self, resolved: Resolved, folder: RunFolder) -> None:
        self.resolved, self.settings, self.folder = resolved, resolved.settings, folder
        self.method: Method = resolved.info.configure(resolved.method_settings)

    def go(self, *, resume: bool) -> tuple[int, dict[str, float]]:
        """Train to the end; the number of steps and the last metrics."""
        settings = self.settings
        threads = torch.get_num_threads()
        with ExitStack() as kept, display.collected() as told:
            kept.callback(
                torch.set_num_threads, threads
            )  # so that one run in a process does not decide for the next
            stop.check()  # the imports have taken seconds
            check_installed(settings.trackers)
            data = read_data(settings, self.method)
            parts, record = load_parts(
                self.resolved, self.method, self.folder, data.fingerprints, resume=resume
            )
            self.resolved = replace(self.resolved, settings=parts.settings)
            with self._stating(None, resume):
                if settings.prompts and settings.source == "offline" and not resume:
                    # What is gathered from here on is not gathered again once the run is resumed.
                    self.folder.write_settings(dump(self.resolved) | record)
                    self.folder.write_status("running", 0, 0)
                source = data.source(parts)
            run = make_run(self.resolved, parts, source, record, resume=resume)
            # Opened once the run has begun, so that one that cannot begin leaves nothing there.
            run.metrics.trackers = open_trackers(
                settings.trackers, self.folder.path, self.name, dump(self.resolved), run.step
            )
            try:
                with self._stating(run, resume), display.bar(self.resolved.info.name, run.total) as advance:
                    train(run, advance=advance)
            finally:
                run.metrics.close()
            self._finish(run, told)
            return run.step, run.latest

    @property
    def name(self) -> str:
        """Of the run, in the model card and for trackers."""
        return self.settings.run_name or self.folder.path.name

    @contextmanager
    def _stating(self, run: Run | None, resume: bool) -> Iterator[None]:
        """Around what may break off: status.json then tells how the run stands, and the user how it can go on.

        Nothing is left of a run that is new and has gathered nothing to go on from.

        Args:
            run: None before it is built, while its source is made, which may gather all of its feedback.
        """
        try:
            yield
        except (TrueupError, Stopped) as error:
            if run or self.folder.settings.exists():
                self._broke_off(error, *((run.step, run.total) if run else (0, 0)), resume)
            raise

    def _broke_off(self, error: Exception, step: int, total: int, resume: bool) -> None:
        recoverable = self.settings.gathers and isinstance(error, AnnotatorError | InputError)
        if recoverable and not (resume or step or self.folder.gathered):
            self.folder.discard()
            return
        if recoverable:
            logger.info(
                f"what was judged is kept; once that is mended, go on with: trueup train {self.method.name} "
                f"--resume {self.folder.path}"
            )
            if isinstance(error, InputError) and (examples := self.folder.path / EXAMPLES).exists():
                logger.info(f"{examples} is feedback like any other: for other settings give it as --data")
        state = "stopped" if recoverable or isinstance(error, CheckpointError | Stopped) else "failed"
        with suppress(CheckpointError):  # on a full disk the first error is the one to report
            self.folder.write_status(state, step, total)

    def _finish(self, run: Run, told: Sequence[str]) -> None:
        """Write the model and its card.

        Args:
            told: what was said of the data.
        """
        info, loaded = self.resolved.info, run.parts.loaded
        try:
            settings_text = self.folder.settings.read_text(encoding="utf-8")
        except OSError:  # it was removed; the finished model is worth more
            settings_text = yaml.safe_dump(dump(self.resolved), sort_keys=False)
        report = reward_report(run) if self.method.output == "scores" else None
        card = {
            "name": self.name,
            "base": loaded.base_path,
            "method": info.name,
            "title": info.title,
            "paper": info.paper,
            "formula": info.formula,
            "version": __version__,
            "settings": settings_text,
            "data": list(told),
            "step": run.step,
            "metrics": {key: f"{value:.6g}" for key, value in sorted(run.latest.items())},
            "report": report.markdown() if report else "",
        }
        export(
            run.parts.policy.network,
            loaded.tokenizer,
            self.folder.model,
            dtype=getattr(torch, self.settings.save_dtype),
            card=card,
            condition=run.source.condition or loaded.condition,
            beside=report.files if report else {},
        )
        self.folder.write_status("done", run.step, run.total)
        logger.info(f"the {'reward' if report else 'aligned'} model is in {self.folder.model}")
