"""From the choice of a reference to a running one, which agrees with the policy before anything has moved.
And those that hold weights: a second model, or an adapter."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from trueup import errors, files, words
from trueup.batch import rows, stream
from trueup.models import lora
from trueup.models.causal import CausalModel, StreamModel, identity_of, model_identity, moved_identity
from trueup.parallel import sharding, slices
from trueup.references import choices, reference

ADAPTED = (".lora_", ".modules_to_save.")  # what the names of an adapter's weights hold
ROUNDING = 1e-4  # nats per token allowed where reference and policy are computed in different batches


def build(
    choice: choices.ReferenceChoice[Any], policy: CausalModel, *, starts_from_adapter: bool, offline: bool
) -> reference.Reference:
    """Make the reference that a method chose. `offline`: the batches to come are known, so that scalars will do."""
    adapted = lora.is_adapted(policy.network)
    match choice:
        case choices.NoReference():
            return reference.NullReference()
        case choices.AdapterOff():
            assert adapted  # else refused with the settings
            if starts_from_adapter:
                raise errors.InputError(
                    "reference.kind adapter-off would measure the policy against the bare base model, which is not "
                    "where it starts: the model given is an adapter. Use --reference.kind frozen, which keeps a "
                    "copy of that adapter"
                )
            return DisabledAdapter(policy)
        case choices.Frozen():
            if not adapted:
                return ModelCopy(policy)
            return AdapterCopy(policy) if starts_from_adapter else DisabledAdapter(policy)
        case choices.Cached():
            assert offline  # else refused with the settings
            return reference.CachedReference(policy, files.cache_folder() / "references" / "log_probs.sqlite")
        case choices.TrustRegion():
            if adapted:
                if choice.alpha < 1 and lora.has_norms(policy.network):
                    raise errors.InputError(
                        f"reference.alpha {choice.alpha:g} is refused on an adapter of DoRA, whose norms have no mean "
                        "that is exact; give reference.alpha 1"
                    )
                return AdapterCopy(policy, choice)
            return reference.LookAhead(policy, choice) if choice.alpha == 1 and offline else ModelCopy(policy, choice)
    raise TypeError(f"unknown reference choice {choice!r}")


class ModelCopy(reference.Reference):
    """A copy of the policy's weights, frozen or following it as `region` says."""

    def __init__(self, policy: CausalModel, region: choices.TrustRegion | None = None) -> None:
        self.policy = policy
        self.region = region
        self.weights = region is not None
        self._model: CausalModel | None = None

    @property
    def model(self) -> CausalModel:
        if self._model is None:
            network = slices.copied(self.policy.network).requires_grad_(False)
            self._model = CausalModel(network, attention=self.policy.attention, autocast=self.policy.autocast)
        return self._model

    def models(self) -> Sequence[CausalModel]:
        return [self.model]

    def start(self, source: reference.BatchSource) -> None:
        self.identity = model_identity(self.model.network)

    def placed(self) -> AbstractContextManager[CausalModel]:
        return nullcontext(self.model)

    def update(self, step: int, source: reference.BatchSource) -> bool:
        if self.region is None or not self.region.due(step):
            return False
        policy = sharding.resharded(self.policy).network.parameters()
        interpolate_(list(self.model.network.parameters()), list(policy), self.region.alpha)
        self.identity = moved_identity(self.identity, step)
        return True

    def state(self) -> reference.State:
        tensors = dict(self.model.network.named_parameters()) if self.weights else {}
        return reference.State(tensors, {"identity": self.identity})

    def restore(self, state: reference.State) -> None:
        copied = dict(self.model.network.named_parameters())
        if state.tensors:  # a frozen one stays the copy of the policy as the run began
            sharding.fill(copied, state.tensors)
        self.identity = str(state.metadata["identity"])


@torch.no_grad()
def interpolate_(reference: Sequence[torch.Tensor], policy: Sequence[torch.Tensor], alpha: float) -> None:
    """theta_ref <- alpha theta + (1 - alpha) theta_ref, in place and in float32; alpha = 1 copies."""
    if alpha == 1:
        for old, new in zip(reference, policy, strict=True):
            sharding.local(old).copy_(sharding.local(new))
        return
    torch._foreach_lerp_(
        list(map(sharding.local, reference)), [sharding.local(tensor.detach()) for tensor in policy], alpha
    )


