"""A server that speaks vLLM's own calls and answers with a real model, so that it shows whose weights have arrived.
It breaks, by status 500, over what vLLM would do something undefined with: weights that change while it generates, or
that it has not loaded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from trueup.models.tokenizer import quiet_library

NAME = "base"
MOST = 64  # tokens of prompt and response together


class FakeVllm:
    """Answers for a `FaultyServer`: `FaultyServer(FakeVllm(folder))`.

    Args:
        folder: the model it starts with.
        dev: whether it runs with VLLM_SERVER_DEV_MODE=1.
        adapters: whether it runs with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
        wire: tensors on their way, where it runs with --weight-transfer-config for a backend.
    """

    def __init__(
        self, folder: Path, *, dev: bool = True, adapters: bool = True, wire: list[torch.Tensor] | None = None
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.models: dict[str, Any] = {NAME: _load(folder)}
        self.folder = folder
        self.dev, self.takes_adapters = dev, adapters
        self.paused = False
        self.wire = wire
        self.updating = self.joined = False
        self.calls: list[str] = []  # what was asked beside completions, in order
        self.loaded: list[Path] = []
        self._lock = threading.Lock()

    def __call__(self, asked: ReceivedRequest) -> Reply:
        with self._lock:
            path = asked.path.partition("?")[0]
            handlers = {"/v1/models": self._cards, "/v1/completions": self._complete}
            if self.dev:
                handlers |= {
                    "/is_paused": self._is_paused, "/pause": self._pause, "/resume": self._resume,
                    "/collective_rpc": self._reload,
                }  # fmt: skip
            if self.dev and self.wire is not None:
                handlers |= {
                    "/get_world_size": lambda _: Reply(body={"world_size": 2}),
                    "/init_weight_transfer_engine": self._join, "/start_weight_update": self._start_update,
                    "/update_weights": self._update, "/finish_weight_update": self._finish_update,
                }  # fmt: skip
            if self.takes_adapters:
                handlers |= {
                    "/v1/load_lora_adapter": self._load_adapter,
                    "/v1/unload_lora_adapter": self._unload_adapter,
                }
            if path not in handlers:
                return Reply(404, {"detail": "Not Found"})
            if path not in ("/v1/models", "/v1/completions"):
                if asked.method == "GET" and path not in ("/is_paused", "/get_world_size"):
                    return Reply(405, {"detail": "Method Not Allowed"})
                self.calls.append(asked.path)
            return handlers[path](asked)

    def _cards(self, asked: ReceivedRequest) -> Reply:
        cards = [
            {"id": name, "owned_by": "vllm", "parent": None if name == NAME else NAME, "max_model_len": MOST}
            for name in self.models
        ]
        return Reply(body={"object": "list", "data": cards})

    def _is_paused(self, asked: ReceivedRequest) -> Reply:
        return Reply(body={"is_paused": self.paused})

    def _pause(self, asked: ReceivedRequest) -> Reply:
        assert asked.path == "/pause?mode=wait"
        self.paused = True
        return Reply(body={"status": "paused"})

    def _resume(self, asked: ReceivedRequest) -> Reply:
        self.paused = False
        return Reply(body={"status": "resumed"})

    def _reload(self, asked: ReceivedRequest) -> Reply:
        if not self.paused or asked.body["method"] != "reload_weights":
            return Reply(500, {"error": {"message": "not paused"}})
        folder = Path(asked.body["kwargs"]["weights_path"])
        try:
            self.models[NAME] = _load(folder)
        except (OSError, ValueError) as error:
            return Reply(500, {"error": {"message": str(error)}})
        self.loaded.append(folder)
        return Reply(body={"results": [None]})

    def _join(self, asked: ReceivedRequest) -> Reply:
        self.joined = asked.body["init_info"]["rank_offset"] == 1
        return Reply(body={"message": "Weight transfer initialized"})

    def _start_update(self, asked: ReceivedRequest) -> Reply:
        self.updating = self.paused and self.joined
        return Reply(body={"message": "started"}) if self.updating else Reply(500, {"error": "not paused"})

    def _update(self, asked: ReceivedRequest) -> Reply:
        told = asked.body["update_info"]
        assert self.updating and self.wire is not None
        for name, kind, shape in zip(told["names"], told["dtype_names"], told["shapes"], strict=True):
            sent = self.wire.pop(0)
            assert (str(sent.dtype), list(sent.shape)) == (f"torch.{kind}", shape), name
            self.models[NAME].get_parameter(name).data.copy_(sent)
        return Reply(body={"message": "updated"})

    def _finish_update(self, asked: ReceivedRequest) -> Reply:
        self.updating = False
        return Reply(body={"message": "finished"})

    def _load_adapter(self, asked: ReceivedRequest) -> Reply:
        name, folder = asked.body["lora_name"], Path(asked.body["lora_path"])
        if name in self.models:
            return Reply(400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}})
        with quiet_library():
            self.models[name] = PeftModel.from_pretrained(_load(self.folder), folder).eval()
        self.loaded.append(folder)
        return Reply(body=f"Success: LoRA adapter '{name}' added successfully.")

    def _unload_adapter(self, asked: ReceivedRequest) -> Reply:
        del self.models[asked.body["lora_name"]]
        return Reply(body="Success: removed")

    def _complete(self, asked: ReceivedRequest) -> Reply:
        body = asked.body
        if self.paused:
            return Reply(500, {"error": {"message": "generation is paused"}})
        if body["model"] not in self.models:
            return Reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        prompt = body["prompt"]
        if isinstance(prompt, str):
            prompt = self.tokenizer(prompt).input_ids
        if len(prompt) + body["max_tokens"] > MOST:
            return Reply(400, {"error": {"message": f"This model's maximum context length is {MOST} tokens."}})
        return Reply(body={"choices": [self._choice(self.models[body["model"]], list(prompt), body)]})

    @torch.no_grad()
    def _choice(self, network: Any, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(body["seed"])
        ids: list[int] = []
        log_probs: list[float] = []
        finish, reason = "length", None
        while len(ids) < body["max_tokens"]:
            scores = network(input_ids=torch.tensor([prompt + ids])).logits[0, -1].float()
            if body["temperature"] == 0:
                token = int(scores.argmax())
            else:
                drawn = torch.multinomial((scores / body["temperature"]).softmax(-1), 1, generator=generator)
                token = int(drawn)
            ids.append(token)
            log_probs.append(float(scores.log_softmax(-1)[token]))
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            stops = [stop for stop in body["stop"] or () if stop in text]
            if token in body.get("stop_token_ids", ()):
                finish, reason = "stop", token
                break
            if stops:
                finish, reason, text = "stop", stops[0], text[: text.index(stops[0])]
                break
        return {
            "index": 0, "text": text, "finish_reason": finish, "stop_reason": reason,
            "token_ids": ids if body.get("return_token_ids") else None,
            "logprobs": {"token_logprobs": log_probs} if body.get("logprobs") else None,
        }  # fmt: skip


def _load(folder: Path) -> Any:
    with quiet_library():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def serving(folder: Path, **settings: bool) -> tuple[FaultyServer, FakeVllm]:
    """A server, not started yet, and what answers for it."""
    fake = FakeVllm(folder, **settings)
    return FaultyServer(fake), fake
