"""What `trueup evaluate` is told: plain values, nothing loads a model."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from trueup.settings import gathering_settings as gathering
from trueup.settings.annotator_settings import JUDGES, REWARD_FORMS, JudgeChoice, ScorerChoice
from trueup.settings.data_settings import Columns, Values
from trueup.settings.schema import SAME_RESULT, STRICT, Amount, Count, Role, Text, Texts

OF_TRAINING = ("models", "resync")
OF_SERVERS = ("engine", "base_url", "server_model", "key_variable", "concurrency", "timeout")
NOT_HERE = tuple(f"sampler.{name}" for name in (*OF_TRAINING, *OF_SERVERS))
"""Settings of the sampler that are no options of the command."""


class EvaluateSettings(BaseModel):
    """Which models to look at side by side, on what, and by whom."""

    model_config = STRICT

    models: Annotated[Texts, Role("What to evaluate", common=True)] = ()
    """Runs, checkpoints, models or adapters, world, or files with responses."""
    prompts: Annotated[Texts, gathering.FIRST] = ()
    """What to ask: files with prompts or feedback; hub:OWNER/NAME; or world:prompts. Left out: those of the files."""
    output: Annotated[Text, gathering.OUTPUT] = "evaluation"
    """A folder for evaluation.json and responses.jsonl."""
    count: Annotated[Count | None, gathering.FIRST] = None
    """Ask the first prompts only, this many."""
    seed: Annotated[Amount, gathering.COMMON] = 0
    """Seed of all that is drawn."""
    skip_bad: Amount = 0
    """How many unreadable rows to leave out."""
    columns: Columns = ()
    values: Values = ()
    chat: bool | None = None
    """Make of raw prompts a turn of the user, as `trueup train` does."""
    overwrite: Annotated[bool, gathering.OUTPUT] = False
    """Replace the evaluation that is there; what it found and still holds is not done again."""

    judge: Annotated[JudgeChoice | None, Role("Who judges", common=True, forms=JUDGES)] = None
    """Who compares the responses of two models, in both orders."""
    against: Annotated[Text | None, gathering.COMMON] = None
    """Compare every model with this one only. Left out: every two of them."""
    rate: Annotated[Texts, gathering.COMMON] = ()
    """What the judge rates every response by: coherence, correctness, detail, helpfulness, harmlessness, or a sentence
    of yours that says what a response has to be."""
    reward: Annotated[ScorerChoice | None, Role(common=True, forms=REWARD_FORMS)] = None
    """What scores every response."""

    reference: Annotated[Text | None, Role("What else to measure", common=True)] = None
    """The model that divergence is measured from. Left out: of a run, the model it began with."""
    fluency: Annotated[Text | None, gathering.COMMON] = None
    """A third model, under which the perplexity of the responses is measured."""
    held_out: Annotated[Texts, gathering.COMMON] = ()
    """Files of feedback on which implicit rewards and the reward are measured, each by itself and all together."""

    sampler: Annotated[gathering.SamplerSettings, Role("How responses are drawn")] = (
        gathering.SamplerSettings(responses=1)
    )
    """How responses are sampled."""
    max_length: Annotated[Annotated[int, Field(ge=2)] | None, Role("Model and machine")] = None
    """Most tokens of a prompt and a response together. Left out: what the model was made for."""
    device: gathering.Device = "auto"
    """Where a model computes. auto is the GPU if there is one."""
    trust_remote_code: Annotated[bool, SAME_RESULT] = False
    """Run Python code that lies in the model's folder."""
    chat_template: str | None = None
    """File with a Jinja chat template. Left out: the tokenizer's."""

    @model_validator(mode="before")
    @classmethod
    def _one_response(cls, values: Any) -> Any:
        """One response to a prompt, unless more are asked for, whatever else is said of sampling."""
        sampler = values.get("sampler") if isinstance(values, dict) else None
        return values | {"sampler": {"responses": 1} | sampler} if isinstance(sampler, dict) else values

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if not self.models:
            raise ValueError("models is required: runs, models or files with responses to look at")
        if twice := [name for name in self.models if self.models.count(name) > 1]:
            raise ValueError(f"{twice[0]} is given twice; give each model once")
        if self.rate and self.judge is None:
            raise ValueError(f"rate needs a judge who rates: give judge {JUDGES}")
        if self.against is not None and self.against not in self.models:
            raise ValueError(f"against {self.against}: it is none of the models given; give it there, too")
        return self
