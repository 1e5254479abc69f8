"""A method is a choice on each axis; nothing more.
The type parameters tie the axes together, so that a type checker refuses a pairwise objective on a point-wise view, or
an objective that needs a reference without one. What a type checker cannot see is refused when the method is
configured, before torch is imported."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, ParamSpec, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypeVar

from trueup import python_objects
from trueup.feedback.records import Example, View
from trueup.feedback.transforms import Transform
from trueup.references.choices import NoReference, ReferenceChoice
from trueup.settings import run_settings, schema, validation

if TYPE_CHECKING:
    from trueup.batch.rows import Part
    from trueup.objectives.loss import Loss, StepObjective
    from trueup.objectives.rollout import Rollout

R = TypeVar("R", default=Any)
R_contra = TypeVar("R_contra", contravariant=True)
I_co = TypeVar("I_co", covariant=True)
Index = TypeVar("Index", default=Any)
Ref = TypeVar("Ref", default=Any)
P = ParamSpec("P")

Objective: TypeAlias = "Callable[[Any, Ref, Index], Loss] | StepObjective[Ref, Index]"
"""Pure function of what is read of the policy (`Method.output`, `Method.parts`), the reference's log-probabilities, and
the index; or one that is also given something measured over the whole step."""
ExamplesCheck = Callable[[Sequence[Example]], None]
"""What is asked of all of the training examples after the transforms; it may warn or raise InputError."""


class Collate(Protocol[R_contra, I_co]):
    """Builds the index of a batch from the relations of its groups; see `trueup.batch.rows`."""

    def __call__(self, relations: Sequence[R_contra], first_rows: Sequence[int]) -> I_co: ...


@dataclass(frozen=True)
class Method(Generic[R, Index, Ref]):
    """What the training loop needs to know of a method; plain `Method` is one of any kind.
    Example: `Method(views.pairs, Pairs.collate, partial(dpo, beta=0.1), Frozen())`."""

    view: View[R]  # example -> group, or the reason why nothing in it can be used
    collate: Collate[R, Index]  # relations of the groups of a batch -> index
    objective: Objective[Ref, Index]
    reference: ReferenceChoice[Ref]  # what the policy is measured against
    transforms: tuple[Transform, ...] = ()  # what is done to the examples before the view sees them, in this order
    checks: tuple[ExamplesCheck, ...] = ()
    stratum: Callable[[R], Hashable] | None = None
    """A class of groups that every batch holds its share of, by a group's relation; None mixes them freely."""
    output: Literal["log-probs", "scores"] = "log-probs"
    """What the objective reads of the policy: `LogProbs`, or the `Scores` of a reward model."""
    parts: tuple[Part, ...] = ()
    """What the objective reads beside log-probabilities: values, by a head of their own, entropies or collisions."""
    reference_in_loss: bool = True
    """Whether the objective is given the reference's log-probabilities; False where they went into the rewards."""
    temperature: float = 1.0  # logits are divided by it before log-probabilities are taken, the reference's too
    rollout: Rollout | None = None
    """How rows are made of a round's responses before they are learned from; None for plain feedback."""
    mixture: float = 0.0
    """Weight of the reference in the geometric mixture with the policy that writes a second response to each prompt; 0
    where the policy alone writes."""
    name: str = ""  # the registered name; filled in by `method`
    settings: Mapping[str, object] = field(default_factory=dict)
    """The settings it was made with, as plain values, for run.yaml; filled in by `method`."""
    figures: tuple[str, ...] = ()  # see `MethodInfo`; filled in by `method`


PAIR_FIGURES = ("loss", "rewards/accuracies", "rewards/margins", "kl")


def nothing(settings: object) -> str:
    """Of a method that looks at one example at a time."""
    return ""


