"""How responses are gathered: plain values, nothing here loads a model."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from trueup.settings.schema import (
    RESUMES,
    STRICT,
    UNFIT,
    Count,
    Escaped,
    Role,
    Text,
    Texts,
    Url,
    Variable,
    one_or_several,
)

Decode = Literal["sample", "greedy", "beam", "diverse-beam"]
ENGINES = tuple(
    one.name.replace("_", "-")
    for one in pkgutil.iter_modules([str(Path(__file__).parents[1] / "sampling" / "engines")])
)
"""The files of `trueup.sampling.engines`; none is imported here."""
if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[ENGINES]


def _offered(engine: object) -> object:
    if engine == "continuous":
        raise PydanticCustomError(
            UNFIT,
            "continuous is not offered any more, as this process samples faster without it; leave sampler.engine "
            "out, or give server with sampler.base_url",
        )
    return engine


class SamplerSettings(BaseModel):
    """Who writes the responses to a prompt, how many, and how they are drawn."""

    model_config = STRICT

    responses: Annotated[Count, Role(common=True)] = 2
    """Responses to each prompt."""
    decode: Decode = "sample"
    """How a response is found: drawn at random, the most likely token each time, or by (diverse) beam search."""
    temperature: Annotated[float, Field(gt=0), Role(common=True)] = 1.0
    """Logits are divided by it before a token is drawn."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the most likely tokens that together have this probability are drawn from."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only this many of the most likely tokens are drawn from; 0 is all."""
    max_new_tokens: Annotated[Count | None, Role(common=True)] = None
    """Longest response, in tokens. Left out: 128, or half of what the model was made for if that is less."""
    stop: Annotated[tuple[Text, ...], BeforeValidator(one_or_several), Escaped()] = ()
    """Texts that end a response where they begin, such as "\\n\\nHuman:"."""
    diversity_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Of diverse beam search: taken off a token's log-probability for every earlier group that chose it."""
    models: Texts = ()
    """Further models whose responses join those of the policy, each writing as many."""
    engine: Annotated[Engine, BeforeValidator(_offered)] = "in-process"
    """What computes them: this process, or a server."""
    base_url: Url | None = None
    """Address of the server, as in http://localhost:8000/v1."""
    server_model: Text | None = None
    """The name the server knows the model by. Left out: the only one it has."""
    key_variable: Annotated[Variable, RESUMES] = "TRUEUP_API_KEY"
    """Environment variable that holds the server's key, if it wants one."""
    concurrency: Annotated[Count, RESUMES] = 16
    """Requests to the server at a time."""
    timeout: Annotated[float, Field(gt=0), RESUMES] = 300.0
    """Seconds to wait for an answer of the server."""
    resync: Count = 1
    """Optimizer steps after which the sampling policy becomes the one that is trained (OP-k of the RRHF paper)."""

    @model_validator(mode="after")
    def _relations(self) -> SamplerSettings:
        if self.engine == "server" and self.base_url is None:
            raise ValueError("sampler.engine server needs sampler.base_url, as in http://localhost:8000/v1")
        if self.server_model is not None and self.engine != "server":
            raise ValueError(
                f"sampler.server_model is given, but sampler.engine is {self.engine}; give --sampler.engine server"
            )
        if self.base_url is not None and self.engine != "server":
            raise ValueError(
                f"sampler.base_url is given, but sampler.engine is {self.engine}; give --sampler.engine server"
            )
        if self.engine != "in-process" and self.decode in ("beam", "diverse-beam"):
            raise ValueError(
                f"sampler.decode {self.decode} is computed in this process only; leave sampler.engine out"
            )
        if self.decode == "greedy" and self.responses > 1:
            raise ValueError(
                f"sampler.decode greedy gives one response to a prompt, not {self.responses}; give --sampler.responses "
                "1, or draw them"
            )
        return self
