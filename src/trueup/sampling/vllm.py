"""The policy's weights in a vLLM server: over plain HTTP, by way of a folder that both can read.

Every weight: the model is written in Hugging Face format, generation is paused, each worker loads the folder
(`reload_weights`), generation goes on. vLLM offers these calls where it runs with VLLM_SERVER_DEV_MODE=1.

An adapter: it is written in PEFT's format and loaded under a new name (`/v1/load_lora_adapter`), which is what is asked
from then on; the one before is unloaded. vLLM offers this with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
"""

import shutil
import uuid
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trueup.endpoints.addresses import Addresses
from trueup.endpoints.client import Endpoint, Refused
from trueup.errors import AnnotatorError, InputError
from trueup.files import cache_folder, replaced_folder
from trueup.models import lora, tokenizer
from trueup.models.causal import CausalModel
from trueup.words import reason

PAUSED, PAUSE, RESUME, RPC = "/is_paused", "/pause?mode=wait", "/resume", "/collective_rpc"
LOAD, UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"
STARTED_FOR_WEIGHTS = "with VLLM_SERVER_DEV_MODE=1"
STARTED_FOR_ADAPTERS = "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


class ServedPolicy:
    """Puts the policy's weights into one or several servers, by way of a folder that goes when this does.

    Args:
        servers: each as it is asked, and as it is above `/v1`.
        model: the policy; what is put there later is of its kind.
        name: the model's name at the servers.
        addresses: those that are asked for responses; a server that does not take the weights is left out of them.
        vllm: whether it is a vLLM server.

    Raises:
        InputError: the server takes no weights of this kind.
    """

    def __init__(
        self,
        servers: Sequence[tuple[Endpoint, Endpoint]],
        model: CausalModel,
        name: str,
        addresses: Addresses,
        *,
        vllm: bool,
    ) -> None:
        self._servers, self._name, self._addresses = list(servers), name, addresses
        self._adapted = lora.is_adapted(model.network)
        if not vllm:
            raise InputError(
                f"{servers[0][0].base_url} is no vLLM server, so it cannot be given new weights while training; leave "
                "sampler.engine out, or start a vLLM server"
            )
        for endpoint, root in servers:
            if not (endpoint.has(LOAD) if self._adapted else root.has(PAUSED)):
                start = STARTED_FOR_ADAPTERS if self._adapted else STARTED_FOR_WEIGHTS
                raise InputError(
                    f"{endpoint.base_url} does not take new weights while training: start vLLM {start} in its "
                    "environment"
                )
        self._adapter: str | None = None
        self._folder = cache_folder() / "served" / uuid.uuid4().hex[:12]
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def put(self, model: CausalModel, version: int) -> str:
        """Make the servers write with the model as it is now; the name to ask them by from here on.

        Raises:
            InputError: the folder cannot be written.
            AnnotatorError: no server took the weights.
        """
        target = self._written(model, version)
        name = f"trueup-{uuid.uuid4().hex[:8]}-{version}" if self._adapted else self._name
        self._servers = [one for one in self._servers if self._addresses.remains(one[0].base_url)]
        for server in list(self._servers):
            try:
                if self._adapted:
                    self._load_adapter(server[0], target, name)
                else:
                    _reload(server[1], target)
            except AnnotatorError as error:
                if not self._addresses.lose(server[0].base_url, error):
                    raise
                self._servers.remove(server)
        self._adapter = name if self._adapted else None
        for other in self._folder.iterdir():
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
        return name

    def _load_adapter(self, endpoint: Endpoint, target: Path, name: str) -> None:
        """One after the other, each under a name of its own, so that no cache of the server mixes them up."""
        _order(endpoint, LOAD, {"lora_name": name, "lora_path": str(target)})
        if self._adapter is not None:
            _order(endpoint, UNLOAD, {"lora_name": self._adapter})

    def _written(self, model: CausalModel, version: int) -> Path:
        """The model in its library's format."""
        target = self._folder / f"step-{version:08d}"
        network: Any = model.network
        only = {"selected_adapters": [lora.POLICY]} if self._adapted else {}
        try:
            with replaced_folder(target) as part, tokenizer.quiet_library():
                network.save_pretrained(str(part), **only)
        except Exception as error:  # OSError, and SafetensorError for the same full disk
            why = reason(error)
            raise InputError(
                f"{target}: the weights for the server could not be written: {why}. Make room, or set TRUEUP_CACHE "
                "to a folder that the server can read, too"
            ) from error
        return target


def _reload(root: Endpoint, target: Path) -> None:
    """Every weight, in place of those before."""
    _order(root, PAUSE, {})
    try:
        _order(root, RPC, {"method": "reload_weights", "kwargs": {"weights_path": str(target)}})
    except AnnotatorError as error:
        raise AnnotatorError(
            f"{error}. The server is left paused, as its weights may be half replaced: can it read {target}?"
        ) from error
    _order(root, RESUME, {})


def _order(server: Endpoint, path: str, body: dict[str, Any]) -> None:
    try:
        server.order(path, body)
    except Refused as error:
        if path == LOAD and "already" in error.reason:  # its answer was lost the first time
            return
        raise AnnotatorError(
            f"{server.base_url}{path}: the server did not take the policy's weights: {error.reason}"
        ) from error
