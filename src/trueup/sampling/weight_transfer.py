"""Weights that go to servers from GPU to GPU, by vLLM's own weight-transfer engine, which has to be installed here.

https://docs.vllm.ai/en/v0.32.0/training/weight_transfer/. Its engine on this side calls the server's
/init_weight_transfer_engine once, and /start_weight_update, /update_weights and /finish_weight_update each time, while
NCCL moves the tensors; of several processes all go through the weights, and the first sends them.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from trueup.endpoints import addresses
from trueup.errors import AnnotatorError, InputError
from trueup.models import lora
from trueup.parallel import processes
from trueup.words import one_line

Order = Callable[[str, Mapping[str, Any]], None]
"""Sends an object to a path of the server."""


class Client:
    """What the engine tells a server, by the names of vLLM's own client."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def init_weight_transfer_engine(self, init_info: Mapping[str, Any]) -> None:
        self.order("/init_weight_transfer_engine", {"init_info": dict(init_info)})

    def start_weight_update(self) -> None:
        self.order("/start_weight_update", {})

    def update_weights(self, update_info: Mapping[str, Any]) -> None:
        self.order("/update_weights", {"update_info": dict(update_info)})

    def finish_weight_update(self) -> None:
        self.order("/finish_weight_update", {})


def engine(network: Any, base_url: str, workers: int, order: Order) -> Any:
    """The engine of this process for one server with so many workers; `send_weights()` puts the network into it.

    Raises:
        InputError: vllm is not installed here, or has no such engine.
        AnnotatorError: server and engine do not come together.
    """
    try:
        transfer = import_module("vllm.distributed.weight_transfer")
        nccl, base = (import_module(f"{transfer.__name__}.{name}") for name in ("nccl_engine", "base"))
        info = nccl.NCCLTrainerInitInfo
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"sampler.transfer nccl needs vLLM 0.29 or newer in this environment, too ({one_line(error)}): "
            "pip install 'trueup[vllm]', or leave sampler.transfer out, so that weights go through a folder"
        ) from error

    class Source(base.WeightSource):  # type: ignore[misc,name-defined]  # known once it is imported
        def __init__(self) -> None:
            self.known = [base.ParamMeta(name, value.dtype, tuple(value.shape)) for name, value in self]

        def __iter__(self) -> Iterator[Any]:
            return ((names[0], value.detach()) for names, value in lora.written_weights(network))

        def metadata(self) -> list[Any]:
            return self.known

    near = addresses.on_this_machine(base_url)
    with socket.socket() as free:
        free.bind(("", 0))
        place = {
            "master_address": "127.0.0.1" if near else socket.gethostname(),
            "master_port": free.getsockname()[1],
        }
    try:
        rank = info(**place, world_size=1 + workers, rank=processes.rank())
        return transfer.WeightTransferTrainerFactory.trainer_init(
            init_info=rank, client=Client(order), source=Source()
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise AnnotatorError(
            f"{base_url}: the weight-transfer engine does not begin: {one_line(error)}"
        ) from error


def send(made: Any, base_url: str) -> None:
    """Put the network as it is now into the server of an engine."""
    try:
        made.send_weights()
    except (OSError, RuntimeError, ValueError) as error:
        raise AnnotatorError(
            f"{base_url}: the weights were not transferred: {one_line(error)}. The server is left paused, as they may "
            "be half replaced; look at its log"
        ) from error
