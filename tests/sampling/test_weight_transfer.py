"""Weights by vLLM's own engine: the real one needs GPUs, so that one which keeps to its calls stands in for it here.
The calls of both sides are those of https://docs.vllm.ai/en/v0.33.0/training/weight_transfer/."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
import torch
from support.fake_vllm import FakeVllm
from support.faulty_server import FaultyServer
from support.scripted_model import read_model
from support.small_runs import run_here, write_feedback

from trueup.errors import InputError
from trueup.feedback.records import Prompt
from trueup.sampling.engines import make_sampler
from trueup.sampling.sampler import Sampler
from trueup.settings.gathering_settings import SamplerSettings

WIRE: list[torch.Tensor] = []
PROMPTS = [Prompt("Once"), Prompt("a b c d")]
GREEDY = {"decode": "greedy", "responses": 1, "max_new_tokens": 12}


class Client:
    """As vLLM's own."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def post(self, path: str, **body: Any) -> None:
        told = Request(f"{self.base_url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(told, timeout=10) as answer:
            assert answer.status == 200


class Engine:
    """Of the trainer's side, with a list in place of NCCL."""

    def __init__(self, init_info: Any, client: Any, source: Any) -> None:
        self.client, self.source = client, source
        assert init_info.rank == 0 and init_info.world_size == 3 and init_info.master_address == "127.0.0.1"
        info = {"rank_offset": 1, "world_size": init_info.world_size}
        client.post("init_weight_transfer_engine", init_info=info)

    def send_weights(self) -> None:
        self.client.post("start_weight_update")
        told = self.source.metadata
        for about, (name, value) in zip(told, self.source.iter_full(), strict=True):
            assert (about.name, about.dtype, about.shape) == (name, value.dtype, tuple(value.shape))
            WIRE.append(value.clone())
        kinds = [str(one.dtype).removeprefix("torch.") for one in told]
        info = {"names": [one.name for one in told], "dtype_names": kinds, "shapes": [one.shape for one in told]}
        self.client.post("update_weights", update_info=info)
        self.client.post("finish_weight_update")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The package, as far as it is asked."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    transfer: Any = ModuleType("vllm.distributed.weight_transfer")
    transfer.WeightTransferTrainerFactory = SimpleNamespace(trainer_init=Engine)
    transfer.HTTPVLLMWeightSyncClient = Client
    nccl, base = SimpleNamespace(NCCLTrainerInitInfo=SimpleNamespace), SimpleNamespace(WeightSource=object)
    base.ParamMeta = lambda name, dtype, shape: SimpleNamespace(name=name, dtype=dtype, shape=shape)
    for name, made in {"": transfer, ".nccl_engine": nccl, ".base": base}.items():
        monkeypatch.setitem(sys.modules, f"vllm.distributed.weight_transfer{name}", made)
    for name in ("vllm", "vllm.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    yield


def served(policy: Any, server: FaultyServer) -> Sampler:
    given = {"engine": "server", "base_url": server.url, "timeout": 20, "transfer": "nccl", **GREEDY}
    return make_sampler(SamplerSettings(**given), *policy, name="policy")


def test_a_server_writes_with_what_was_sent(vllm: None, tiny_model: Path) -> None:
    """Twice, over one engine; the server is paused meanwhile, and no folder is written."""
    fake, policy = FakeVllm(tiny_model, wire=WIRE), read_model(tiny_model)
    here = make_sampler(SamplerSettings(**GREEDY), *policy, name="policy")
    with FaultyServer(fake) as server:
        sampler = served(policy, server)
        for version in (0, 1):
            for value in policy[0].trainable().values():
                value.data += 0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(version))
            sampler.weights.refresh(version)
            found, wanted = ([one.ids for (one,) in each.sample(PROMPTS, 1, seed=0)] for each in (sampler, here))
            assert found == wanted
    sent = [
        "/pause?mode=wait", "/get_world_size", "/start_weight_update", "/update_weights",
        "/finish_weight_update",
    ]  # fmt: skip
    once = [*sent[:2], "/init_weight_transfer_engine", *sent[2:], "/resume"]
    assert fake.calls[-len(once) - len(sent) - 1 :] == [*once, *sent, "/resume"]
    assert not WIRE and not fake.loaded


def test_a_server_without_it_is_refused(vllm: None, tiny_model: Path) -> None:
    with FaultyServer(FakeVllm(tiny_model)) as server:
        sampler = served(read_model(tiny_model), server)
        sampler.weights.refresh(0)
        with pytest.raises(InputError, match="--weight-transfer-config"):
            sampler.sample(PROMPTS, 1, seed=0)


def test_without_vllm_it_is_refused_before_anything_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    prompts = str(write_feedback(tmp_path)["pairs"])
    given = {"sampler.engine": "server", "sampler.base_url": ["http://127.0.0.1:9/v1"], "sampler.transfer": "nccl"}
    with pytest.raises(InputError, match=r"needs the package vllm.*pip install trueup\[vllm\]"):
        run_here("oaif", {**given, "model": str(tiny_model), "prompts": prompts, "annotator": "world:gold",
                          "output": str(tmp_path / "run")})  # fmt: skip
