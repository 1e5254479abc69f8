"""What servers want to be told beside what OpenAI's own API takes, so that no default of theirs decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.endpoints.client import Endpoint
from trueup.errors import InputError
from trueup.settings.sampler_settings import SamplerSettings

Extra = Callable[[SamplerSettings, Sequence[int], int], Mapping[str, Any]]
"""Settings, the tokens that end a response (none where they are not known), its longest length -> further fields."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a kind of server is asked."""

    name: str
    extra: Extra
    takes_ids: bool = False
    """Prompts may be token ids, and token ids of responses come back with their log-probabilities."""
    takes_top_k: bool = True
    one_at_a_time: bool = False
    """Its random numbers are shared by all requests under way."""


def _of_openai(settings: SamplerSettings, end_ids: Sequence[int], room: int) -> dict[str, Any]:
    return {}


def _of_vllm(settings: SamplerSettings, end_ids: Sequence[int], room: int) -> dict[str, Any]:
    """Fields of vLLM 0.10 and later; what is left out there comes from the model's generation_config.json."""
    drawn = settings.decode == "sample" and settings.top_k > 0
    ids = {"stop_token_ids": list(end_ids), "return_token_ids": True, "logprobs": 1} if end_ids else {}
    return {
        "top_k": settings.top_k if drawn else -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        **ids,
    }


def _of_transformers(settings: SamplerSettings, end_ids: Sequence[int], room: int) -> dict[str, Any]:
    """`transformers serve` draws only where the generation settings say so, and takes those as one text."""
    drawn = settings.decode == "sample"
    drawing = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k}
    ends = {"eos_token_id": list(end_ids), "pad_token_id": end_ids[0]} if end_ids else {}
    made = {"do_sample": drawn, "max_new_tokens": room, "repetition_penalty": 1.0, **ends}
    return {"generation_config": json.dumps({**made, **drawing} if drawn else made)}


OPENAI = Dialect("OpenAI-compatible", _of_openai, takes_top_k=False)
VLLM = Dialect("vLLM", _of_vllm, takes_ids=True)
TRANSFORMERS = Dialect("transformers serve", _of_transformers, one_at_a_time=True)


@dataclass(frozen=True, slots=True)
class Met:
    """What a server says of itself."""

    dialect: Dialect
    model: str
    """The name it knows the model by."""
    positions: int | None
    """Tokens of prompt and response together, where it says."""


def meet(endpoint: Endpoint, root: Endpoint, model: str | None) -> Met:
    """Ask a server what it is and which model it has.

    Args:
        root: the same server above `/v1`, where servers keep what is not OpenAI's.
        model: the name of the model; None is the only one it has.

    Raises:
        InputError: it has no model of that name, or several to choose from.
        AnnotatorError: it cannot be reached.
    """
    cards = _cards(endpoint.probe("/models"))
    named = {str(card["id"]): card for card in cards if not card.get("parent")}  # adapters have a parent
    if model is None and len(named) != 1:
        shown = (
            f"knows several models: {', '.join(list(named)[:5])}"
            if named
            else "does not say which model it has"
        )
        raise InputError(f"{endpoint.base_url} {shown}; give sampler.server_model")
    chosen = model if model is not None else next(iter(named))
    card = next((card for card in cards if card.get("id") == chosen), {})
    length = card.get("max_model_len")
    if any(card.get("owned_by") == "vllm" for card in cards):
        return Met(VLLM, chosen, length if isinstance(length, int) else None)
    paths = (root.probe("/openapi.json") or {}).get("paths") or {}
    if {"/v1/completions", "/load_model", "/reset"} <= set(paths):
        return Met(TRANSFORMERS, chosen, None)
    return Met(OPENAI, chosen, None)


def _cards(listed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    data = (listed or {}).get("data")
    return (
        [card for card in data if isinstance(card, dict) and "id" in card] if isinstance(data, list) else []
    )
