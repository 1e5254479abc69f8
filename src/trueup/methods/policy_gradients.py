"""Settings that policy-gradient methods share."""

from typing import Annotated

from pydantic import Field

KLCoef = Annotated[
    float,
    Field(
        ge=0,
        description="beta of the KL penalty in the reward: beta log(pi / pi_ref) is taken off every token's.",
    ),
]
Gamma = Annotated[float, Field(ge=0, le=1, description="Discount of later rewards; 1 counts them all alike.")]
ValueWeight = Annotated[
    float, Field(ge=0, description="Weight of the value head's loss, which trains the policy's body too.")
]
MissingEndPenalty = Annotated[
    float, Field(ge=0, description="Taken off the score of a response that ran out of tokens before its end.")
]
SOURCES = ("online", "replay")
FEEDBACK = "prompts, and a reward that scores the policy's responses to them"
