"""What a server is asked and how: prompts as requests, and what kinds of servers want to be told.
Beside what OpenAI's own API takes, everything is said that decides how a response is drawn, so that no default of a
server's decides."""

import hashlib
import json
import shutil
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup import errors, files, words
from trueup.batch import chat, chat_template, encode
from trueup.endpoints.addresses import Addresses
from trueup.endpoints.client import Endpoint, Refused
from trueup.feedback import records, turns
from trueup.models import lora, tokenizer
from trueup.parallel import processes, sharding
from trueup.sampling.sampler import another_seed, encode_prompt, longest_response
from trueup.settings.gathering_settings import SamplerSettings

COMPLETIONS, CHAT = "/completions", "/chat/completions"
Extra = Callable[[SamplerSettings, Sequence[int], int], Mapping[str, Any]]
"""Settings, the tokens that end a response (none where they are not known), its longest length -> further fields."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    name: str
    extra: Extra = lambda settings, end_ids, room: {}
    takes_ids: bool = False
    """Prompts may be token ids, and token ids of responses come back with their log-probabilities."""
    takes_top_k: bool = True
    one_at_a_time: bool = False  # its random numbers are shared by all requests under way


def _of_vllm(settings: SamplerSettings, end_ids: Sequence[int], _: int) -> dict[str, Any]:
    """Fields of vLLM 0.10 and later; what is left out there comes from the model's generation_config.json."""
    top_k = settings.top_k if settings.decode == "sample" else 0
    ids = {"stop_token_ids": list(end_ids), "return_token_ids": True, "logprobs": 1} if end_ids else {}
    penalties = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    return {"top_k": top_k or -1, "min_p": 0.0, **penalties, **ids}


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
    kind: ServerKind
    model: str
    positions: int | None  # tokens of prompt and response together, where it says


def identify(endpoint: Endpoint, root: Endpoint, model: str | None) -> Server:
    """Ask a server what it is and which model it has; `root` is the server above `/v1`, `model` None its only one."""
    data = (endpoint.probe("/models") or {}).get("data")
    listed = data if isinstance(data, list) else []
    cards = [card for card in listed if isinstance(card, dict) and "id" in card]
    named = {str(card["id"]): card for card in cards if not card.get("parent")}  # adapters have a parent
    if model is None and len(named) != 1:
        several = f"knows several models: {', '.join(list(named)[:5])}"
        what = several if named else "does not say which model it has"
        raise errors.InputError(f"{endpoint.base_url} {what}; give sampler.server_model")
    chosen = model if model is not None else next(iter(named))
    card = next((card for card in cards if card.get("id") == chosen), {})
    length = card.get("max_model_len")
    if any(card.get("owned_by") == "vllm" for card in cards):
        return Server(VLLM, chosen, length if isinstance(length, int) else None)
    paths = (root.probe("/openapi.json") or {}).get("paths") or {}
    if {"/v1/completions", "/load_model", "/reset"} <= set(paths):
        return Server(TRANSFORMERS, chosen, None)
    return Server(OPENAI, chosen, None)


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """One prompt as it is sent, but for its seed."""

    path: str
    fields: Mapping[str, Any]
    spelled: str  # all that decides on the response beside the seed, as a text
    room: int
    exact: bool = True  # whether the server reads the tokens that the policy is asked with


def request_for(
    prompt: records.Prompt, encoder: encode.Encoder | None, settings: SamplerSettings, server: Server,
    positions: int | None,
) -> SamplingRequest | None:  # fmt: skip
    """A prompt as a server is asked it; None where it leaves no room for a response.
    With an encoder it is completed as the policy would; without one, a conversation is left to the server."""
    if encoder is None:
        path, fields = COMPLETIONS, dict[str, Any](prompt=prompt.content)
        if not isinstance(prompt.content, str):
            messages = chat_template.text_arguments([turns.message_json(one) for one in prompt.content])
            tools = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
            path, fields = CHAT, {**tools, "messages": messages}
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


def text_of(ids: Sequence[int], prompt: records.Prompt, encoder: encode.Encoder) -> tuple[str, bool]:
    """A text that a server's tokenizer reads as these ids, and whether it does: it may add some of its own."""
    tokenizer = encoder.tokenizer
    if encoder.condition is not None:
        prompt = encoder.condition.applied(prompt)
    given, tools = prompt.content, prompt.tools
    written = given if isinstance(given, str) else chat.render_prompt(encoder.template, given, tools).text
    full, inner = (str(tokenizer.decode(part, skip_special_tokens=False)) for part in (ids, ids[1:]))
    texts = [written, written.removeprefix(tokenizer.bos_token or ""), full, inner]
    for text in texts:
        if list(tokenizer(text).input_ids) == list(ids):
            return text, True
    begun = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return (inner if begun else full), False


