"""Responses from an OpenAI-compatible server."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from trueup import errors, words
from trueup.batch.encode import Encoder
from trueup.endpoints import client, key, parameters
from trueup.feedback.records import Prompt
from trueup.models import causal, lora
from trueup.parallel.processes import owned
from trueup.sampling import server_api, weight_transfer
from trueup.sampling.sampler import Sampled, SamplingWeights, StopTexts, positions_of
from trueup.settings.gathering_settings import SamplerSettings

Endpoint = client.Endpoint
Request = server_api.SamplingRequest

SERVED = True
PATIENCE = 600.0  # seconds over which a request that fails is sent again, or twice the timeout if that is more
TIMES = 2
ALONE = 3  # requests at most that are sent one by one at first, so that what a server refuses is learned from few
START = 60.0  # the same where a run begins with several servers, of which one may be missing
ENDED = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
CUT = frozenset({"length", "max_tokens"})


class ServerSampler:
    """Asks a server for one response a request. Nothing is sent before the first prompt.
    What is drawn is a function of the weights, the seed and the prompt as far as the server keeps to its seeds.
    Without an encoder a conversation goes to /chat/completions, and token ids are not known."""

    def __init__(
        self, settings: SamplerSettings, model: causal.CausalModel | None, encoder: Encoder | None, *,
        name: str,
    ) -> None:  # fmt: skip
        assert settings.base_url is not None
        self.settings, self.encoder, self.name, self._model = settings, encoder, name, model
        self._key = key.Key.from_environment(settings.key_variable)
        self._endpoint = self._connect(settings.base_url, settings.concurrency)
        self.base_url = self._endpoint.base_url
        self._stops = StopTexts(settings.stop, encoder.text if encoder else str) if settings.stop else None
        self.served = True
        self.weights = SamplingWeights(model, keeps=settings.resync > 1)
        self._given = 0  # which of the changes of the weights the server has
        self._served: server_api.ServedPolicy | None = None
        self._engines: dict[str, Any] = {}
        self._server: server_api.Server | None = None
        self._said = False
        self._parameters = parameters.Parameters()
        self._alone = ALONE
        self._alike: tuple[str, ...] = ()  # addresses of the servers that answered at first

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """A response that cannot be read is asked for again, then left out."""
        if self._given != self.weights.changes and self._model is not None:
            folder = owned(self._takes_weights)
            with self.weights.in_place():
                if folder is not None:
                    server_api.write(self._model.network, folder)
                else:  # every weight, from all processes together
                    for url, workers in owned(lambda: self._served.paused() if self._served else {}).items():
                        if url not in self._engines:
                            self._engines[url] = weight_transfer.engine(self._model.network, url, workers)
                        weight_transfer.send(self._engines[url], url)
            owned(lambda: self._put(folder))
            self._given = self.weights.changes
        return owned(lambda: self._sampled(prompts, responses, seed))

    def _sampled(self, prompts: Sequence[Prompt], responses: int, seed: int) -> list[tuple[Sampled, ...]]:
        server = self._server = self._server or self._identified()
        known = [one for one in (positions_of(self._model), server.positions) if one is not None]
        rest = self.encoder, self.settings, server, min(known, default=None)
        requests = [server_api.request_for(one, *rest) for one in prompts]
        if not self._said and any(one is not None and not one.exact for one in requests):
            self._said = True
            words.logger.warning(
                f"{self.base_url}: some prompts cannot be written as a text that this server reads as the policy's own "
                "tokens, a beginning of sequence too many or too few for instance; vLLM takes the tokens themselves"
            )
        copies = responses if self.settings.decode == "sample" else 1  # else it is the same each time
        written = self._written(requests, copies, server, seed)
        return [tuple(several) * (responses // copies) for several in written]

    def _connect(self, base_url: str | Sequence[str], concurrency: int, *, deadline: float | None = None) -> Endpoint:
        """A server that was given weights and ended would start again without them, so it is left out for good."""
        timeout = self.settings.timeout
        return Endpoint(
            base_url, key=self._key, timeout=timeout,
            deadline=max(PATIENCE, 2 * timeout) if deadline is None else deadline, concurrency=concurrency,
            returns=self._model is None,
        )  # fmt: skip

    def _both(self, base_url: str, deadline: float | None) -> tuple[Endpoint, Endpoint]:
        """A server as it is asked, and above `/v1`, where servers keep what is not OpenAI's."""
        root = self._connect(base_url.removesuffix("/v1"), 1, deadline=deadline)
        return self._connect(base_url, 1, deadline=deadline), root

    def _takes_weights(self) -> Any:
        """Where the weights that are to write are put for the servers; None where they go there without a folder."""
        server = self._server = self._server or self._identified()
        if self._served is None:
            patience = self.settings.timeout if len(self._alike) > 1 else None
            servers = [self._both(one, patience) for one in self._alike]
            adapted = self._model is not None and lora.is_adapted(self._model.network)
            self._served = server_api.ServedPolicy(
                servers, server.model, self._endpoint.addresses, adapted=adapted,
                transfers=self.settings.transfer != "folder" and not adapted,
                vllm=server.kind is server_api.VLLM,
            )  # fmt: skip
        return None if self._served.transfers else self._served.folder / f"step-{self.weights.version:08d}"

    def _put(self, folder: Any) -> None:
        assert self._served is not None and self._server is not None
        name = self._served.put(folder, self.weights.version)
        self._server = server_api.Server(self._server.kind, name, self._server.positions)

    def _identified(self) -> server_api.Server:
        """What the servers say of themselves; those that cannot be reached are left out."""
        patience = START if len(self._endpoint.base_urls) > 1 else None
        found: dict[str, server_api.Server] = {}
        for one in self._endpoint.base_urls:
            try:
                found[one] = server_api.identify(*self._both(one, patience), self.settings.server_model)
            except errors.AnnotatorError as error:
                if not self._endpoint.addresses.lose(one, error):
                    raise
        self._alike = tuple(found)
        (first, server), *others = found.items()
        for url, other in others:
            if (other.kind, other.model) != (server.kind, server.model):
                raise errors.InputError(
                    f"{first} is {server.kind.name} with the model {server.model}, but {url} is {other.kind.name} with "
                    f"{other.model}; give addresses of servers that are alike, or sampler.server_model"
                )
        if self.settings.top_k and not server.kind.takes_top_k:
            raise errors.InputError(
                f"sampler.top_k {self.settings.top_k}: {first} is no server that is known to take it; leave it "
                "out, and give sampler.top_p"
            )
        if server.kind.one_at_a_time:
            self._endpoint = self._connect(self._alike, len(self._alike))
        known = [one.positions for one in found.values() if one.positions is not None]
        return server_api.Server(server.kind, server.model, min(known, default=None))

    def _written(
        self, requests: Sequence[Request | None], copies: int, server: server_api.Server, seed: int
    ) -> list[list[Sampled]]:
        """The responses to each prompt that could be read, at most `copies`."""
        found: dict[tuple[int, int], Sampled] = {}
        waiting: dict[tuple[int, int], tuple[Request, dict[str, Any]]] = {}
        seen: Counter[str] = Counter()
        end_ids = self.encoder.end_ids if self.encoder else ()
        for place, one in enumerate(requests):
            if one is not None:
                for copy in range(copies):
                    number = seen[one.spelled] + copy  # a prompt that comes again has further responses
                    content = server_api.body(one, number, self.settings, server, end_ids, seed=seed)
                    waiting[place, copy] = one, content
                seen[one.spelled] += copies
        total = len(waiting)
        unreadable, refused = Counter[str](), Counter[str]()
        for _ in range(TIMES):
            unreadable.clear()
            for path in dict.fromkeys(one.path for one, _ in waiting.values()):
                places = [at for at, (one, _) in waiting.items() if one.path == path]
                for number, reply in self._replies(path, [waiting[at][1] for at in places]):
                    at = places[number]
                    if isinstance(reply, client.Refused):
                        refused[f"refused, {reply.reason}"] += 1
                        del waiting[at]
                        continue
                    answer = self.read(reply, waiting[at][0].room, server.kind)
                    if isinstance(answer, str):
                        unreadable[answer] += 1
                    else:
                        found[at] = answer
                        del waiting[at]
        self._judge(total, found, unreadable + refused)
        every = ([(place, copy) for copy in range(copies)] for place in range(len(requests)))
        return [[found[at] for at in own if at in found] for own in every]

    def _replies(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Any]]:
        """Every answer or refusal, with the number of its request; see `Endpoint.each`."""
        if self._server is not None and self._server.kind is not server_api.OPENAI:
            yield from self._endpoint.each(path, bodies)
            return
        first = 0
        while self._alone and first < len(bodies):
            ((_, reply),) = self._endpoint.each(path, [self._parameters.body(bodies[first])])
            if not isinstance(reply, client.Refused):
                self._alone = 0
            elif self._learns(bodies[first], reply):
                continue
            else:
                self._alone -= 1
            yield first, reply
            first += 1
        rest = [self._parameters.body(one) for one in bodies[first:]]
        for number, reply in self._endpoint.each(path, rest):
            yield first + number, reply

    def _learns(self, body: Mapping[str, Any], refusal: client.Refused) -> bool:
        """Whether the request is to be sent with other parameters, which mean the same, from now on."""
        better = self._parameters.learned(self._parameters.body(body), refusal)
        if better is None or better.room:
            return False
        for name in ("temperature", "top_p"):
            if name in better.instead and body[name] != 1:
                raise errors.InputError(
                    f"{self.base_url} takes no {name} {body[name]:g} ({refusal.reason}). Give --sampler.decode sample "
                    f"and --sampler.{name} 1, or another server"
                )
        for told in better.since(self._parameters):
            words.logger.warning(f"{self.base_url} {told}")
        self._parameters = better
        return True

    def read(self, reply: Mapping[str, Any], room: int, kind: server_api.ServerKind) -> Sampled | str:
        """The response in a server's answer, or why there is none: a short phrase."""
        encoder, stops = self.encoder, self._stops
        made = partial(Sampled, source=self.name, version=self.weights.version)
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return "no choices"
        choice = choices[0]
        finish, stopped = choice.get("finish_reason"), choice.get("stop_reason")
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        if finish not in ENDED and finish not in CUT:
            return f"finish_reason {finish}"
        if not isinstance(text, str):
            return "no text"
        if any("\ud800" <= one <= "\udfff" for one in text):
            return "text that is not Unicode"
        ended = finish in ENDED
        ids, log_probs = _given(choice, kind) if encoder is not None else (None, None)
        said = text if ids is None or encoder is None else encoder.text(ids)
        cut = stops.cut(said) if stops else None
        if cut is not None or (ids is not None and isinstance(stopped, str)):
            return made(text if cut is None else cut, None, None, True)
        if ids is not None:
            return made(said, ids, log_probs, ended)
        if not text:
            return "empty"
        if encoder is None or (stops and ended):  # a stop text that the server took off may have ended it
            return made(text, None, None, ended)
        return made(text, _encoded(text, ended, room, encoder), None, ended)

    def _judge(self, total: int, found: Mapping[Any, Sampled], faults: Counter[str]) -> None:
        """Say what is missing, and stop where nothing is there."""
        missing = sum(faults.values())
        reasons = "; ".join(f"{count} {what}" for what, count in faults.most_common(2))
        if total and not found:
            raise errors.AnnotatorError(
                f"{self.base_url}: none of {total} responses could be read ({reasons}); look at the server's log, and "
                "at sampler.server_model"
            )
        if total and not any(one.text.strip() for one in found.values()):
            raise errors.AnnotatorError(
                f"{self.base_url}: a sampler that returns only empty responses ({len(found)} of {total}); look at the "
                "model, at how prompts are written for it, and at sampler.stop"
            )
        if missing:
            words.logger.warning(f"{self.base_url}: {missing} of {total} responses left out ({reasons})")


make = ServerSampler


def _given(
    choice: Mapping[str, Any], kind: server_api.ServerKind
) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Token ids and their log-probabilities, where a server gives them."""
    ids = choice.get("token_ids") if kind.takes_ids else None
    if not isinstance(ids, list) or not ids or not all(type(one) is int and one >= 0 for one in ids):
        return None, None
    given = choice.get("logprobs")
    log_probs = given.get("token_logprobs") if isinstance(given, dict) else None
    if not isinstance(log_probs, list) or len(log_probs) != len(ids):
        return tuple(ids), None
    known = all(isinstance(one, int | float) and one <= 0 for one in log_probs)
    return tuple(ids), tuple(map(float, log_probs)) if known else None


def _encoded(text: str, ended: bool, room: int, encoder: Encoder) -> tuple[int, ...] | None:
    """The text as the tokenizer writes it, which need not be how the policy wrote it; None where it says another."""
    ids = encoder.pieces.raw(text, literal=True)
    if ended:
        ids = [*ids, encoder.end_ids[0]]
    return tuple(ids) if ids and len(ids) <= room + 1 and encoder.text(ids) == text else None
