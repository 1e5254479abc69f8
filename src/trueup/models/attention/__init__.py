"""Ways to put a stream before a model. To add one: a file in this folder with a `BACKEND` of the file's own name.

Naming the backends imports no torch, so that an unknown name is refused before anything is loaded.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trueup.batch.stream import Stream

P = TypeVar("P")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a model's body is called with for one stream; made once, for policy and reference alike."""

    keywords: Mapping[str, Any]
    """Of the body's forward pass, with the backend's plan where its attention follows one."""
    source_S: Tensor
    """[S] int64, place in the body's flattened outputs from which each scored token is predicted."""


def run_once(body: Any, given: Inputs) -> Tensor:
    hidden: Tensor = body(**given.keywords, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)


@dataclass(frozen=True)
class Backend:
    """One way to put a stream before a model."""

    name: str
    implementation: str | None
    """Under which its attention is registered with transformers; None uses the library's own."""
    inputs: Callable[[Stream], Inputs]
    """Plans a stream; the plan lives on the stream's device."""
    title: str
    instead: str = ""
    """What is said where it is taken because another does not fit the model."""
    order: int | None = None
    """When it is tried if the user asks for none, the lowest first; None is never tried unasked."""
    supports: Callable[[torch.device], bool] = lambda device: True
    run: Callable[[Any, Inputs], Tensor] = run_once
    """Final hidden states, [places, H], of a body."""
    half: bool = False
    """Whether it is checked in the precision of the run on a GPU, as a kernel that may have no other."""
    foreign: bool = False
    """Whether a kernel or the library's cache computes its gradients: they are checked as well, and whatever is raised
    when it is tried says that it does not fit."""


class UnsupportedAttention(Exception):
    """The model asks for attention that a backend does not compute; `str()` says which."""


def names() -> tuple[str, ...]:
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__)))


def backend(name: str) -> Backend:
    found: Backend = importlib.import_module(f"{__name__}.{name}").BACKEND
    return found


def automatic(device: torch.device) -> list[Backend]:
    tried = [one for one in map(backend, names()) if one.order is not None and one.supports(device)]
    return sorted(tried, key=lambda one: one.order or 0)


def as_one_row(stream: Stream, plan: object) -> Inputs:
    """The stream as one row of tokens, with the plan that attention follows."""
    keywords = {
        "input_ids": stream.token_T[None],
        "position_ids": stream.position_T[None],
        "attention_mask": None,
        "trueup_plan": plan,
    }
    return Inputs(keywords, stream.source_S)


def checked(plan: P | None, kind: type[P], mask: Tensor | None, dropout: float, extra: Mapping[str, Any]) -> P:
    """The plan that came down to an attention function; UnsupportedAttention if anything would be ignored."""
    if not isinstance(plan, kind):
        raise UnsupportedAttention("the model does not hand its keyword arguments to its attention")
    if mask is not None:
        raise UnsupportedAttention("the model brings an attention mask of its own")
    if dropout:
        raise UnsupportedAttention(f"attention dropout of {dropout} is on")
    for name in ("s_aux", "position_bias", "head_mask"):
        if extra.get(name) is not None:
            raise UnsupportedAttention(f"the model's attention takes {name}")
    if extra.get("is_causal") is False:
        raise UnsupportedAttention("the model's attention is not causal")
    return plan
