"""What holds of every run, tried on one's own: `trueup selfcheck`.
A configuration is set up as a run sets it up, with few and small steps, in a temporary folder. Each check is one figure
that has to be 0, or nearly, and says what to do where it is not."""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from trueup import errors, python_objects, words
from trueup.batch import stream, tokens
from trueup.config import resolve, run_checks
from trueup.feedback.canonical import prompt_json, write_rows
from trueup.models import causal, selfcheck
from trueup.references import build, reference
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import EncodedPrompt
from trueup.settings.annotator_kinds import FunctionAnnotator
from trueup.sources.by_name import prompts_named
from trueup.sources.source import Source, Step
from trueup.training import checkpoint, data, export, loop, setup
from trueup.training.folder import RunFolder
from trueup.training.optimizer import Optimizer
from trueup.training.step import Rows, Sums, forward, objective_of, train_step

STEPS, CUT = 4, 2  # steps of the run that is tried, and after how many it is interrupted
EXAMPLES = 8
COMPARED = 4
NEW_TOKENS = 32
MOST_STEPS = 30  # on one batch, until its loss has fallen clearly
FALL, SMALL = 0.05, 0.2  # what is clear: this part of the loss, which counts as no less than that


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    right: bool | None  # None where it does not apply, or could not be tried
    told: str

    def __str__(self) -> str:
        word = {True: "ok", False: "FAILED", None: "-"}[self.right]
        return f"{word:<7}{self.check:<26}{self.told}"


def run_selfcheck(resolved: resolve.Resolved) -> Iterator[Finding]:
    with ExitStack() as kept:
        kept.callback(torch.set_num_threads, torch.get_num_threads())
        place = Path(kept.enter_context(TemporaryDirectory(prefix="trueup-selfcheck-")))
        elsewhere = {"output": str(place / "run")}  # where there may be a run already
        settings = run_checks.check_inputs(resolved.settings.model_copy(update=elsewhere))
        small = reduced(replace(resolved, settings=settings), place)
        yield from _uninterrupted(small, place)  # and forgotten, so that one model is held at a time
        if (place / "cut").exists():
            with silent():
                yield _found("resume", lambda: _resumed(Path(small.settings.output), place / "cut"))


def _uninterrupted(small: resolve.Resolved, place: Path) -> Iterator[Finding]:
    """All that takes one model: what is seen before its first step, and what is left after its last."""
    parts, record, source = set_up(small, resume=False)
    try:
        setup.choose_attention(parts, source)
    except errors.InputError as error:
        yield Finding("stream against rows", False, str(error))
        return
    parts.reference.start(source)
    step = source.step(1)
    if not step.batches:
        raise errors.InputError("the first step holds nothing to learn from; look at the data with `trueup inspect`")
    yield (zero := _found("step 0", lambda: _step_zero(parts, step)))
    yield _found("stream against rows", lambda: _stream(parts, step))
    yield _found("cached reference", lambda: _cached(parts, step, place))
    yield _found("sampler against trainer", lambda: _sampler(parts, step))
    yield _found("overfitting one batch", lambda: _overfit(parts, step))
    if zero.right is False:
        yield Finding("export, resume", None, "not tried: no run begins where step 0 fails")
        return
    run = setup.make_run(replace(small, settings=parts.settings), parts, source, record, resume=False)

    def advance(done: int, values: Any) -> None:
        if done == CUT:
            shutil.copytree(parts.folder.path, place / "cut")

    loop.train(run, advance=advance)
    yield _found("export read again", lambda: _exported(run, place / "model"))


