"""What a run is made of before its first step: policy, reference, optimizer, and what an earlier sitting saved."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from trueup import errors, metrics, words
from trueup.batch import chat_template, rows, stream
from trueup.config import run_checks
from trueup.config.resolve import Resolved, dump
from trueup.methods.method import METHODS, Method, code_of
from trueup.models import head, load, lora, prepare, selfcheck
from trueup.models.causal import CausalModel, StreamModel, configuration, model_identity
from trueup.parallel import processes, sharding, slices
from trueup.references.build import build, check_first_batch
from trueup.references.choices import Frozen
from trueup.references.reference import NullReference, Reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import model_named
from trueup.sources.source import Source, passes
from trueup.training import checkpoint, lazy, loop, memory, optimizer, rounds, sampled, seal, watch
from trueup.training.data import Data, Parts, examples_of, offline_source, view_all
from trueup.training.folder import RunFolder

PAPERS, SMALL = 7e9, 1e9
"""Weights of the models that papers give learning rates for, and from where on down another is suggested."""
ADAPTER = 10
HIGHEST_RATE = 1e-3


def read_data(settings: RunSettings, method: Method) -> Data:
    """Read what a run's examples are, or will be made of, and say what it was taken for."""
    if settings.turns == "all" and settings.source != "offline":
        raise errors.InputError(
            f"turns is all, but source {settings.source} learns from the responses sampled alone. Leave turns at last"
        )
    if settings.source == "offline" and not settings.prompts:
        if lazily := lazy.read_lazily(settings, method):
            return lazily
        examples = examples_of(settings, settings.data)
        viewed = view_all(settings, method, examples.examples, examples.weights)
        files = {**examples.fingerprints, **viewed.fingerprints}
        return Data(files, partial(offline_source, viewed), [one.prompt for one in examples.examples])
    if settings.source == "online":
        return rounds.online(settings, method)
    if settings.source == "replay":
        return rounds.replay(settings, method)
    return rounds.sampled_first(settings, method)


def load_parts(
    resolved: Resolved, method: Method, folder: RunFolder, data: Data, *, resume: bool
) -> tuple[Parts, dict[str, Any]]:
    """Load the models of a run; and what its run.yaml holds beside the settings."""
    settings = resolved.settings
    held_out = sampled.read_eval_prompts(settings, data.prompts)
    policy, loaded = make_policy(settings, method)
    day = settings.template_date
    if chat_template.writes_date(loaded.tokenizer) or seal.others_write_date(settings):
        day = day if day or resume else chat_template.today()
        words.logger.info(
            f"the chat template writes the date: in all of this run it is {day or chat_template.today()} "
            "(template_date)"
        )
    loaded = replace(loaded, template_date=day)
    tokens = settings.micro_batch_tokens or memory.usual_tokens(policy)
    settings = settings.model_copy(update={"template_date": day, "micro_batch_tokens": tokens})
    if resume:
        loaded = replace(loaded, condition=seal.condition_as_begun(folder.path, loaded.condition))
    found = processes.together(lambda: model_identity(policy.network) if processes.first_here() else None)
    identities = {
        "data_fingerprints": dict(data.fingerprints),
        "model_identity": found[processes.rank()] or found[0],
        "tokenizer_identity": seal.tokenizer_files(settings, loaded.base_path),
        "end_ids": list(loaded.end_ids),
        "other_files": seal.other_files(settings, loaded.base_path) | code_of(resolved.info),
    }
    record, configured = seal.record_of(identities, loaded.condition), configuration(policy.network)
    content = seal.sealed(replace(resolved, settings=settings), record, configured)
    run_checks.refuse_unlike(content | {name: record["versions"][name] for name in ("trueup", *seal.PACKAGES)})
    if resume:
        seal.refuse_changed(folder, content, settings)
        seal.warn_of_versions(folder.path, record)
    if settings.prompts:  # something is sampled, before the first batch is known
        prepare.set_threads(policy.network, settings.micro_batch_tokens, settings.threads)
    reference = make_reference(method, settings, policy, loaded)
    parts = Parts(settings, method, policy, loaded, reference, folder, configured)
    return replace(parts, sampled=sampled.make_sampled(parts, held_out)) if held_out else parts, record


