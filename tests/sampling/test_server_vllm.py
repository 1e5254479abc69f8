"""A vLLM server that is asked by token ids, and writes with the policy's weights as they are after each refresh."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.fake_vllm import MOST, NAME, FakeVllm, serving
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.scripted_model import read_model

from trueup.batch.encode import Encoder
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.records import Message, Prompt
from trueup.files import cache_folder
from trueup.models.causal import CausalModel
from trueup.models.lora import add_lora
from trueup.sampling.engines import make_sampler
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.engines.server import ServerSampler
from trueup.sampling.sampler import Sampled
from trueup.settings.gathering_settings import SamplerSettings

PROMPTS = [Prompt("Once"), Prompt("a b c d"), Prompt((Message("user", "Hi"),)), Prompt("Once")]
ROOM = 12
Policy = tuple[CausalModel, Encoder]
Served = tuple[FaultyServer, FakeVllm]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    return read_model(tiny_model)


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Served]:
    made, fake = serving(tiny_model)
    with made:
        yield made, fake


def settings_of(server: FaultyServer, **changes: Any) -> SamplerSettings:
    return SamplerSettings(
        **{"engine": "server", "base_url": server.url, "max_new_tokens": ROOM, "timeout": 20, **changes}
    )


def adapted_from(model: CausalModel) -> CausalModel:
    torch.manual_seed(0)  # whatever was drawn before: not every adapter moves a greedy choice
    return CausalModel(add_lora(model.network, rank=2, alpha=8, dropout=0.0, targets=("q_proj",), base="x"))


def trained(policy: Policy, server: FaultyServer, **changes: Any) -> ServerSampler:
    """A sampler whose server is given the weights of the policy."""
    model, encoder = policy
    return ServerSampler(settings_of(server, **changes), model, encoder, name="policy")


def in_process(model: CausalModel, encoder: Encoder, **changes: Any) -> list[tuple[Sampled, ...]]:
    settings = SamplerSettings(**{"decode": "greedy", "responses": 1, "max_new_tokens": ROOM, **changes})
    sampler = InProcessSampler(settings, model, encoder, name="policy")
    return sampler.sample(PROMPTS, 1, seed=0)


def same(found: list[tuple[Sampled, ...]], wanted: list[tuple[Sampled, ...]]) -> None:
    for (one,), (other,) in zip(found, wanted, strict=True):
        assert replace(one, log_probs=None, version=0) == replace(other, log_probs=None)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


@torch.no_grad()
def moved(model: CausalModel, seed: int) -> None:
    """Another policy: what an optimizer would do."""
    for value in model.trainable().values():
        value += 0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))


def test_greedy_is_that_of_this_process(policy: Policy, server: Served) -> None:
    sampler = make_sampler(settings_of(server[0], decode="greedy", responses=1), *policy, name="policy")
    same(sampler.sample(PROMPTS, 1, seed=0), in_process(*policy))
    assert server[1].calls == []  # nothing was refreshed
    body = min(server[0].bodies, key=lambda body: len(body["prompt"]))
    assert body["prompt"] == policy[1].cut_prompt_ids(Prompt("Once"))
    assert body["stop_token_ids"] == list(policy[1].end_ids)
    expected = {
        "temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "n": 1,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": None, "model": NAME,
    }  # fmt: skip
    assert expected.items() <= body.items()


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize("resync", [1, 4])
def test_what_writes_are_the_weights_of_the_last_refresh(
    policy: Policy, server: Served, adapted: bool, resync: int
) -> None:  # fmt: skip
    model, encoder = policy
    if adapted:
        model = adapted_from(model)
    given: dict[str, Any] = {"decode": "greedy", "responses": 1, "resync": resync}
    sampler = trained((model, encoder), server[0], **given)
    before = in_process(model, encoder)
    sampler.weights.refresh(0)
    same(sampler.sample(PROMPTS, 1, seed=0), before)
    moved(model, 1)
    after = in_process(model, encoder)
    assert [one.ids for (one,) in after] != [one.ids for (one,) in before]
    same(sampler.sample(PROMPTS, 1, seed=0), before)  # not before it is told
    sampler.weights.refresh(4)
    if resync > 1:
        moved(model, 2)  # and not what it became since
    else:
        assert sampler.weights.state() == {}
    found = sampler.sample(PROMPTS, 1, seed=0)
    same(found, after)
    assert {one.version for several in found for one in several} == {4}
    folders = [path.name for path in (cache_folder() / "served").glob("*/*")]
    assert folders == ["step-00000004"]  # the last one alone
    state = dict(sampler.weights.state())
    assert bool(state) == (resync > 1)

    resumed = trained((model, encoder), server[0], **given)
    moved(model, 3)
    resumed.weights.restore(state, 4)
    same(resumed.sample(PROMPTS, 1, seed=0), after if resync > 1 else in_process(model, encoder))
    del sampler, resumed
    assert not list((cache_folder() / "served").glob("*/*"))


def test_the_order_of_calls(policy: Policy, server: Served) -> None:
    sampler = trained(policy, server[0])
    for version in (0, 1, 2):
        sampler.weights.refresh(version)
    assert server[0].asked == []  # nothing is sent before something is to be written
    sampler.sample(PROMPTS[:1], 1, seed=0)
    sampler.sample(PROMPTS[:1], 1, seed=0)
    assert server[1].calls == ["/is_paused", "/pause?mode=wait", "/collective_rpc", "/resume"]
    sampler.weights.refresh(3)
    sampler.sample(PROMPTS[:1], 1, seed=0)
    assert server[1].calls[4:] == ["/pause?mode=wait", "/collective_rpc", "/resume"]
    assert [path.name for path in server[1].loaded] == ["step-00000002", "step-00000003"]


def test_each_adapter_has_a_name_of_its_own(policy: Policy, server: Served) -> None:
    sampler = trained((adapted_from(policy[0]), policy[1]), server[0])
    names = []
    for version in (0, 1):
        sampler.weights.refresh(version)
        sampler.sample(PROMPTS[:1], 1, seed=0)
        names.append(server[0].bodies[-1]["model"])
    assert names[0] != names[1] and NAME not in names
    assert set(server[1].models) == {NAME, names[1]}
    assert server[1].calls == ["/v1/load_lora_adapter"] * 2 + ["/v1/unload_lora_adapter"]


def test_an_adapter_whose_answer_was_lost_is_there(policy: Policy, server: Served) -> None:
    sampler = trained((adapted_from(policy[0]), policy[1]), server[0])
    lost: list[ReceivedRequest] = []

    def losing(asked: ReceivedRequest) -> Reply:
        reply = server[1](asked)
        if asked.method == "POST" and "load_lora" in asked.path and not lost:
            lost.append(asked)
            return Reply(close=True)
        return reply

    server[0].answers = losing
    sampler.weights.refresh(0)
    assert len(sampler.sample(PROMPTS, 1, seed=0)) == 4
    assert len(lost) == 1


def refused(policy: Policy, server: FaultyServer) -> str:
    sampler = trained(policy, server)
    sampler.weights.refresh(0)
    before = [asked.path for asked in server.asked].count("/v1/completions")
    with pytest.raises(InputError) as raised:
        sampler.sample(PROMPTS, 1, seed=0)
    assert [asked.path for asked in server.asked].count("/v1/completions") == before
    return str(raised.value)


def test_a_server_that_takes_no_weights_is_refused_for_training_alone(policy: Policy, tiny_model: Path) -> None:
    made, fake = serving(tiny_model, dev=False, adapters=False)
    with made:
        assert refused(policy, made) == (
            f"{made.url} does not take new weights while training: start vLLM with VLLM_SERVER_DEV_MODE=1 in its "
            "environment"
        )
        ServerSampler(settings_of(made), None, policy[1], name="policy").sample(PROMPTS, 1, seed=0)
        adapted = adapted_from(policy[0]), policy[1]
        assert "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING" in refused(adapted, made)
        assert fake.calls == []


def test_a_server_that_is_no_vllm_is_refused_for_training_alone(policy: Policy) -> None:
    def answer(asked: ReceivedRequest) -> Reply:
        if asked.path == "/v1/models":
            return Reply(body={"data": [{"id": "m", "owned_by": "another"}]})
        return Reply(404)

    with FaultyServer(answer) as made:
        assert "is no vLLM server, so it cannot be given new weights while training" in refused(policy, made)


def test_a_server_that_breaks_over_the_weights_stays_paused(policy: Policy, server: Served) -> None:
    def broken(asked: ReceivedRequest) -> Reply:
        if asked.path == "/collective_rpc":
            return Reply(500, {"error": {"message": "shape mismatch"}})
        return server[1](asked)

    server[0].answers = broken
    sampler = trained(policy, server[0])
    sampler.weights.refresh(0)
    with pytest.raises(AnnotatorError, match=r"500: shape mismatch.*The server is left paused, as its weights"):
        sampler.sample(PROMPTS, 1, seed=0)
    assert server[1].paused
    server[0].answers = server[1]
    same_again = sampler.sample(PROMPTS, 1, seed=0)  # as a run that is resumed would
    assert len(same_again) == 4 and not server[1].paused


def test_draws_depend_on_seed_prompt_and_copy_alone(policy: Policy, server: Served) -> None:
    sampler = make_sampler(settings_of(server[0], concurrency=3), *policy, name="policy")
    both = sampler.sample(PROMPTS, 3, seed=5)
    assert sampler.sample(PROMPTS, 3, seed=5) == both
    assert sampler.sample(PROMPTS[1:2], 3, seed=5) == both[1:2]
    assert sampler.sample(PROMPTS, 3, seed=6) != both
    ids = [one.ids for one in both[0] + both[3]]
    assert len(set(ids)) == 6  # a prompt that comes again has further responses
    seeds = [body["seed"] for body in server[0].bodies]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_ids_log_probs_and_ends_are_the_servers(policy: Policy, server: Served) -> None:
    encoder = policy[1]
    sampler = make_sampler(settings_of(server[0], max_new_tokens=60), *policy, name="policy")
    found = [one for several in sampler.sample(PROMPTS, 6, seed=1) for one in several]
    assert {one.ended for one in found} == {True, False}
    for one in found:
        assert one.ids is not None and one.log_probs is not None
        assert len(one.ids) == len(one.log_probs)
        assert encoder.text(one.ids) == one.text
        assert (one.ids[-1] in encoder.end_ids) == one.ended


def test_a_prompt_without_room_gets_nothing(policy: Policy, server: Served) -> None:
    """The server's own limit counts as well as the model's."""
    sampler = make_sampler(settings_of(server[0]), *policy, name="policy")
    found = sampler.sample([Prompt("x" * 200), Prompt("y" * (MOST - 6))], 2, seed=0)
    assert found[0] == ()
    assert [len(one.ids or ()) <= 5 for one in found[1]] == [True, True]
    assert {body["max_tokens"] for body in server[0].bodies} == {5}


def test_weights_that_cannot_be_written_are_said(
    policy: Policy, server: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("TRUEUP_CACHE", str(file))
    sampler = trained(policy, server[0])
    sampler.weights.refresh(0)
    with pytest.raises(InputError, match="the weights for the server could not be written: Not a directory"):
        sampler.sample(PROMPTS, 1, seed=0)
    assert server[1].calls == ["/is_paused"]


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
def test_several_servers_write_with_the_same_weights(
    policy: Policy, tiny_model: Path, adapted: bool, told: list[str]
) -> None:
    """One that ends is left out, and does not come back with the weights it began with."""
    model, encoder = policy
    model = adapted_from(model) if adapted else model
    (first, one), (second, other) = serving(tiny_model), serving(tiny_model)
    with first:
        with second:
            urls = (first.url, second.url)
            given: dict[str, Any] = {"base_url": urls, "decode": "greedy", "responses": 1, "concurrency": 2}
            sampler = trained((model, encoder), first, **given)
            moved(model, 1)
            sampler.weights.refresh(1)
            same(sampler.sample(PROMPTS, 1, seed=0), in_process(model, encoder))
            assert len(one.loaded) == len(other.loaded) == 1
            assert first.bodies and second.bodies and not told
        same(sampler.sample(PROMPTS, 1, seed=0), in_process(model, encoder))
        assert len(told) == 1 and "it is left out from here on" in told[0]
        moved(model, 2)
        sampler.weights.refresh(2)
        same(sampler.sample(PROMPTS, 1, seed=0), in_process(model, encoder))
        assert len(one.loaded) == 2 and len(told) == 1


def test_servers_that_differ_are_refused(policy: Policy, tiny_model: Path) -> None:
    first, _ = serving(tiny_model)
    with first, FaultyServer(lambda asked: Reply(200, {"data": [{"id": "another"}]})) as second:
        sampler = trained(policy, first, base_url=(first.url, second.url))
        with pytest.raises(InputError, match="give addresses of servers that are alike"):
            sampler.sample(PROMPTS, 1, seed=0)
