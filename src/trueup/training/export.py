"""What a finished run leaves: the model in Hugging Face format with its card, or a PEFT adapter.

It is read again before the run says that it is done. Beside a reward model stands what it says."""

import filecmp
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import jinja2
import torch
import yaml
from safetensors import safe_open

from trueup import __version__, errors, model_hub, words
from trueup.annotators.calibration import Calibration, Estimate, calibrate
from trueup.batch.rows import GradedPairs, Scores
from trueup.batch.stream import Batch, Stream
from trueup.config.resolve import Resolved, told_settings
from trueup.feedback.condition import Condition
from trueup.files import replaced_folder
from trueup.models import causal, load, lora, reward, selfcheck
from trueup.models.tokenizer import quiet_library
from trueup.parallel import processes, sharding
from trueup.references.build import ROUNDING
from trueup.training.loop import Run

AGAIN = "again"
REWARD = "reward.json"  # beside the weights: mean and standard deviation of the scores. Nothing reads it unasked
MOST_BATCHES = 64  # micro-batches of training pairs that scores are measured on where nothing was held out


def export(
    network: Any, tokenizer: Any, folder: Path, *, dtype: torch.dtype, card: Mapping[str, Any] | None,
    condition: Condition | None = None, beside: Mapping[str, str] | None = None, same: Path | None = None,
) -> None:  # fmt: skip
    """Write model, tokenizer and card to `folder`, whole or not at all: a transformers model in `dtype`, or the adapter
    of a `PeftModel`. `card` are values of the model card's template, None writes none; `beside` further files, name ->
    text. Where the model's weights have the same bytes as the file `same`, both are one file on the disk."""
    adapter = lora.is_adapted(network)

    def write(weights: Mapping[str, torch.Tensor]) -> None:
        with replaced_folder(folder) as part:
            with quiet_library():
                if adapter:
                    network.save_pretrained(str(part), selected_adapters=[lora.POLICY], save_embedding_layers=False)
                else:
                    _save_model(network, weights, part, dtype)
                    if same is not None:
                        _share(part, same)
                tokenizer.save_pretrained(str(part))
            if condition is not None:
                condition.save(part)
            for name, text in (beside or {}).items():
                (part / name).write_text(text, encoding="utf-8")
            if card is not None:
                text = render_card(card, adapter=adapter, condition=condition)
                (part / "README.md").write_text(text, encoding="utf-8")

    try:
        state: Any = nullcontext({}) if adapter else sharding.full_state(network, folder, dtype)
        with state as weights:
            if processes.owns():
                write(weights)
    except Exception as error:  # OSError, and SafetensorError for the same full disk
        raise errors.CheckpointError(
            f"{folder}: the finished model could not be written: {words.reason(error)}. The run's checkpoints are "
            "intact: make room and go on with --resume"
        ) from error


def _save_model(network: Any, weights: Mapping[str, torch.Tensor], folder: Path, dtype: torch.dtype) -> None:
    before = network.config.dtype
    state: dict[str, torch.Tensor] = {}
    cast: dict[
        tuple[Any, ...], torch.Tensor
    ] = {}  # by place in memory: tied weights stay one tensor, which is written once
    for name, tensor in weights.items():
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        state[name] = cast.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(wanted))
    try:
        network.save_pretrained(str(folder), state_dict=state)
        network.config.dtype = str(dtype).removeprefix("torch.")  # the library wrote that of the parameters
        network.config.save_pretrained(str(folder))
    finally:
        network.config.dtype = before


def refuse_other_weights(folder: Path, network: Any) -> None:
    """See that a folder holds the weights of a network, or its adapter's, perhaps in another precision."""
    with ExitStack() as opened:
        written: dict[str, Any] = {}
        for file in folder.glob("*.safetensors") if processes.owns() else ():
            one = opened.enter_context(safe_open(file, framework="pt"))
            written |= dict.fromkeys(one.keys(), one)
        wrong = [] if written else ["nothing"]
        for names, right in lora.written_weights(network):
            for name in names:
                value = written.pop(name).get_tensor(name) if name in written else None
                if value is not None and not torch.equal(value, right.detach().cpu().to(value.dtype)):
                    wrong.append(name)
        if processes.owns() and (wrong := [*wrong, *written]):
            raise errors.CheckpointError(
                f"{folder}: what was written is not what was to be written: {words.listed(wrong)}. Export it again"
            )


