"""How an OpenAI-compatible server is asked, and what becomes of its answers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faulty_server import Answer, FaultyServer, ReceivedRequest, Reply, chat, completion
from support.refusals import refused
from support.scripted_model import read_model
from support.tiny_models import CHATML, char_tokenizer

from trueup.batch.encode import Encoder, Limits
from trueup.errors import AnnotatorError
from trueup.feedback.records import Message, Origin, Prompt
from trueup.sampling.engines.server import ServerSampler
from trueup.sampling.sampler import Sampled
from trueup.sampling.server_api import VLLM
from trueup.settings.gathering_settings import SamplerSettings

EOS = 2
TALK = Prompt((Message("system", "Be brief."), Message("user", "Hi")))
TOOLS = ({"type": "function", "function": {"name": "add"}},)


def char_encoder(limits: Limits | None = None, **tokenizer: Any) -> Encoder:
    tokenizer = {"chat_template": CHATML, **tokenizer}
    return Encoder(char_tokenizer(**tokenizer), end_ids=(EOS,), limits=limits or Limits(512))


class Server:
    """A server with one model, whose answers to prompts are given."""

    def __init__(self, answer: Callable[[ReceivedRequest], Answer], **card: Any) -> None:
        self.card = {"id": "m", **card}
        self.answer = answer

    def __call__(self, asked: ReceivedRequest) -> Answer:
        if asked.path == "/v1/models":
            return Reply(body={"data": [self.card]})
        if asked.path in ("/v1/completions", "/v1/chat/completions"):
            return self.answer(asked)
        return Reply(404, {"detail": "Not Found"})


@pytest.fixture
def sampler() -> Iterator[Callable[..., tuple[ServerSampler, FaultyServer]]]:
    """Make a sampler of a server that answers so."""
    running: list[FaultyServer] = []

    def made(
        answer: Callable[[ReceivedRequest], Answer] | Answer, encoder: Encoder | None = None, *, card: Any = None,
        **settings: Any,
    ) -> tuple[ServerSampler, FaultyServer]:  # fmt: skip
        server = FaultyServer(Server(answer if callable(answer) else lambda asked: answer, **(card or {})))
        server.__enter__()
        running.append(server)
        known = SamplerSettings(engine="server", base_url=server.url, timeout=20, **settings)
        return ServerSampler(known, None, encoder, name="policy"), server

    yield made
    for server in running:
        server.stop()


Made = Callable[..., tuple[ServerSampler, FaultyServer]]


def sent(server: FaultyServer) -> list[dict[str, Any]]:
    return [body for body in server.bodies if "max_tokens" in body]


def test_everything_that_decides_is_said(sampler: Made) -> None:
    made, server = sampler(completion("yes"), temperature=0.7, top_p=0.9, max_new_tokens=9, stop=["\n\nHuman:", "END"])
    made.sample([Prompt("2 + 2 =")], 2, seed=1)
    assert {asked.path for asked in server.asked if asked.method == "POST"} == {"/v1/completions"}
    one, other = sent(server)
    assert one["seed"] != other["seed"]
    for body in (one, other):
        del body["seed"]
        assert body == {
            "model": "m", "prompt": "2 + 2 =", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "n": 1,
            "stop": ["\n\nHuman:", "END"],
        }  # fmt: skip


def test_greedy_is_asked_for_once(sampler: Made) -> None:
    made, server = sampler(completion("yes"), decode="greedy", responses=1, temperature=0.7, top_p=0.5)
    ((one, other),) = made.sample([Prompt("a")], 2, seed=1)
    assert one == other == Sampled("yes", None, None, True, "policy", 0)
    (body,) = sent(server)
    assert (body["temperature"], body["top_p"]) == (0.0, 1.0)
    assert "stop" not in body
    assert body["max_tokens"] == 128


def test_without_an_encoder_a_conversation_is_left_to_the_server(sampler: Made) -> None:
    made, server = sampler(lambda asked: chat("Hey") if "chat" in asked.path else completion(" b"))
    with_tools = Prompt(TALK.content, tools=TOOLS)
    found = made.sample([TALK, Prompt("a"), with_tools], 1, seed=0)
    assert [several[0].text for several in found] == ["Hey", " b", "Hey"]
    assert all(several[0].ids is None for several in found)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    talks = [body for body in sent(server) if "messages" in body]
    assert [body["messages"] for body in talks] == [messages, messages]
    assert sorted(json.dumps(body.get("tools")) for body in talks) == [json.dumps(list(TOOLS)), "null"]


def test_a_server_is_told_arguments_as_text(sampler: Made) -> None:
    made, server = sampler(lambda request: chat("Hey"))
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    made.sample([Prompt((*TALK.content, Message("assistant", "", {"tool_calls": [call]})), tools=TOOLS)], 1, seed=0)
    (body,) = sent(server)
    assert body["messages"][-1]["tool_calls"][0]["function"]["arguments"] == '{"a": 2}'


BEGUN = "<bos>" + CHATML
TOKENIZERS: dict[str, tuple[dict[str, Any], bool]] = {
    "no beginning": ({"bos": False}, True),
    "the template's beginning": ({"chat_template": BEGUN}, True),
    "a beginning that the template leaves out": ({}, False),
    "a space before everything": ({"bos": False, "adds_space": True}, True),
    "a space, and the template's beginning": ({"adds_space": True, "chat_template": BEGUN}, True),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_prompt_goes_out_as_text_that_reads_as_its_ids(sampler: Made, name: str, told: list[str]) -> None:
    """A server adds its own beginning of sequence: it must not be there twice."""
    changes, exact = TOKENIZERS[name]
    encoder = char_encoder(**changes)
    made, server = sampler(completion("x"), encoder)
    for prompt, same in ((Prompt("a b"), True), (TALK, exact)):
        made.sample([prompt], 1, seed=0)
        read = encoder.tokenizer(sent(server)[-1]["prompt"]).input_ids
        assert (read == encoder.cut_prompt_ids(prompt)) == same
    assert len(told) == (0 if exact else 1)
    assert exact or "cannot be written as a text that this server reads as the policy's own tokens" in told[0]
    assert sent(server)[0]["prompt"] == "a b"


def test_a_long_prompt_is_cut_as_in_training(sampler: Made) -> None:
    made, server = sampler(completion("x"), char_encoder(Limits(512, max_prompt_length=5)))
    made.sample([Prompt("abcdefgh")], 1, seed=0)
    assert sent(server)[0]["prompt"] == "efgh"


ENCODER = char_encoder()


def spelled(text: str) -> tuple[int, ...]:
    return tuple(ENCODER.pieces.raw(text, literal=True))


def choice(text: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": finish, **more}]}


def given(text: str, log_probs: Any) -> dict[str, Any]:
    """With the token ids that vLLM gives."""
    return choice(text, "length", token_ids=list(spelled(text)), logprobs={"token_logprobs": log_probs})


STOP = "\nHuman:"
READ: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "the ids are those of the text": (choice("four"), ("four", (*spelled("four"), EOS), None, True)),
    "without an end": (choice("fou", "length"), ("fou", spelled("fou"), None, False)),
    "a control token that is text": (choice("a<eos>b"), ("a<eos>b", (*spelled("a<eos>b"), EOS), None, True)),
    "a text that the tokenizer cannot say": (choice("caf\u00e9"), ("caf\u00e9", None, None, True)),
    "log-probabilities": (given("yes", [-0.1, 0, -2]), ("yes", spelled("yes"), (-0.1, 0.0, -2.0), False)),
    **{
        f"log-probabilities that do not fit: {given_}": (
            given("yes", given_), ("yes", spelled("yes"), None, False)
        )
        for given_ in (None, [-0.1], [-0.1, 0.5, -0.2], [-0.1, None, -0.2], "x")
    },
}  # fmt: skip
STOPPED: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "a stop text that the server left": (choice(f"yes{STOP} no"), ("yes", None, None, True)),
    "and gave the ids of": (
        choice(f"yes{STOP} no", token_ids=list(spelled(f"yes{STOP} no"))), ("yes", None, None, True)
    ),
    "one that it may have taken off": (choice("yes"), ("yes", None, None, True)),
    "none": (choice("yes, and", "length"), ("yes, and", spelled("yes, and"), None, False)),
    "one that the server alone saw": (
        choice("yes", stop_reason=STOP, token_ids=list(spelled("yes"))), ("yes", None, None, True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*READ, *STOPPED])
def test_what_is_read_of_an_answer(name: str) -> None:
    reply, expected = (READ | STOPPED)[name]
    settings = SamplerSettings(
        engine="server", base_url="http://localhost:1/v1", stop=(STOP,) if name in STOPPED else ()
    )
    sampler = ServerSampler(settings, None, ENCODER, name="policy")
    assert sampler.read(reply, 9, VLLM) == Sampled(*expected, "policy", 0)


def test_room_is_that_of_prompt_and_limits(sampler: Made, tiny_model: Path) -> None:
    model, encoder = read_model(tiny_model, limits=Limits(20))
    made, server = sampler(completion("x"), encoder, max_new_tokens=8)
    found = made.sample([Prompt("a" * 4), Prompt("b" * 15), Prompt("c" * 19)], 1, seed=0)
    assert [len(several) for several in found] == [1, 1, 0]
    assert sorted(body["max_tokens"] for body in sent(server)) == [4, 8]
    assert model.inner.config.max_position_embeddings == 512


def test_vllm_without_an_encoder_is_asked_by_text(sampler: Made) -> None:
    made, server = sampler(completion("x"), card={"owned_by": "vllm"}, top_k=5)
    assert made.sample([Prompt("a")], 1, seed=0)[0][0].ids is None
    (body,) = sent(server)
    assert (body["prompt"], body["top_k"]) == ("a", 5)
    assert "return_token_ids" not in body and "stop_token_ids" not in body


def test_transformers_serve_is_told_to_draw_one_at_a_time(sampler: Made) -> None:
    made, server = sampler(lambda asked: Reply(body=completion("x").body, delay=0.02), char_encoder(), top_k=5)
    rest = server.answers
    assert callable(rest)
    paths = {"/v1/completions": {}, "/load_model": {}, "/reset": {}}

    def answer(asked: ReceivedRequest) -> Answer:
        return Reply(body={"paths": paths}) if asked.path == "/openapi.json" else rest(asked)

    server.answers = answer
    made.sample([Prompt("a"), Prompt("b")], 3, seed=0)
    assert server.most_at_once == 1
    for body in sent(server):
        assert json.loads(body["generation_config"]) == {
            "do_sample": True, "max_new_tokens": 128, "repetition_penalty": 1.0, "eos_token_id": [EOS],
            "pad_token_id": EOS, "temperature": 1.0, "top_p": 1.0, "top_k": 5,
        }  # fmt: skip


def refuses(**values: Any) -> Callable[[ReceivedRequest], Answer]:
    """A server that takes these parameters with these values alone, and answers otherwise."""

    def answer(request: ReceivedRequest) -> Answer:
        for name, only in values.items():
            if request.body.get(name, only) != only or (only is None and name in request.body):
                instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                said = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
                return Reply(400, {"error": {"message": said, "param": name}})
        return completion("yes")

    return answer


def test_what_a_server_does_not_take_is_learned_from_few_refusals(sampler: Made, told: list[str]) -> None:
    made, server = sampler(refuses(max_tokens=None, temperature=None, top_p=None, seed=None), max_new_tokens=9)
    prompts = [Prompt(f"{number} =") for number in range(6)]
    assert [len(several) for several in made.sample(prompts, 2, seed=1)] == [2] * 6
    asked = [body for body in server.bodies if "prompt" in body]
    assert len(asked) == 4 + 12
    assert all(body.keys() == {"model", "prompt", "n", "max_completion_tokens"} for body in asked[4:])
    assert asked[-1]["max_completion_tokens"] == 9
    assert len(told) == 4
    assert any(line.endswith("takes no seed, so that its own default decides") for line in told)
    made.sample(prompts, 1, seed=2)
    assert len(server.bodies) == 4 + 12 + 6


@pytest.mark.parametrize("given", [{"temperature": 0.7}, {"top_p": 0.9}, {"decode": "greedy", "responses": 1}])
def test_what_would_draw_otherwise_is_not_left_out(given: dict[str, Any], sampler: Made) -> None:
    made, server = sampler(refuses(temperature=1.0, top_p=1.0), **given)
    with refused(r"takes no (temperature|top_p) .*400.*--sampler\.(temperature|top_p) 1, or"):
        made.sample([Prompt(f"{number} =") for number in range(6)], 2, seed=1)
    assert len(sent(server)) == 1


def test_top_k_is_refused_where_no_server_is_known_to_take_it(sampler: Made) -> None:
    made, server = sampler(completion("x"), top_k=5)
    with refused(r"sampler.top_k 5: .* is no server that is known to take it"):
        made.sample([Prompt("a")], 1, seed=0)
    assert sent(server) == []


def test_which_model_is_asked(sampler: Made) -> None:
    made, server = sampler(completion("x"), server_model="given")
    made.sample([Prompt("a")], 1, seed=0)
    assert sent(server)[0]["model"] == "given"
    for reply, said in (
        (Reply(body={"data": [{"id": "one"}, {"id": "two"}]}), "knows several models: one, two"),
        (Reply(404), "does not say which model it has"),
    ):
        made, server = sampler(completion("x"))
        server.answers = [reply]
        with refused(f"{said}; give sampler.server_model"):
            made.sample([Prompt("a")], 1, seed=0)


def test_the_key_is_sent_and_named(sampler: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVED_KEY", "canary-771")
    made, server = sampler(Reply(401, {"error": "wrong key canary-771"}), key_variable="SERVED_KEY")
    with pytest.raises(AnnotatorError) as raised:
        made.sample([Prompt("a")], 1, seed=0)
    assert "check the key in environment variable SERVED_KEY" in str(raised.value)
    assert "canary" not in str(raised.value) + repr(made) + repr(vars(made))
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer canary-771"}


def test_a_prompt_that_cannot_be_expressed_is_named(sampler: Made) -> None:
    encoder = Encoder(char_tokenizer(), end_ids=(EOS,), limits=Limits(64))
    made, _ = sampler(completion("x"), encoder)
    with refused(r"asked.jsonl:3: .* no chat template"):
        made.sample([Prompt(TALK.content, origin=Origin("asked.jsonl", 3))], 1, seed=0)


UNREADABLE = {
    "no choices": {"choices": []}, "no choices at all": {"object": "x"},
    "no text": {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]},
    "empty": completion(""), "finish_reason content_filter": completion("ye", finish="content_filter"),
    "finish_reason None": {"choices": [{"text": "yes"}]}, "text that is not Unicode": completion("\ud83d"),
}  # fmt: skip


@pytest.mark.parametrize("reason", UNREADABLE)
@pytest.mark.parametrize("times", [1, 99])
def test_what_cannot_be_read_is_asked_again(sampler: Made, reason: str, times: int, told: list[str]) -> None:
    """And left out, and said, if it can never be read."""
    asked_for: list[str] = []

    def answer(asked: ReceivedRequest) -> Answer:
        prompt = asked.body["prompt"]
        asked_for.append(prompt)
        bad = prompt == "b" and asked_for.count("b") <= times
        return UNREADABLE[reason] if bad else completion(prompt.upper())

    made, server = sampler(answer)
    found = made.sample([Prompt("a"), Prompt("b")], 1, seed=0)
    assert [[one.text for one in several] for several in found] == [["A"], ["B"] if times == 1 else []]
    assert sorted(asked_for) == ["a", "b", "b"]
    line = f"{server.url}: 1 of 2 responses left out (1 {reason.removesuffix(' at all')})"
    assert told == ([] if times == 1 else [line])


def test_a_refused_prompt_is_left_out_without_asking_again(sampler: Made, told: list[str]) -> None:
    long = Reply(400, {"error": {"message": "maximum context length is 512"}})
    made, server = sampler(lambda asked: long if asked.body["prompt"] == "b" else completion("A"))
    assert [len(several) for several in made.sample([Prompt("a"), Prompt("b")], 1, seed=0)] == [1, 0]
    assert told == [f"{server.url}: 1 of 2 responses left out (1 refused, 400: maximum context length is 512)"]
    assert len(sent(server)) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"choices": []},
         "none of 4 responses could be read (4 no choices); look at the server's log, and at sam"),
        (completion(" \n"),
         "a sampler that returns only empty responses (4 of 4); look at the model, at how "),
    ],
)  # fmt: skip
def test_a_sampler_that_writes_nothing_stops(sampler: Made, answer: Answer, message: str) -> None:
    made, server = sampler(answer)
    with pytest.raises(AnnotatorError) as raised:
        made.sample([Prompt("a"), Prompt("b")], 2, seed=0)
    assert str(raised.value).startswith(f"{server.url}: {message}")


def test_no_prompt_asks_nothing(sampler: Made) -> None:
    made, server = sampler(completion("x"), char_encoder(Limits(4)))
    assert made.sample([], 2, seed=0) == []
    assert made.sample([Prompt("abcdefgh")], 2, seed=0) == [()]
    assert sent(server) == []


def test_a_server_that_is_asked_while_it_starts_is_waited_for(sampler: Made) -> None:
    made, server = sampler(completion("x"))
    rest, starting = server.answers, [Reply(503), Reply(close=True), Reply(503)]
    assert callable(rest)
    server.answers = lambda asked: starting.pop() if starting else rest(asked)
    assert made.sample([Prompt("a")], 1, seed=0)[0][0].text == "x"