def make_run(resolved: Resolved, parts: Parts, source: Source, record: dict[str, Any], *, resume: bool) -> loop.Run:
    """A run at its beginning, or where its newest whole checkpoint left it; its tokens are added to the record."""
    settings, folder = parts.settings, parts.folder
    record["tokens_identity"] = source.identity()
    content = seal.sealed(resolved, record, parts.configuration)
    run_checks.refuse_unlike(content)
    saved = checkpoint.load_newest(folder.checkpoints) if resume else None
    if resume:
        before = str(saved.metadata.get("sealed")) if saved else None
        seal.refuse_changed(folder, content, settings, before)
    beside = parts.sampled.start if parts.sampled and parts.sampled.start is not parts.reference else None
    several = [one for one in (parts.reference, beside) if one is not None] if processes.size() > 1 else []
    references = [model for one in several for model in one.models()]  # of a policy in one piece
    if later := slices.is_unread(parts.policy.network):
        shard_model(parts.policy, settings)
    choose_attention(parts, source)
    if settings.compile:
        selfcheck.compile_layers([parts.policy, *parts.reference.models()], source.first_groups())
    if processes.size() > 1:
        shard_references(references, parts.policy, settings)
        if not later:
            shard_model(parts.policy, settings)
        sharding.resharded(parts.policy)  # where a check has just called it
        processes.alike(lambda: check_head(parts.policy, source))
        sharding.resharded(parts.policy)
        torch.manual_seed(settings.seed + processes.rank())  # each draws numbers of its own
    run = _assemble(parts, source, saved.step if saved else 0, seal.seal_of(content))
    _check_room(run)
    if saved is not None:
        if parts.sampled is not None:
            parts.sampled.keep_start()
        try:
            loop.restore_run(run, saved)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise errors.CheckpointError(
                f"{folder.checkpoints}: the checkpoint of step {saved.step} is as its manifest says, but not of this "
                f"run: {words.one_line(error)}. Remove it to go on from an earlier one, or begin a new run"
            ) from error
        words.logger.info(f"going on after step {run.step} of {run.total}")
        return run
    if resume:
        words.logger.warning("the run was stopped before its first checkpoint; it begins again at step 1")
    _start(run)
    if processes.size() == 1:
        memory.fit(parts, source)
    folder.write_sealed(content, settings)
    folder.write_settings(dump(resolved) | record | {"reference": parts.reference.identity})
    folder.write_status("running", 0, run.total)
    return run


def choose_attention(parts: Parts, source: Source) -> None:
    """Take the fastest attention backend that is exact for the policy, unless one was asked for; set the threads."""
    settings, policy, groups = parts.settings, parts.policy, source.first_groups()
    prepare.set_threads(policy.network, sum(group.num_tokens for group in groups), settings.threads)
    wanted = None if settings.attention == "auto" else settings.attention
    check = selfcheck.check_attention(policy, groups, wanted, settings.max_length)
    policy.set_attention(check.attention)
    if check.message:
        words.logger.warning(check.message)
    if kept := selfcheck.keep_as_at_inference(policy, groups):
        words.logger.warning(
            f"{words.listed(kept)} of this model compute something else in training than at inference; they are kept "
            "as at inference"
        )


def shard_model(model: StreamModel, settings: RunSettings, *, frozen: bool = False) -> None:
    together = processes.inside(settings.parallel.shard, settings.parallel.replicate)
    sharding.shard(model, device=prepare.pick_device(settings.device), inside=together, frozen=frozen)


def shard_references(models: Sequence[StreamModel], policy: StreamModel, settings: RunSettings) -> None:
    """Shard what references hold, each of which computes as the policy does."""
    for model in models:
        model.set_attention(policy.attention)
        for own, module in zip(policy.network.modules(), model.network.modules(), strict=True):
            module.training = own.training
        shard_model(model, settings, frozen=True)


