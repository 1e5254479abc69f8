"""Is the finished model the policy? It is read again before a run says that it is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueup.batch.rows import Scores
from trueup.batch.stream import Stream
from trueup.errors import CheckpointError, InputError
from trueup.models import causal, load, lora, reward, selfcheck
from trueup.parallel import processes, sharding
from trueup.references.build import ROUNDING
from trueup.training import export, loop
from trueup.words import listed, one_line

AGAIN = "again"
"""Name of an adapter that is read again."""


@torch.no_grad()
def verify(run: loop.Run, folder: Path) -> str:
    """Read the finished model again, and see that it is the policy: its weights to the bit, and what it says of a few
    rows of the run's data, which its configuration decides as well. Says what was found.

    A full model is read beside the policy; the gradients, which took as much, are given up first. An adapter is put on
    the policy's own base under another name. So no more memory is taken than training took. Several processes hold no
    whole model: they compare the weights in the files alone. Where the files are in a lower precision the policy is
    rounded to it for good, so that nothing but an error is left between the two, whatever the precision.
    """
    policy, network, settings = run.parts.policy, run.parts.policy.network, run.parts.settings
    run.optimizer.zero_grad()
    adapted = lora.is_adapted(network)
    if processes.size() > 1:
        weights = lora.written_weights(network) if adapted else sharding.full_state(network)
        expected = {name: sharding.full(value) for name, value in weights.items()} if adapted else weights
        processes.owned(lambda: export.refuse_other_weights(folder, expected))
        return "the weights in its files are the policy's"
    dtype = torch.float32 if adapted else getattr(torch, settings.save_dtype)
    for value in network.state_dict().values() if dtype != torch.float32 else ():
        value.copy_(value.to(dtype) if value.is_floating_point() else value)
    stream = selfcheck.probe(run.source.first_groups()).to(policy.device)
    values = _values(policy, stream)
    try:
        own, written, read = (_adapter_again if adapted else _model_again)(run, folder, stream)
    except (InputError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise _not_the_policy(folder, f"it cannot be read: {one_line(error)}") from error
    same = [name for name in own.keys() & written.keys() if torch.equal(own[name], written[name])]
    if wrong := sorted((own.keys() | written.keys()).difference(same)):
        raise _not_the_policy(folder, f"{listed(wrong)} differ")
    gap = float((values - read).abs().max())
    if not gap <= ROUNDING:
        raise _not_the_policy(
            folder, f"what it says of a row is off by {gap:.2g}, and {ROUNDING:g} is allowed"
        )
    return f"{len(same)} tensors the same, values of {len(stream.length_N)} rows off by {gap:.2g}"


def _not_the_policy(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: the finished model, read again, is not the policy that was trained: {why}. Do not use it; the "
        "run's checkpoints are intact, and --resume writes it once more"
    )


def _values(policy: causal.StreamModel, stream: Stream) -> Tensor:
    with policy.without_dropout():
        outputs = policy.outputs(stream)
    return outputs.score_N if isinstance(outputs, Scores) else outputs.token_S


Again = tuple[Mapping[str, Tensor], Mapping[str, Tensor], Tensor]
"""The policy's weights, those read, and what these say of a stream."""


def _adapter_again(run: loop.Run, folder: Path, stream: Stream) -> Again:
    policy: Any = run.parts.policy
    policy.network.load_adapter(str(folder), adapter_name=AGAIN, is_trainable=False)
    try:
        own, written = (lora.factors(policy.network, name) for name in (lora.POLICY, AGAIN))
        with lora.adapter(policy.network, AGAIN):
            return (
                own,
                {name: value.detach().clone() for name, value in written.items()},
                _values(policy, stream),
            )
    finally:
        policy.network.delete_adapter(AGAIN)


def _model_again(run: loop.Run, folder: Path, stream: Stream) -> Again:
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