@dataclass(kw_only=True, eq=False)
class MethodInfo:
    """A method as `trueup methods` shows it and as the command line offers it; as a decorator it registers one."""

    name: str
    title: str
    formula: str
    paper: str = ""  # authors, year, link; empty where there is none
    feedback: str  # the feedback it needs, in words
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Defaults of run settings (`trueup.settings.run_settings`) that differ for this method, from its paper."""
    trl_loss: str = ""
    """TRL's `loss_type` for the same objective, several with spaces between; empty where there is none."""
    build: Callable[..., Method] = field(init=False)
    """The decorated function: settings by keyword, which are validated -> Method."""
    configure: Callable[[Any], Method] = field(init=False)  # settings that are typed already -> Method
    settings: type[BaseModel] = field(init=False)  # the typed settings, derived from the function's signature
    aliases: tuple[str, ...] = ()  # other names it is known by, which the command line takes as well
    sources: tuple[str, ...] = ("offline", "online", "replay")  # where its examples may come from (`source` of a run)
    needs_scores: bool = False  # whether comparisons alone are of no use to it
    least_responses: int = 1  # how many responses to a prompt it needs at least
    opponent: bool = False
    """Whether its pairs are of a response of the policy and one the reference has a part in (`Method.mixture`)."""
    evaluates: bool = True
    """Whether held-out feedback says how well it does; not where it learns from the rewards of its own responses."""
    measures: Callable[[Any], str] = nothing
    """Its settings -> what it measures over all examples before training, and what to give so that it need not, as in
    `the mean of all rewards; give reward_mean`; empty where it measures nothing."""
    figures: tuple[str, ...] = PAIR_FIGURES
    """The metrics that tell most of how a run goes: beside the bar, and what a best checkpoint may be chosen by."""

    def choices(self, path: str) -> tuple[str, ...]:
        """What one of its settings can be, such as `reference.kind`; empty where it has no such setting."""
        return next((one.choices for one in schema.settings_in(self.settings) if one.path == path), ())

    def __call__(self, build: Callable[P, Method]) -> Callable[P, Method]:
        """Register a function that makes the method, and validate its settings whenever it is called: InputError."""

        def again(info: MethodInfo) -> bool:  # a notebook's cell is run once more
            return (info.build.__module__, info.name) == (build.__module__, self.name)

        for taken in (self.name, *self.aliases):
            if any(taken in (info.name, *info.aliases) and not again(info) for info in METHODS.values()):
                raise ValueError(f"a method named {taken} is registered already; choose another name")
        self.settings = settings_of(build, self.name)
        if shared := set(self.settings.model_fields) & set(run_settings.RunSettings.model_fields):
            raise ValueError(f"{', '.join(sorted(shared))} of method {self.name} is a setting of every run; rename it")

        def configure(checked: BaseModel, *args: Any) -> Method:
            typed: dict[str, Any] = {key: getattr(checked, key) for key in self.settings.model_fields}
            made = build(*args, **typed)  # positional arguments fail here: every setting is keyword-only
            if self.evaluates and made.rollout is not None:
                raise ValueError(f"method {self.name} learns from its own responses; register it with evaluates=False")
            values = checked.model_dump(mode="json")
            return replace(made, name=self.name, settings=values, figures=self.figures)

        @functools.wraps(build)
        def validated(*args: P.args, **kwargs: P.kwargs) -> Method:
            return configure(validation.validate(self.settings, kwargs, where=f"method {self.name}"), *args)

        self.build, self.configure = validated, configure
        METHODS[self.name] = self
        return validated


method = MethodInfo  # registers the function that it decorates


@functools.cache
def load_packages() -> None:
    """Register the methods of installed packages: the entry points of the group `trueup.methods`.
    Not when `trueup.methods` is imported, which is what their modules begin with."""
    for entry in python_objects.entries(python_objects.METHODS).values():
        python_objects.loaded(entry)


def package_of(info: MethodInfo) -> str:
    """The package that a method is of, with its version; its module where that is no package's; empty of our own."""
    module = info.build.__module__
    if module.partition(".")[0] == "trueup":
        return ""
    found = [one for one in python_objects.entries(python_objects.METHODS).values() if one.module == module]
    return python_objects.package_of(found[0]) if found else module


def code_of(info: MethodInfo) -> dict[str, str]:
    """Hash of the code of a method that is none of trueup's own, under a name for messages."""
    return {f"the code of {info.name}": python_objects.identity_of(info.build)[:16]} if package_of(info) else {}


def reference_of(settings: BaseModel) -> ReferenceChoice[Any]:
    chosen: ReferenceChoice[Any] = getattr(settings, "reference", NoReference())
    return chosen


METHODS: dict[str, MethodInfo] = {}
"""Every method by its name on the command line; filled by importing `trueup.methods`."""


def descriptions(build: Callable[..., Any]) -> dict[str, str]:
    """Parameter -> what the `Args:` of a function's docstring say of it, in one line."""
    arguments = inspect.cleandoc(build.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", arguments, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def settings_of(build: Callable[..., Any], name: str) -> type[BaseModel]:
    """Derive a settings model (unknown keys forbidden) from a function's keyword-only parameters and its docstring."""
    # The return type is left out: it names types that are imported only for type checking.
    annotations = {key: hint for key, hint in build.__annotations__.items() if key != "return"}
    holder = type("holder", (), {"__annotations__": annotations, "__module__": build.__module__})
    hints = typing.get_type_hints(holder, include_extras=True)
    for documented, text in descriptions(build).items():
        hints[documented] = Annotated[hints[documented], Field(description=text)]
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(build).parameters.values()
    }
    config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    return create_model(f"{name} settings", __config__=config, __module__=build.__module__, **fields)