def body(
    request: SamplingRequest, copy: int, settings: SamplerSettings, server: Server, end_ids: Sequence[int], *,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """A whole request: all that decides how a response is drawn is said, as servers have defaults of their own."""
    random = settings.decode == "sample"
    number = int.from_bytes(hashlib.sha256(f"{copy}:{request.spelled}".encode()).digest()[:8], "little")
    return {
        "model": server.model, **request.fields, "max_tokens": request.room, "n": 1,
        "temperature": settings.temperature if random else 0.0, "top_p": settings.top_p if random else 1.0,
        "stop": list(settings.stop) or None,
        # 31 bits, which every server takes, that the prompt and the copy decide whatever stands beside them
        "seed": another_seed(seed, number) % 2**31, **server.kind.extra(settings, end_ids, request.room),
    }  # fmt: skip


PAUSED, PAUSE, RESUME, RPC = "/is_paused", "/pause?mode=wait", "/resume", "/collective_rpc"
LOAD, UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"
STARTED_FOR_WEIGHTS = "with VLLM_SERVER_DEV_MODE=1"
WORKERS, UPDATE = "/get_world_size", "/update_weights"
STARTED_TO_TRANSFER = """ and --weight-transfer-config '{"backend": "nccl"}'"""
STARTED_FOR_ADAPTERS = "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


class ServedPolicy:
    """Puts the policy's weights into one or several servers, by way of a folder that goes when this does.
    An address that does not take the weights is left out. InputError: the server takes none of this kind."""

    def __init__(
        self, servers: Sequence[tuple[Endpoint, Endpoint]], name: str, addresses: Addresses, *, adapted: bool,
        transfers: bool, vllm: bool,
    ) -> None:  # fmt: skip
        self._servers, self._name, self._addresses = list(servers), name, addresses
        self._adapted, self.transfers = adapted, transfers
        if not vllm:
            raise errors.InputError(
                f"{servers[0][0].base_url} is no vLLM server, so it cannot be given new weights while training; leave "
                "sampler.engine out, or start a vLLM server"
            )
        start = STARTED_FOR_ADAPTERS if adapted else STARTED_FOR_WEIGHTS + STARTED_TO_TRANSFER * transfers
        for endpoint, root in servers:
            takes = endpoint.has(LOAD) if adapted else root.has(PAUSED)
            if not takes or (transfers and not root.has(UPDATE)):
                raise errors.InputError(
                    f"{endpoint.base_url} does not take new weights while training: start vLLM {start} in its "
                    "environment"
                )
        self._adapter: str | None = None
        self.folder = files.cache_folder() / "served" / uuid.uuid4().hex[:12]
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def paused(self) -> dict[str, int]:
        """Have the servers wait for weights; by address how many workers of each take them."""
        found = {}
        for _, root in self._servers:
            _order(root, PAUSE, {})
            found[root.base_url] = int((root.probe(WORKERS) or {}).get("world_size", 1))
        return found

    def put(self, target: Path | None, version: int) -> str:
        """Make the servers write with the model in a folder, or the one sent; the name to ask them by from here on."""
        if target is None:
            for _, root in self._servers:
                _order(root, RESUME, {})
            return self._name
        name = f"trueup-{uuid.uuid4().hex[:8]}-{version}" if self._adapted else self._name
        self._servers = [one for one in self._servers if self._addresses.remains(one[0].base_url)]
        for server in list(self._servers):
            try:
                if self._adapted:  # under a name of its own, so that no cache of the server mixes it up
                    _order(server[0], LOAD, {"lora_name": name, "lora_path": str(target)})
                    if self._adapter is not None:
                        _order(server[0], UNLOAD, {"lora_name": self._adapter})
                else:
                    _reload(server[1], target)
            except errors.AnnotatorError as error:
                if not self._addresses.lose(server[0].base_url, error):
                    raise
                self._servers.remove(server)
        self._adapter = name if self._adapted else None
        for other in self.folder.iterdir():
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
        return name


def write(network: Any, target: Path) -> None:
    """Write a model in its library's format, or its adapter alone, by the first of all processes that call this."""
    state: Any = nullcontext()
    if not lora.is_adapted(network):
        state = sharding.full_state(network, target, next(network.parameters()).dtype)
    try:
        if processes.owns():
            target.parent.mkdir(parents=True, exist_ok=True)
        with state as weights:
            if processes.owns():
                more = {"selected_adapters": [lora.POLICY]} if weights is None else {"state_dict": weights}
                with files.replaced_folder(target) as part, tokenizer.quiet_library():
                    network.save_pretrained(str(part), **more)
    except Exception as error:  # OSError, and SafetensorError for the same full disk
        raise errors.InputError(
            f"{target}: the weights for the server could not be written: {words.reason(error)}. Make room, or set "
            "TRUEUP_CACHE to a folder that the server can read, too"
        ) from error


def _reload(root: Endpoint, target: Path) -> None:
    """Every weight, in place of those before."""
    _order(root, PAUSE, {})
    try:
        _order(root, RPC, {"method": "reload_weights", "kwargs": {"weights_path": str(target)}})
    except errors.AnnotatorError as error:
        raise errors.AnnotatorError(
            f"{error}. The server is left paused, as its weights may be half replaced: can it read {target}?"
        ) from error
    _order(root, RESUME, {})


def _order(server: Endpoint, path: str, body: dict[str, Any]) -> None:
    try:
        server.order(path, body)
    except Refused as error:
        if path == LOAD and "already" in error.reason:  # its answer was lost the first time
            return
        raise errors.AnnotatorError(
            f"{server.base_url}{path}: the server did not take the policy's weights: {error.reason}"
        ) from error