class DisabledAdapter(reference.Reference):
    """The base model. Right only for a policy that starts from it: a fresh adapter, whose B is zero."""

    def __init__(self, policy: CausalModel) -> None:
        self.policy = policy

    def start(self, source: reference.BatchSource) -> None:
        self.identity = base_identity(self.policy)

    @contextmanager
    def placed(self) -> Iterator[CausalModel]:
        with lora.adapter(self.policy.network, None):
            yield self.policy


class AdapterCopy(reference.Reference):
    """A copy of the policy's adapter beside it: frozen, or following it in the product B A."""

    def __init__(self, policy: CausalModel, region: choices.TrustRegion | None = None) -> None:
        self.policy = policy
        self.region = region
        self.weights = region is not None
        lora.add_reference(policy.network)

    def start(self, source: reference.BatchSource) -> None:
        factors = lora.factors(self.policy.network, lora.POLICY)
        base = (f"base {base_identity(self.policy)}", torch.zeros(0))
        self._take(factors)
        self.identity = identity_of([base, *factors.items()])

    @contextmanager
    def placed(self) -> Iterator[CausalModel]:
        with lora.adapter(self.policy.network, lora.REFERENCE):
            yield self.policy

    def update(self, step: int, source: reference.BatchSource) -> bool:
        if self.region is None or not self.region.due(step):
            return False
        policy, own = (lora.factors(self.policy.network, name) for name in (lora.POLICY, lora.REFERENCE))
        self._take(lora.mix_products(policy, own, self.region.alpha))
        self.identity = moved_identity(self.identity, step)
        return True

    def state(self) -> reference.State:
        tensors = lora.factors(self.policy.network, lora.REFERENCE) if self.weights else {}
        return reference.State(tensors, {"identity": self.identity})

    def restore(self, state: reference.State) -> None:
        if state.tensors:
            self._take(state.tensors)
        self.identity = str(state.metadata["identity"])

    def _take(self, values: Mapping[str, torch.Tensor]) -> None:
        lora.set_factors(self.policy.network, lora.REFERENCE, dict(values))


def base_identity(policy: CausalModel) -> str:
    named = policy.network.state_dict().items()
    return identity_of((name, tensor) for name, tensor in named if not any(part in name for part in ADAPTED))


@torch.no_grad()
def first_gap(
    policy: StreamModel, reference: reference.Reference, batch: stream.Batch[Any]
) -> tuple[float, float] | None:
    """Largest difference of policy and reference, and what is allowed before anything has moved, in nats a token."""
    batch = batch.to(policy.device)
    expected = reference.log_probs(batch)
    if expected is None:
        return None
    with policy.without_dropout():
        found = policy.outputs(batch.stream)
    assert isinstance(found, rows.LogProbs)
    allowed = 0.0 if reference.exact and policy.device.type == "cpu" else ROUNDING
    if policy.autocast is not None and not reference.exact:
        allowed = 0.1
    return (found.token_S - expected.token_S).abs().max().item(), allowed


def check_first_batch(policy: StreamModel, reference: reference.Reference, batch: stream.Batch[Any]) -> None:
    """Refuse log-ratios that are not exactly 0 before anything has moved: another model than the user thinks."""
    if (found := first_gap(policy, reference, batch)) is None:
        return
    gap, allowed = found
    if not gap <= allowed:  # NaN agrees with nothing
        stale = "" if reference.exact else ", and remove a stale cache"
        raise errors.NumericsError(
            f"before the first step the policy differs from its reference {reference.identity} by up to {gap:.3g} nats "
            "a token, though it should start from it; every margin would carry that error. The run was not "
            f"started. Check which model and adapter were given{stale}"
        )
    agrees = "exactly" if gap == 0 else f"to {gap:.1g} nats a token"
    words.logger.info(f"reference {reference.identity}: first batch agrees with the policy {agrees}")
