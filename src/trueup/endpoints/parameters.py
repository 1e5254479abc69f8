"""Which parameters of a request an endpoint takes, learned from what it refuses.
OpenAI-compatible endpoints differ: newer models want `max_completion_tokens` in place of `max_tokens` and no
`temperature`, several give fewer `top_logprobs` than 20, and not all constrain an answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from trueup.endpoints.client import Refused

MAX_TOKENS, NEWER_MAX_TOKENS = "max_tokens", "max_completion_tokens"
LEAST_TEMPERATURE = 0.01  # where 0 is not taken, though others are
FEWEST_TOP = 2  # likeliest tokens below which log-probabilities of two labels say nothing
FORMS = ("response_format", "structured_outputs", "guided_choice", "")
"""Fields that constrain an answer, in the order they are tried: a JSON schema, a choice list of vLLM since 0.11, one of
earlier versions, none."""
UNKNOWN = r"n[o']t support|unsupported|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|forbid|deprecated"
NOT_TAKEN = re.compile(rf"{UNKNOWN}|extra|instead|{NEWER_MAX_TOKENS}")
COMPLAINT = re.compile(
    rf"{UNKNOWN}|extra|invalid|instead|only the default|must be|should be|required|available|not implemented|disabled"
)
OF_LENGTH = re.compile(r"context length|context window|too (?:large|long)|input tokens|prompt")
OF_SIZE = re.compile(r"between|max|exceed|greater|less|large|limit|range|most|up to|<=|high")
POSITIVE = re.compile(r"positive|greater than 0|> ?0|above 0|larger than 0|non-?zero")
LEAST_LENGTH = re.compile(r"(?:at least|minimum|>=|greater than or equal to)\D{0,20}(\d+)")
CONSTRAINTS = re.compile(r"response.?format|json.?schema|structured|guided|grammar|constrain")
UNFINISHED = re.compile(r"could not finish the message because max_tokens")
"""How OpenAI's reasoning models refuse a request whose thoughts filled the longest answer."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a request is sent to one endpoint."""

    limit: str = MAX_TOKENS  # the name of the longest answer
    instead: Mapping[str, Any] = field(default_factory=dict)
    """Parameter -> the value it is sent with; None leaves it out."""
    form: str = FORMS[0]  # one of `FORMS`
    room: int = 0  # least tokens for an answer, as the model thinks before it answers or the endpoint asks for as many

    def body(self, request: Mapping[str, Any]) -> dict[str, Any]:
        made = {name: self.instead.get(name, value) for name, value in request.items()}
        made = {name: value for name, value in made.items() if value is not None}
        made[self.limit] = max(made.pop(MAX_TOKENS), self.room)
        schema = made.pop(FORMS[0], None)
        if schema is not None and self.form == FORMS[0]:
            made[self.form] = schema
        elif schema is not None and self.form:
            labels = schema["json_schema"]["schema"]["properties"]["preferred"]["enum"]
            made[self.form] = {"choice": labels} if self.form == "structured_outputs" else labels
        return made

    def learned(self, body: Mapping[str, Any], refusal: Refused) -> Self | None:
        """What is to be sent in place of a body that was refused; None where no parameter of it was the reason."""
        said = refusal.reason.lower()
        parts = re.split(r"\W+", refusal.param)
        named = {name for name in body if name in parts or re.search(rf"(?<!\w){name}(?!\w)", said)}
        top = body.get("top_logprobs")
        if top and ("top_logprobs" in named or "logprobs of" in said) and OF_SIZE.search(said):
            offered = [one for one in map(int, re.findall(r"\d+", said.partition(":")[2])) if one < top]
            fewer = max(offered, default=0) or top // 2
            return self._with("top_logprobs", fewer) if fewer >= FEWEST_TOP else None
        if self.limit in named and not OF_LENGTH.search(said):
            if self.limit == MAX_TOKENS and NOT_TAKEN.search(said):
                return replace(self, limit=NEWER_MAX_TOKENS)
            least = LEAST_LENGTH.search(said)
            return self.with_room(int(least[1])) if least and int(least[1]) > body[self.limit] else None
        if not COMPLAINT.search(said):
            return None
        if "temperature" in named:
            above = body["temperature"] == 0 and POSITIVE.search(said)
            return self._with("temperature", LEAST_TEMPERATURE if above else None)
        if self.form in body and (self.form in named or CONSTRAINTS.search(said)):
            return replace(self, form=FORMS[FORMS.index(self.form) + 1])
        unknown = next((name for name in ("seed", "top_p") if name in named), None)
        return self._with(unknown, None) if unknown else None

    def with_room(self, room: int) -> Self:
        """For a model that was found to think before it answers."""
        return replace(self, room=room)

    def since(self, before: Self) -> list[str]:
        """What is otherwise than before, as ends of `the endpoint ...`."""
        told = []
        if self.limit != before.limit:
            told.append(f"takes {self.limit} in place of {before.limit}")
        for name, value in self.instead.items():
            if before.instead.get(name, before) != value:
                none = f"takes no {name}, so that its own default decides"
                told.append(none if value is None else f"takes {name} {value:g}, and not what was asked for")
        if self.form != before.form:
            told.append(f"takes no {before.form}; its answers are constrained by {self.form or 'nothing'}")
        if self.room != before.room:
            told.append(
                f"is given {self.room} tokens for an answer, as it thinks first or asks for as many; "
                "annotator.max_answer_tokens sets another length"
            )
        return told

    def _with(self, name: str, value: Any) -> Self:
        return replace(self, instead={**self.instead, name: value})


def schema_of(labels: tuple[str, str]) -> dict[str, Any]:
    """`response_format` of an object that names one of two labels."""
    label = {"type": "string", "enum": list(labels)}
    inner = {"properties": {"preferred": label}, "required": ["preferred"], "additionalProperties": False}
    schema = {"type": "object", **inner}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