def _found(check: str, make: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        return Finding(check, *make())
    except errors.TrueupError as error:
        return Finding(check, False, words.one_line(error))


@contextmanager
def silent() -> Iterator[None]:
    """What is set up a second time says nothing again."""
    before = words.logger.level
    words.logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        words.logger.setLevel(before)


def reduced(
    resolved: resolve.Resolved, place: Path, steps: int = STEPS, most: int | None = EXAMPLES
) -> resolve.Resolved:
    """The same run in a folder: few small steps, nothing held out, nobody asked who is paid, no tracker told.
    `most` are examples of a step; None leaves steps, and what is sampled, as large as they are."""
    settings, method_settings = resolved.settings, resolved.method_settings
    batch_size = min(settings.batch_size, most or settings.batch_size)
    more: dict[str, Any] = {
        "output": str(place / "run"), "steps": steps, "epochs": None, "batch_size": batch_size, "save_every": CUT,
        "keep_checkpoints": steps, "eval_data": (), "eval_fraction": 0.0, "eval_every": None, "keep_best": None,
        "eval_prompts": (), "eval_by": None, "early_stopping": None, "warmup_steps": 0, "warmup_ratio": 0.0,
        "trackers": (), "log_every": 1,
    }  # fmt: skip
    if settings.gathers:
        sampler, annotator = settings.sampler, settings.annotator
        here: dict[str, Any] = {"engine": "in-process", "base_url": None, "server_model": None}
        if most is not None:
            here["max_new_tokens"] = min(sampler.max_new_tokens or NEW_TOKENS, NEW_TOKENS)
            more["round_prompts"] = None
        more["sampler"] = sampler.model_copy(update=here)
        if "base_url" in str(settings.model_dump(mode="json", include={"annotator"})):  # of one of a jury, too
            annotator = FunctionAnnotator(python_objects.hold("stand_in", _stand_in, judges=True))
        more["annotator"] = annotator
        if settings.source == "offline":  # all are asked before the first step
            prompts = prompts_named(settings.prompts, settings, chat=settings.chat).prompts
            write_rows(place / "prompts.jsonl", map(prompt_json, prompts[: steps * batch_size]))
            more["prompts"] = (str(place / "prompts.jsonl"),)
    moving = getattr(method_settings, "reference", None)
    if moving is not None and moving.period is not None:
        update = {"reference": replace(moving, every=CUT)}
        method_settings = method_settings.model_copy(update=update)
    return resolve.Resolved(resolved.info, method_settings, settings.model_copy(update=more))


def _stand_in(prompt: object, response: object) -> float:
    """A score for nothing, in the place of a judge that is asked over the network."""
    return sum(map(ord, str(response))) % 101 / 101


def set_up(small: resolve.Resolved, *, resume: bool) -> tuple[data.Parts, dict[str, Any], Source]:
    method, folder = small.info.configure(small.method_settings), RunFolder(Path(small.settings.output))
    folder.path.mkdir(exist_ok=True)
    examples = setup.read_data(small.settings, method)
    parts, record = setup.load_parts(small, method, folder, examples, resume=resume)
    return parts, record, examples.source(parts)


def _step_zero(parts: data.Parts, step: Step) -> tuple[bool | None, str]:
    method, sums = parts.method, Sums()
    if isinstance(parts.reference, reference.NullReference):
        return None, f"does not apply: {method.name} measures the policy against no reference"
    gaps = [found for one in step.batches if (found := build.first_gap(parts.policy, parts.reference, one))]
    gap, allowed = max(gap for gap, _ in gaps), gaps[0][1]
    in_loss = parts.reference if method.reference_in_loss else reference.NullReference()
    objective = objective_of(method, Rows(parts.policy, in_loss, step, sums))
    with torch.no_grad(), parts.policy.without_dropout():
        for batch in step.batches:
            forward(parts.policy, in_loss, objective, batch, sums, method.parts)
    means, counts, _ = sums.fetch(0)
    margin = abs(means.get("rewards/margins", 0.0))
    told = f"log-ratios of {sum(len(one.stream.target_S) for one in step.batches)} tokens {_size(gap)}"
    told += f", margins {_size(margin)}" if "rewards/margins" in means else ""
    if gap <= allowed and margin <= allowed * 1e4:
        return True, f"{told}, loss {means['loss']:.6g} over {counts['loss']:g}"
    return False, (
        f"{told}, and {allowed:g} is allowed: the reference is not the policy as it begins. Look at which model, "
        "adapter and reference.kind were given"
    )


def _size(gap: float) -> str:
    return "exactly 0" if gap == 0 else f"up to {gap:.2g}"


def _stream(parts: data.Parts, step: Step) -> tuple[bool | None, str]:
    groups = [group for batch in step.batches for group in batch.groups]
    masks = [row.scored for group in groups for row in group.responses]
    groups = sorted(groups, key=lambda group: group.num_tokens)[-COMPARED:]
    gap, allowed = selfcheck.compare_rows(parts.policy, groups), selfcheck.rounding(parts.policy)
    told = (
        f"{gap.rows} rows, {parts.policy.attention}: off by {gap.values:.1g}, gradients by {gap.gradients:.1g}; "
        f"{sum(int(one.sum()) for one in masks)} of {sum(map(len, masks))} response tokens of the step in the loss"
    )
    if gap.values <= allowed and gap.gradients <= allowed:
        return True, told
    return False, (
        f"{told}, and {allowed:g} is allowed: what is trained is not this model's function. Give --attention padded, "
        "and tell of this model"
    )


@dataclass(frozen=True)
class _Alone(reference.BatchSource):
    """Every group of a step in a batch by itself."""

    step: Step

    def everything(self) -> Iterable[stream.Batch[Any]]:
        return (stream.collate_batch([group], lambda *_: None) for batch in self.step.batches for group in batch.groups)

    def held_out(self) -> Iterable[stream.Batch[Any]]:
        return ()


def _cached(parts: data.Parts, step: Step, place: Path) -> tuple[bool | None, str]:
    policy, live = parts.policy, parts.reference
    if isinstance(live, reference.NullReference) or not isinstance(policy, causal.CausalModel):
        return None, f"does not apply: {parts.method.name} measures the policy against no reference"
    for _ in range(2):  # written, and read again by another
        cached = reference.CachedReference(policy, place / "references" / "log_probs.sqlite")
        cached.start(_Alone(step))
    gap = 0.0
    for batch in step.batches:
        there = batch.to(policy.device)
        with torch.no_grad(), policy.without_dropout():
            expected = live.log_probs(there) if live.exact else policy.log_probs(there.stream)
        assert expected is not None
        gap = max(gap, float((cached.log_probs(there).token_S - expected.token_S).abs().max()))
    told, allowed = f"{len(cached.table.entries)} groups, off by {gap:.1g} nats a token", build.ROUNDING
    if policy.autocast is not None:
        allowed = 0.1
    if gap <= allowed:
        return True, told
    return False, (
        f"{told}, and {allowed:g} is allowed: what is kept is not what the reference says. Remove the folder "
        "references of the cache, and do not take reference.kind cached here"
    )


def _sampler(parts: data.Parts, step: Step) -> tuple[bool | None, str]:
    policy, settings = parts.policy, parts.settings
    if not isinstance(policy, causal.CausalModel):
        return None, f"does not apply: {parts.method.name} trains a model that scores and writes nothing"
    more = {"decode": "sample", "max_new_tokens": NEW_TOKENS, "models": (), "engine": "in-process", "resync": 1}
    encoder = data.asking_encoder(parts.loaded, settings)
    sampler = InProcessSampler(settings.sampler.model_copy(update=more), policy, encoder, name=settings.model)
    most, temperature = encoder.limits.max_length, policy.temperature
    prompts = {tuple(group.prompt.tolist()) for batch in step.batches for group in batch.groups}
    given = [EncodedPrompt(ids, min(NEW_TOKENS, most - len(ids))) for ids in sorted(prompts) if len(ids) < most]
    written = sampler.written(given[:COMPARED], 2, settings.seed)
    rows = [tuple(tokens.TokenRow(_ids(one.written), _ids(one.written) >= 0) for one in several) for several in written]
    groups = [tokens.TokenGroup(_ids(prompt.ids), own, None) for prompt, own in zip(given, rows, strict=False)]
    expected = torch.tensor([value for several in written for one in several for value in one.log_probs])
    policy.set_temperature(1.0)  # a sampler tells of the model itself
    try:
        with torch.no_grad(), policy.without_dropout():
            found = policy.log_probs(stream.build_stream(groups).to(policy.device)).token_S.cpu()
    finally:
        policy.set_temperature(temperature)
    gap, allowed = (found - expected).abs(), selfcheck.rounding(policy) if policy.autocast is None else 0.5
    told = f"{len(gap)} tokens sampled: off by {gap.max():.1g} nats at most, {gap.mean():.1g} on average"
    if gap.max() <= allowed:
        return True, told
    return False, (
        f"{told}, and {allowed:g} is allowed: the policy that writes is not the one that is trained. Look at "
        "--attention and the precision, and tell of this model"
    )


def _ids(ids: Sequence[int]) -> Any:
    return np.array(ids, np.int32)


def _overfit(parts: data.Parts, step: Step) -> tuple[bool | None, str]:
    policy = parts.policy
    trained = policy.trainable()
    before = {name: value.detach().cpu().clone() for name, value in trained.items()}
    optimizer = Optimizer(trained, max_grad_norm=parts.settings.max_grad_norm)
    in_loss = parts.reference if parts.method.reference_in_loss else reference.NullReference()
    rate, losses = min(20 * setup.usual_rate(policy, 1e-6), 1e-2), list[float]()
    state = torch.get_rng_state()
    try:
        for number in range(1, MOST_STEPS + 1):
            means = train_step(policy, in_loss, parts.method, step, optimizer, step=number, learning_rate=rate)
            losses.append(means["loss"])
            if losses[0] - losses[-1] >= FALL * max(SMALL, abs(losses[0])):
                break
    finally:
        optimizer.zero_grad()
        torch.set_rng_state(state)
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(before[name])
    told = f"loss {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses) - 1} steps of {rate:.0e}"
    if losses[0] - losses[-1] >= FALL * max(SMALL, abs(losses[0])):
        return True, told
    return False, (
        f"{told}: nothing is learned even of one batch. Look at it with `trueup inspect --model`, for ties and for "
        "responses that are the same, and at which weights are trained"
    )


def _exported(run: loop.Run, folder: Path) -> tuple[bool | None, str]:
    dtype = getattr(torch, run.parts.settings.save_dtype)
    export.export(run.parts.policy.network, run.parts.loaded.tokenizer, folder, dtype=dtype, card=None)
    return True, export.verify(run, folder)


def _resumed(uncut: Path, cut: Path) -> tuple[bool | None, str]:
    resolved = resolve.load_run(cut)
    parts, record, source = set_up(resolved, resume=True)
    run = setup.make_run(replace(resolved, settings=parts.settings), parts, source, record, resume=True)
    begun = run.step
    loop.train(run, advance=lambda done, values: None)
    one, other = (checkpoint.load_step(path / "checkpoints", run.total) for path in (uncut, cut))
    gaps = {
        name: max((_apart(value, other.parts[name].get(key)) for key, value in tensors.items()), default=0.0)
        for name, tensors in one.parts.items()
    }
    told = f"{run.total} steps, interrupted after {begun}"
    if not any(gaps.values()):
        return True, f"{told}: {', '.join(gaps)} the same to the bit"
    wrong = ", ".join(f"{name} by up to {gap:.2g}" for name, gap in gaps.items() if gap)
    return False, (
        f"{told}: {wrong} off. A run that is interrupted ends otherwise than one that is not; run it in one piece, and "
        "tell of this configuration"
    )


def _apart(one: torch.Tensor, other: torch.Tensor | None) -> float:
    if other is None or one.shape != other.shape:
        return float("inf")
    return 0.0 if torch.equal(one, other) else float((one.double() - other.double()).abs().max()) or float("nan")