def _share(folder: Path, same: Path) -> None:
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):  # it is not there, or this file system has no such links
            if filecmp.cmp(file, same, shallow=False):
                os.link(same, folder / ".same")
                os.replace(folder / ".same", file)


def card_of(resolved: Resolved, base: str, **more: Any) -> dict[str, Any]:
    """Values of the model card's template; `base` is the full model that was trained, `more` what its end told."""
    unsaid = dict.fromkeys(("data", "report", "samples", "scores", "summary", "troubles"), ())
    settings = yaml.safe_dump(told_settings(resolved), sort_keys=False)
    about = {"base": base, "info": resolved.info, "version": __version__, "settings": settings, "metrics": {}}
    return {**unsaid, **about, **more}


def render_card(card: Mapping[str, Any], *, adapter: bool, condition: Condition | None = None) -> str:
    text = Path(__file__).with_name("model_card.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(text)
    origin = model_hub.origin_of(card["base"])  # the hub refuses the path of a folder
    about = {"base": model_hub.named(card["base"]), "origin": origin, "adapter": adapter, "condition": condition}
    return template.render({**card, **about})


@dataclass(frozen=True, slots=True)
class RewardReport:
    held_out: bool  # whether it was measured on held-out pairs; otherwise on training pairs, which say little of others
    mean: float
    std: float
    responses: int
    calibration: Calibration

    @property
    def files(self) -> Mapping[str, str]:
        content = {
            "measured_on": "held-out" if self.held_out else "training", "mean": self.mean, "std": self.std,
            "responses": self.responses, "pairs": self.calibration.pairs,
            "accuracy": self.calibration.accuracy.value,
        }  # fmt: skip
        return {REWARD: json.dumps(content, indent=2) + "\n"}

    def lines(self) -> list[str]:
        where = "held-out" if self.held_out else "training"
        found = self.calibration
        lines = [
            f"scores of {self.responses} responses to {where} prompts: mean {self.mean:.4g}, standard deviation "
            f"{self.std:.4g}",
            f"accuracy on {found.pairs} {where} pairs: {_shown(found.accuracy)}",
        ]
        if self.held_out:
            lines.append(
                f"Brier score {_shown(found.brier)}, expected calibration error "
                f"{_shown(found.expected_calibration_error)}"
            )
        return lines


def reward_report(run: Run) -> RewardReport:
    """Measure the finished model on everything held out, or on some of the training pairs where nothing is.
    What held-out pairs say of it is written to the run's calibration.json."""
    held_out = run.source.has_held_out
    every = run.source.held_out().batches if held_out else run.source.everything() or ()
    found = measure(run.parts.policy, every if held_out else islice(every, MOST_BATCHES), held_out=held_out)
    if held_out:
        run.parts.folder.write_calibration(found.calibration.as_json())
    for line in found.lines():
        words.logger.info(line)
    return found


@torch.no_grad()
def measure(policy: causal.StreamModel, batches: Iterable[Batch[Any]], *, held_out: bool) -> RewardReport:
    scores: list[float] = []
    apart: list[float] = []
    probabilities: list[float] = []
    prompts: list[bytes] = []
    with policy.without_dropout():
        for batch in batches:
            batch = batch.to(policy.device)
            outputs = policy.outputs(batch.stream)
            assert isinstance(outputs, Scores) and isinstance(batch.index, GradedPairs)
            if batch.idle:
                continue
            score_N, pairs = outputs.score_N.double(), batch.index.pairs
            scores += score_N.tolist()
            apart += (score_N[pairs.chosen_P] - score_N[pairs.rejected_P]).tolist()
            probabilities += pairs.probability_P.tolist()
            prompt_N = [group.prompt.tobytes() for group in batch.groups for _ in group.responses]
            prompts += [prompt_N[row] for row in pairs.chosen_P.tolist()]
    every = processes.gather((scores, apart, probabilities, prompts))
    scores, apart, probabilities, prompts = (
        [one for part in parts for one in part] for parts in zip(*every, strict=True)
    )
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    calibration = calibrate(apart, probabilities, [numbers[prompt] for prompt in prompts])
    return RewardReport(held_out, fmean(scores), stdev(scores), len(scores), calibration)


def _shown(estimate: Estimate) -> str:
    error = "" if math.isnan(estimate.error) else f" (standard error {estimate.error:.3f})"
    return f"{estimate.value:.3f}{error}"


@torch.no_grad()
def verify(run: Run, folder: Path) -> str:
    """Read the finished model again, and see that it is the policy: its weights to the bit, and what it says of a few
    rows of the run's data, which its configuration decides as well. Says what was found.

    A full model is read beside the policy; the gradients, which took as much, are given up first. An adapter is put on
    the policy's own base under another name. So no more memory is taken than training took. Several processes hold no
    whole model: they compare the weights in the files alone. Where the files are in a lower precision the policy is
    rounded to it for good, so that nothing but an error is left between the two, whatever the precision."""
    policy, network, settings = run.parts.policy, run.parts.policy.network, run.parts.settings
    run.optimizer.zero_grad()
    adapted = lora.is_adapted(network)
    if processes.size() > 1:
        processes.alike(lambda: refuse_other_weights(folder, network))
        return "the weights in its files are the policy's"
    dtype = torch.float32 if adapted else getattr(torch, settings.save_dtype)
    for value in network.state_dict().values() if dtype != torch.float32 else ():
        value.copy_(value.to(dtype) if value.is_floating_point() else value)
    stream = selfcheck.probe(run.source.first_groups()).to(policy.device)
    values = _values(policy, stream)
    try:
        own, written, read = (_adapter_again if adapted else _model_again)(run, folder, stream)
    except (errors.InputError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise _not_the_policy(folder, f"it cannot be read: {words.one_line(error)}") from error
    same = [name for name in own.keys() & written.keys() if torch.equal(own[name], written[name])]
    if wrong := sorted((own.keys() | written.keys()).difference(same)):
        raise _not_the_policy(folder, f"{words.listed(wrong)} differ")
    gap = float((values - read).abs().max())
    if not gap <= ROUNDING:
        raise _not_the_policy(folder, f"what it says of a row is off by {gap:.2g}, and {ROUNDING:g} is allowed")
    return f"{len(same)} tensors the same, values of {len(stream.length_N)} rows off by {gap:.2g}"


def _not_the_policy(folder: Path, why: str) -> errors.CheckpointError:
    return errors.CheckpointError(
        f"{folder}: the finished model, read again, is not the policy that was trained: {why}. Do not use it; the "
        "run's checkpoints are intact, and --resume writes it once more"
    )


def _values(policy: causal.StreamModel, stream: Stream) -> torch.Tensor:
    with policy.without_dropout():
        outputs = policy.outputs(stream)
    return outputs.score_N if isinstance(outputs, Scores) else outputs.token_S


Again = tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor], torch.Tensor]
"""The policy's weights, those read, and what these say of a stream."""


