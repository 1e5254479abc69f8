"""Which reference a method measures the policy against. Plain values: nothing here loads a model.
`trueup.references.build` turns a choice into a running reference."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from trueup.batch.rows import LogProbs  # noqa: F401  # named in the type parameters below

Ref = TypeVar("Ref", covariant=True)
"""What a reference hands to the objective: `LogProbs`, or None."""

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ReferenceChoice(Generic[Ref]):
    """Base of the choices; its parameter lets a type checker refuse an objective without its reference."""

    kind: str
    measures: ClassVar[bool] = True
    """Whether the policy is measured against anything."""
    needs_all_data: ClassVar[bool] = False
    """Whether it has to know all of the data before training."""
    needs_adapter: ClassVar[bool] = False
    """Whether there has to be an adapter that can be switched off."""

    @property
    def period(self) -> int | None:
        """Steps between two moves; None where it never moves."""
        return None


@dataclass(frozen=True, config=STRICT)
class NoReference(ReferenceChoice[None]):
    """The objective needs none."""

    measures: ClassVar[bool] = False
    kind: Literal["none"] = "none"


@dataclass(frozen=True, config=STRICT)
class Frozen(ReferenceChoice["LogProbs"]):
    """The policy as it was when training began; it never moves.
    Full fine-tuning keeps a copy of the model. A fresh LoRA adapter needs none (the base model is the reference); a
    policy that starts from an adapter keeps a frozen copy of that adapter."""

    kind: Literal["frozen"] = "frozen"


@dataclass(frozen=True, config=STRICT)
class AdapterOff(ReferenceChoice["LogProbs"]):
    """The bare base model under a fresh LoRA adapter. Refused where that is not where the policy starts."""

    needs_adapter: ClassVar[bool] = True
    kind: Literal["adapter-off"] = "adapter-off"


@dataclass(frozen=True, config=STRICT)
class Cached(ReferenceChoice["LogProbs"]):
    """Frozen, with its log-probabilities computed once and kept on disk: no second model in memory.
    Entries are keyed by content (weights, tokens, precision, code path), so that a stale one is never read."""

    needs_all_data: ClassVar[bool] = True
    kind: Literal["cached"] = "cached"


@dataclass(frozen=True, config=STRICT)
class TrustRegion(ReferenceChoice["LogProbs"]):
    """A reference that follows the policy. Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656.
    Every `every` optimizer steps: reference <- alpha policy + (1 - alpha) reference. alpha = 1 is the hard update of
    the paper (tau = every), alpha < 1 the soft one."""

    kind: Literal["trust-region"] = "trust-region"
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Fraction of the way the reference moves towards the policy."""
    every: Annotated[int, Field(ge=1)] = 512
    """Steps between two moves."""

    @property
    def period(self) -> int:
        return self.every

    def due(self, step: int) -> bool:
        return step % self.every == 0


AnyReference = Annotated[
    Frozen | AdapterOff | Cached | TrustRegion,
    Field(discriminator="kind", description="What the policy is measured against."),
]
