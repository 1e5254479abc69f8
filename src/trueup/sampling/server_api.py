"""What a server is asked and how: prompts as requests, and what kinds of servers want to be told.

Beside what OpenAI's own API takes, everything is said that decides how a response is drawn, so that no default of a
server's decides.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.batch.chat import render_prompt
from trueup.batch.chat_template import text_arguments
from trueup.batch.encode import Encoder
from trueup.endpoints.client import Endpoint
from trueup.errors import InputError
from trueup.feedback.records import Prompt
from trueup.feedback.turns import message_json
from trueup.sampling.sampler import another_seed, encode_prompt, longest_response
from trueup.settings.gathering_settings import SamplerSettings

COMPLETIONS, CHAT = "/completions", "/chat/completions"
Extra = Callable[[SamplerSettings, Sequence[int], int], Mapping[str, Any]]
"""Settings, the tokens that end a response (none where they are not known), its longest length -> further fields."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    """How a kind of server is asked."""

    name: str
    extra: Extra = lambda settings, end_ids, room: {}
    takes_ids: bool = False
    """Prompts may be token ids, and token ids of responses come back with their log-probabilities."""
    takes_top_k: bool = True
    one_at_a_time: bool = False
    """Its random numbers are shared by all requests under way."""


def _of_vllm(settings: SamplerSettings, end_ids: Sequence[int], _: int) -> dict[str, Any]:
    """Fields of vLLM 0.10 and later; what is left out there comes from the model's generation_config.json."""
    top_k = settings.top_k if settings.decode == "sample" else 0
    ids = {"stop_token_ids": list(end_ids), "return_token_ids": True, "logprobs": 1} if end_ids else {}
    return {
        "top_k": top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        **ids,
    }


def _of_transformers(settings: SamplerSettings, end_ids: Sequence[int], room: int) -> dict[str, Any]:
    """`transformers serve` draws only where the generation settings say so, and takes those as one text."""
    random = settings.decode == "sample"
    drawing = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k}
    ends = {"eos_token_id": list(end_ids), "pad_token_id": end_ids[0]} if end_ids else {}
    made = {"do_sample": random, "max_new_tokens": room, "repetition_penalty": 1.0, **ends}
    return {"generation_config": json.dumps({**made, **drawing} if random else made)}


OPENAI = ServerKind("OpenAI-compatible", takes_top_k=False)
VLLM = ServerKind("vLLM", _of_vllm, takes_ids=True)
TRANSFORMERS = ServerKind("transformers serve", _of_transformers, one_at_a_time=True)


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    kind: ServerKind
    model: str
    """The name it knows the model by."""
    positions: int | None
    """Tokens of prompt and response together, where it says."""


def identify(endpoint: Endpoint, root: Endpoint, model: str | None) -> Server:
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
        return Server(VLLM, chosen, length if isinstance(length, int) else None)
    paths = (root.probe("/openapi.json") or {}).get("paths") or {}
    if {"/v1/completions", "/load_model", "/reset"} <= set(paths):
        return Server(TRANSFORMERS, chosen, None)
    return Server(OPENAI, chosen, None)


def _cards(listed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    data = (listed or {}).get("data")
    return (
        [card for card in data if isinstance(card, dict) and "id" in card] if isinstance(data, list) else []
    )


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One prompt as it is sent, but for its seed."""

    path: str
    fields: Mapping[str, Any]
    """`prompt`, or `messages` with `tools`."""
    spelled: str
    """All that decides on the response beside the seed, as a text."""
    room: int
    """Longest response, in tokens."""
    exact: bool = True
    """Whether the server reads the tokens that the policy is asked with."""


def request_for(
    prompt: Prompt, encoder: Encoder | None, settings: SamplerSettings, server: Server, positions: int | None
) -> SamplingRequest | None:
    """A prompt as a server is asked it; None where it leaves no room for a response.

    With an encoder it is completed as the policy would complete it; without one, a conversation is left to the server.

    Args:
        positions: tokens of prompt and response together.

    Raises:
        InputError: the prompt cannot be expressed by the tokenizer or its chat template.
    """
    if encoder is None:
        fields = _unencoded(prompt)
        path = COMPLETIONS if "prompt" in fields else CHAT
        spelled = json.dumps(fields, sort_keys=True, default=str)
        return SamplingRequest(path, fields, spelled, longest_response(settings.max_new_tokens, positions))
    encoded = encode_prompt(prompt, encoder, positions=positions, max_new_tokens=settings.max_new_tokens)
    if encoded is None:
        return None
    ids, room = list(encoded.ids), encoded.room
    if server.kind.takes_ids:
        return SamplingRequest(COMPLETIONS, {"prompt": ids}, json.dumps(ids), room)
    text, exact = text_of(ids, prompt, encoder)
    return SamplingRequest(COMPLETIONS, {"prompt": text}, json.dumps(ids), room, exact)


def _unencoded(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt.content, str):
        return {"prompt": prompt.content}
    tools = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
    return {"messages": text_arguments([message_json(message) for message in prompt.content]), **tools}


def text_of(ids: Sequence[int], prompt: Prompt, encoder: Encoder) -> tuple[str, bool]:
    """A text that a server's tokenizer reads as these ids, and whether it does: it may add some of its own."""
    tokenizer = encoder.tokenizer
    written = _rendered(prompt, encoder)
    full, inner = (str(tokenizer.decode(part, skip_special_tokens=False)) for part in (ids, ids[1:]))
    texts = [written, written.removeprefix(tokenizer.bos_token or ""), full, inner]
    for text in texts:
        if list(tokenizer(text).input_ids) == list(ids):
            return text, True
    begun = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return (inner if begun else full), False


def _rendered(prompt: Prompt, encoder: Encoder) -> str:
    """The prompt as text, before anything is cut off."""
    if encoder.condition is not None:
        prompt = encoder.condition.applied(prompt)
    if isinstance(prompt.content, str):
        return prompt.content
    return render_prompt(encoder.template, prompt.content, prompt.tools).text


def body(
    request: SamplingRequest,
    copy: int,
    settings: SamplerSettings,
    server: Server,
    end_ids: Sequence[int],
    *,
    seed: int,
) -> dict[str, Any]:
    """A whole request: everything that decides how a response is drawn is said, as servers have defaults of their own.

    Args:
        copy: how many responses to the same prompt come before this one.
        end_ids: tokens that end a response; none where they are not known.
    """
    random = settings.decode == "sample"
    return {
        "model": server.model,
        **request.fields,
        "max_tokens": request.room,
        "temperature": settings.temperature if random else 0.0,
        "top_p": settings.top_p if random else 1.0,
        "n": 1,
        "stop": list(settings.stop) or None,
        "seed": request_seed(seed, copy, request.spelled),
        **server.kind.extra(settings, end_ids, request.room),
    }


def request_seed(seed: int, copy: int, spelled: str) -> int:
    """31 bits, which every server takes, that the prompt and the copy decide whatever stands beside them."""
    number = int.from_bytes(hashlib.sha256(f"{copy}:{spelled}".encode()).digest()[:8], "little")
    return another_seed(seed, number) % 2**31