def _adapter_again(run: Run, folder: Path, stream: Stream) -> Again:
    policy: Any = run.parts.policy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice on copies of tied layers, given when they were made
        policy.network.load_adapter(str(folder), adapter_name=AGAIN, is_trainable=False)
    try:
        own, written = (lora.factors(policy.network, name) for name in (lora.POLICY, AGAIN))
        with lora.adapter(policy.network, AGAIN):
            copied = {name: value.detach().clone() for name, value in written.items()}
            return own, copied, _values(policy, stream)
    finally:
        policy.network.delete_adapter(AGAIN)


def _model_again(run: Run, folder: Path, stream: Stream) -> Again:
    policy, settings = run.parts.policy, run.parts.settings
    scores = isinstance(policy, reward.RewardModel)
    loaded = (reward.load_reward if scores else load.load)(
        str(folder), device=policy.device, trust_remote_code=settings.trust_remote_code, eos_token=settings.eos_token,
    )  # fmt: skip
    model: Any = (reward.RewardModel if scores else causal.CausalModel)(
        loaded.network, attention=policy.attention, autocast=policy.autocast
    )
    if isinstance(policy, causal.CausalModel) and policy.temperature != 1:
        model.set_temperature(policy.temperature)
    return policy.network.state_dict(), loaded.network.state_dict(), _values(model, stream)
