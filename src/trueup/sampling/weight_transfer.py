"""Weights that go to servers from GPU to GPU, by vLLM's own weight-transfer engine, which has to be installed here.
https://docs.vllm.ai/en/v0.33.0/training/weight_transfer/. Its engine on this side calls the server's
/init_weight_transfer_engine once, and /start_weight_update, /update_weights and /finish_weight_update each time, while
NCCL moves the tensors; of several processes all go through the weights, and the first sends them."""

import socket
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

from trueup import errors, words
from trueup.endpoints.addresses import on_this_machine
from trueup.models import lora
from trueup.parallel import processes

FAULTS = (OSError, RuntimeError, ValueError)


def engine(network: Any, base_url: str, workers: int) -> Any:
    """The engine of this process for one server with so many workers; see `send`.
    InputError: vLLM is not installed here, or has no such engine. AnnotatorError: server and engine do not meet."""
    try:
        transfer = import_module("vllm.distributed.weight_transfer")
        nccl, base = (import_module(f"{transfer.__name__}.{name}") for name in ("nccl_engine", "base"))
        info, client = nccl.NCCLTrainerInitInfo, transfer.HTTPVLLMWeightSyncClient
    except (ImportError, AttributeError) as error:
        raise errors.InputError(
            f"sampler.transfer nccl needs vLLM 0.33 or newer in this environment, too ({words.one_line(error)}): "
            "pip install 'trueup[vllm]', or leave sampler.transfer out, so that weights go through a folder"
        ) from error

    class Source(base.WeightSource):  # type: ignore[misc,name-defined]  # known once it is imported
        @cached_property
        def metadata(self) -> list[Any]:
            return [base.ParamMeta(name, value.dtype, tuple(value.shape)) for name, value in self.iter_full()]

        def iter_full(self) -> Iterator[Any]:
            return ((names[0], value.detach()) for names, value in lora.written_weights(network))

    host = "127.0.0.1" if on_this_machine(base_url) else socket.gethostname()
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    own = info(master_address=host, master_port=port, world_size=1 + workers, rank=processes.rank())
    try:
        return transfer.WeightTransferTrainerFactory.trainer_init(
            init_info=own, client=client(base_url), source=Source()
        )
    except FAULTS as error:
        why = words.one_line(error)
        raise errors.AnnotatorError(f"{base_url}: the weight-transfer engine does not begin: {why}") from error


def send(made: Any, base_url: str) -> None:
    """Put the network as it is now into the server of an engine."""
    try:
        made.send_weights()
    except FAULTS as error:
        raise errors.AnnotatorError(
            f"{base_url}: the weights were not transferred: {words.one_line(error)}. The server is left paused, as "
            "they may be half replaced; look at its log"
        ) from error