def check_head(policy: StreamModel, source: Source) -> None:
    """See that the gradient of a sharded head is that of the whole one, on a group that all processes compute.
    Several ways to gather a head leave out what the other processes add, and nothing else would tell: NumericsError."""
    if not isinstance(policy, CausalModel):
        return
    found = head.head_of(policy.inner)
    if not sharding.is_sharded(found.weight) or not found.weight.requires_grad:
        return
    given: list[Any] = []

    def cut_off(module: Any, arguments: Any, more: Any) -> Any:
        """What a tied embedding would add is left out."""
        given[:] = (arguments[0].detach(), *arguments[1:]), more
        return tuple(given)

    batch = stream.collate_batch(source.first_groups()[:1], rows.Demonstrations.collate).to(policy.device)
    hook = found.register_forward_pre_hook(cut_off, with_kwargs=True)
    with policy.without_dropout():
        policy.log_probs(batch.stream).token_S.sum().backward()
    hook.remove()
    sharded: Any = found.weight.grad
    full = {name: sharding.full(one).clone().requires_grad_() for name, one in found.named_parameters()}
    token_S, *_ = torch.func.functional_call(found, full, *given)
    expected = torch.autograd.grad(token_S.sum(), full["weight"])[0] * processes.size()
    gap = float((sharding.full(sharded) - expected).norm() / expected.norm())
    policy.zero_grad()
    if not gap <= (1e-3 if policy.products is None else 2e-2):
        raise errors.NumericsError(
            f"the gradient of the model's head in shards is off by {gap:.0%} from that of the whole head, so that "
            "nothing would be learned rightly; the run was not started. Start one process, and tell of it with the "
            f"versions of torch ({torch.__version__}) and trueup"
        )


def _assemble(parts: Parts, source: Source, step: int, sealed: str) -> loop.Run:
    settings, total = parts.settings, source.num_steps
    moved = optimizer.Optimizer(
        parts.policy.trainable(), betas=(settings.adam_beta1, settings.adam_beta2),
        epsilon=settings.adam_epsilon, weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm, states=settings.optimizer_states,
        by_muon=optimizer.by_muon(parts.policy) if settings.optimizer == "muon" else (),
    )  # fmt: skip
    peak = settings.learning_rate
    assert peak is not None
    warmup = settings.warmup_steps or math.ceil(settings.warmup_ratio * total)
    return loop.Run(
        parts=parts,
        source=source,
        optimizer=moved,
        learning_rate=partial(
            optimizer.learning_rate, peak=peak, schedule=settings.schedule, warmup=warmup, total=total
        ),
        metrics=metrics.Metrics(parts.folder.metrics, keep_until=step),
        seal=sealed,
        watch=watch.Watch(settings.watch),
        best=loop.Best.of(settings),
    )


def disk_needs(parts: Parts, total: int) -> tuple[int, str]:
    """Bytes that a run of `total` steps needs on disk at most: checkpoints, one more being written, and the model;
    and the same in words."""
    settings, network = parts.settings, parts.policy.network
    trained = sum(parameter.nbytes for parameter in parts.policy.trainable().values())
    copies = 3 + parts.reference.weights + (settings.source == "online" and settings.sampler.resync > 1)
    model = trained
    if not lora.is_adapted(network):
        model = prepare.num_parameters(network) * getattr(torch, settings.save_dtype).itemsize
    chosen = bool(settings.keep_best)  # which may be saved after any step, and stays beside the newest
    saves = total if chosen else math.ceil(total / (settings.save_every or max(1, math.ceil(total / 10))))
    kept = (settings.keep_checkpoints or loop.KEPT) + chosen
    one = trained * copies
    needed = max(min(saves, kept + 1) * one, min(saves, kept) * one + model)
    told = f"{needed / 1e6:.1f} MB at most for checkpoints of {one / 1e6:.1f} MB and a model of {model / 1e6:.1f} MB"
    return needed, told


def _check_room(run: loop.Run) -> None:
    """Say what the run needs on disk, and refuse (InputError) where there is less."""
    folder = run.parts.folder
    needed, told = disk_needs(run.parts, run.total)
    there = sum(file.stat().st_size for file in folder.checkpoints.rglob("*.safetensors"))
    free = shutil.disk_usage(folder.path).free
    words.logger.info(f"on disk the run needs {told}")
    if needed - there > free:
        raise errors.InputError(
            f"{folder.path}: on disk the run needs {told}, and {free / 1e6:.1f} MB are free there. Make room, or give "
            "another --output, --keep_checkpoints 1 or a larger --save_every"
        )


