"""From the choice of a reference to a running one."""

from typing import Any

from trueup.errors import InputError
from trueup.models.causal import CausalModel
from trueup.models.lora import is_adapted
from trueup.paths import cache_folder
from trueup.references import choices
from trueup.references.copies import AdapterCopy, AdapterOff, ModelCopy
from trueup.references.reference import NullReference, Reference
from trueup.references.table import CachedReference, LookAhead


def build(
    choice: choices.ReferenceChoice[Any], policy: CausalModel, *, starts_from_adapter: bool, offline: bool
) -> Reference:
    """Make the reference that a method chose.

    Args:
        policy: the model to be trained, before its first step.
        starts_from_adapter: the policy continues an adapter instead of starting from its base model.
        offline: the batches to come are known, so that scalars can stand for a model.

    Raises:
        InputError: the choice does not fit the policy.
    """
    adapted = is_adapted(policy.network)
    match choice:
        case choices.NoReference():
            return NullReference()
        case choices.AdapterOff():
            if not adapted:
                raise InputError(
                    "reference.kind adapter-off needs an adapter to switch off, and this run trains the whole "
                    "model. Use --reference.kind frozen, or train an adapter with --lora.rank"
                )
            if starts_from_adapter:
                raise InputError(
                    "reference.kind adapter-off would measure the policy against the bare base model, which is not "
                    "where it starts: the model given is an adapter. Use --reference.kind frozen, which keeps a "
                    "copy of that adapter"
                )
            return AdapterOff(policy)
        case choices.Frozen():
            if not adapted:
                return ModelCopy(policy)
            return AdapterCopy(policy) if starts_from_adapter else AdapterOff(policy)
        case choices.Cached():
            if not offline:
                raise InputError(
                    "reference.kind cached needs feedback that is known before training, and this run gathers it "
                    "on the way. Use --reference.kind frozen"
                )
            return CachedReference(policy, cache_folder() / "references")
        case choices.TrustRegion():
            if adapted:
                return AdapterCopy(policy, choice)
            return LookAhead(policy, choice) if choice.alpha == 1 and offline else ModelCopy(policy, choice)
    raise TypeError(f"unknown reference choice {choice!r}")
