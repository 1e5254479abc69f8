"""The policy's weights in a vLLM server: over plain HTTP, by way of a folder that both can read.

Every weight: the model is written in Hugging Face format, generation is paused, each worker loads the folder
(`reload_weights`), generation goes on. vLLM offers these calls where it runs with VLLM_SERVER_DEV_MODE=1.

An adapter: it is written in PEFT's format and loaded under a new name (`/v1/load_lora_adapter`), which is what is asked
from then on; the one before is unloaded. vLLM offers this with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
"""

import shutil
import uuid
import weakref
from pathlib import Path
from typing import Any, Protocol

from trueup.endpoints.client import Endpoint, Refused
from trueup.errors import AnnotatorError, InputError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.models.load import quiet
from trueup.paths import cache_folder
from trueup.words import reason

PAUSED, PAUSE, RESUME, RPC = "/is_paused", "/pause?mode=wait", "/resume", "/collective_rpc"
LOAD, UNLOAD = "/load_lora_adapter", "/unload_lora_adapter"


class ServedPolicy(Protocol):
    """Puts weights into a server."""

    def put(self, model: CausalModel, version: int) -> str:
        """Make the server write with the model as it is now; the name to ask it by from here on.

        Raises:
            AnnotatorError: the server did not take the weights.
        """
        ...


def serve_policy(
    endpoint: Endpoint, root: Endpoint, model: CausalModel, name: str, *, vllm: bool
) -> ServedPolicy:
    """The way in which a server takes the weights of this policy.

    Args:
        root: the server above `/v1`.
        name: the model's name at the server.
        vllm: whether it is a vLLM server.

    Raises:
        InputError: it has none.
    """
    adapted = lora.is_adapted(model.network)
    if vllm and (endpoint.has(LOAD) if adapted else root.has(PAUSED)):
        return _Adapters(endpoint) if adapted else _Whole(root, name)
    if not vllm:
        raise InputError(
            f"{endpoint.base_url} is no vLLM server, so it cannot be given new weights while training; leave "
            "sampler.engine out, or start a vLLM server"
        )
    start = (
        "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        if adapted
        else "with VLLM_SERVER_DEV_MODE=1"
    )
    raise InputError(
        f"{endpoint.base_url} does not take new weights while training: start vLLM {start} in its environment"
    )


class _Folder:
    """A folder with the latest weights, which goes when its owner does."""

    def __init__(self, owner: object) -> None:
        self.path = cache_folder() / "served" / uuid.uuid4().hex[:12]
        weakref.finalize(owner, shutil.rmtree, self.path, ignore_errors=True)

    def write(self, model: CausalModel, version: int) -> Path:
        """The model in its library's format.

        Raises:
            InputError: it cannot be written.
        """
        target = self.path / f"step-{version:08d}"
        network: Any = model.network
        only = {"selected_adapters": [lora.POLICY]} if lora.is_adapted(network) else {}
        try:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            with quiet():
                network.save_pretrained(str(target), **only)
        except Exception as error:  # OSError, and SafetensorError for the same full disk
            why = reason(error)
            raise InputError(
                f"{target}: the weights for the server could not be written: {why}. Make room, or set TRUEUP_CACHE "
                "to a folder that the server can read, too"
            ) from error
        return target

    def keep_only(self, target: Path) -> None:
        for other in self.path.iterdir():
            if other != target:
                shutil.rmtree(other, ignore_errors=True)


class _Whole:
    """Every weight, in place of those before."""

    def __init__(self, root: Endpoint, name: str) -> None:
        self._root, self._name = root, name
        self._folder = _Folder(self)

    def put(self, model: CausalModel, version: int) -> str:
        """See `ServedPolicy`."""
        target = self._folder.write(model, version)
        _order(self._root, PAUSE, {})
        try:
            _order(self._root, RPC, {"method": "reload_weights", "kwargs": {"weights_path": str(target)}})
        except AnnotatorError as error:
            raise AnnotatorError(
                f"{error}. The server is left paused, as its weights may be half replaced: can it read {target}?"
            ) from error
        _order(self._root, RESUME, {})
        self._folder.keep_only(target)
        return self._name


class _Adapters:
    """One adapter after the other, each under a name of its own, so that no cache of the server mixes them up."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._folder = _Folder(self)
        self._name: str | None = None

    def put(self, model: CausalModel, version: int) -> str:
        """See `ServedPolicy`."""
        target = self._folder.write(model, version)
        name = f"trueup-{uuid.uuid4().hex[:8]}-{version}"
        _order(self._endpoint, LOAD, {"lora_name": name, "lora_path": str(target)})
        if self._name is not None:
            _order(self._endpoint, UNLOAD, {"lora_name": self._name})
        self._name = name
        self._folder.keep_only(target)
        return name


def _order(server: Endpoint, path: str, body: dict[str, Any]) -> None:
    try:
        server.order(path, body)
    except Refused as error:
        if path == LOAD and "already" in error.reason:  # its answer was lost the first time
            return
        raise AnnotatorError(
            f"{server.base_url}{path}: the server did not take the policy's weights: {error.reason}"
        ) from error