def _start(run: loop.Run) -> None:
    parts, every = run.parts, run.parts.method.reference.period
    if every is not None and every >= run.total:
        words.logger.warning(
            f"the reference moves every {every} steps, and the run has {run.total}: it never does, or only at "
            "the end. Give a smaller --reference.every"
        )
    parts.reference.start(run.source)
    first, _ = passes(run.source.first_groups(), parts.settings.micro_batch_tokens)[0]
    check_first_batch(parts.policy, parts.reference, stream.collate_batch(first, rows.Demonstrations.collate))
    run.watch.begun = first_values(run)
    rate, info = parts.settings.learning_rate, METHODS.get(parts.method.name)
    if rate is not None and info and rate == info.defaults.get("learning_rate"):
        suggest_rate(parts.policy, rate)


@torch.no_grad()
def first_values(run: loop.Run) -> list[float]:
    """What the policy as it is says of the responses of the first micro-batch: log-probabilities, or scores."""
    first = next(stream.cut(run.source.first_groups(), run.parts.settings.micro_batch_tokens))
    batch = stream.collate_batch(first, rows.Demonstrations.collate).to(run.parts.policy.device)
    with run.parts.policy.without_dropout():
        outputs = run.parts.policy.outputs(batch.stream)
    values: list[float] = (outputs.score_N if isinstance(outputs, rows.Scores) else outputs.sum).tolist()
    return values


def usual_rate(policy: StreamModel, default: float) -> float:
    """The learning rate that is usual for a policy where a paper takes `default` for all weights of a large model.
    An adapter takes about ten times the rate of all weights (Schulman et al., 2025, LoRA without regret); the best rate
    of Adam falls as one over the width (Yang et al., 2022, https://arxiv.org/abs/2203.03466), which goes with the
    square root of the number of weights."""
    size, adapted = prepare.num_parameters(policy.network), lora.is_adapted(policy.network)
    rate = default * (ADAPTER if adapted else 1) * (math.sqrt(PAPERS / size) if size < SMALL else 1)
    return min(rate, HIGHEST_RATE)


def suggest_rate(policy: StreamModel, default: float) -> None:
    """Say which learning rate is usual where a method's default is for another kind of policy."""
    size, adapted = prepare.num_parameters(policy.network), lora.is_adapted(policy.network)
    what = " of ".join(["an adapter"] * adapted + [f"a model of {size:,} weights"] * (size < SMALL))
    if what:
        usual = f"{usual_rate(policy, default):.0e}"
        words.logger.info(
            f"learning_rate {default:g} is the paper's, for all weights of a model of billions; for {what} about "
            f"{usual} is usual: --learning_rate {usual}"
        )


def make_policy(settings: RunSettings, method: Method) -> tuple[StreamModel, load.Loaded]:
    torch.manual_seed(settings.seed)
    device = prepare.pick_device(settings.device)
    names = "precision gradient_checkpointing quantize trust_remote_code eos_token chat_template"
    options = {name: getattr(settings, name) for name in names.split()}
    options |= {"device": device, "adapter": settings.lora}
    path = model_named(settings.model)
    # What is to be sampled from before the first step has to be whole.
    options["later"] = processes.size() > 1 and not settings.prompts and not settings.eval_prompts
    policy: StreamModel
    if method.output == "scores":
        policy, loaded = prepare.load_reward_policy(path, seed=settings.seed, **options)
    else:
        policy, loaded = prepare.load_policy(path, **options)
        if "values" in method.parts:
            policy.add_value_head()
        if method.temperature != 1:
            policy.set_temperature(method.temperature)
    count = prepare.num_parameters(policy.network)
    trained = sum(p.numel() for p in policy.network.parameters() if p.requires_grad)
    words.logger.info(
        f"{settings.model}: {type(policy.inner).__name__} on {device.type}, {trained:,} of {count:,} weights trained"
        + (", products in bfloat16" if policy.autocast else "")
    )
    return policy, loaded


def make_reference(method: Method, settings: RunSettings, policy: StreamModel, loaded: load.Loaded) -> Reference:
    """What the policy is measured against, by the objective or by the penalty in the reward."""
    choice = method.reference
    if settings.reward_kl and not choice.measures:
        choice = Frozen()
    if not choice.measures:
        return NullReference()
    assert isinstance(policy, CausalModel)  # a reference is read for its log-probabilities
    return build(choice, policy, starts_from_adapter=loaded.starts_from_adapter, offline=settings.source == "offline")
