"""What `trueup evaluate` is told: plain values, nothing loads a model."""

from typing import Annotated, Self

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

    sampler: Annotated[gathering.OneResponse, Role("How responses are drawn")] = gathering.SamplerSettings(
        responses=1
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


class ChatSettings(BaseModel):
    """Which model to talk to, or which two, and what is kept."""

    model_config = STRICT

    model: Annotated[Text, Role("Chat", common=True)]
    """A run, a checkpoint, a model or adapter, or world."""
    against: Annotated[Text | None, gathering.COMMON] = None
    """Another one: both answer, blind and in random order, and you say which is better."""
    keep: Annotated[Text | None, gathering.COMMON] = None
    """A .jsonl file to which each preference is added as feedback."""
    person: Text = "person"
    """Who says which is better; stands with each preference."""
    system: Text | None = None
    """The system's message."""
    chat: bool | None = None
    """Whether to talk in messages. Left out: where all models have a chat template."""
    turn: Annotated[Text, Role(escaped=True)] = "{text}"
    r"""Without messages, what is put behind the text so far, with your line as {text}; such as
    "\n\nHuman: {text}\n\nAssistant:"."""
    seed: Amount = 0
    """Of answers and of sides."""
    sampler: Annotated[gathering.OneResponse, Role("How answers are drawn")] = gathering.SamplerSettings(
        responses=1
    )
    """How answers are drawn."""
    max_length: Annotated[Annotated[int, Field(ge=2)] | None, Role("Model and machine")] = None
    """Most tokens of a conversation. Left out: what the model was made for."""
    device: gathering.Device = "auto"
    """Where a model computes. auto is the GPU if there is one."""
    trust_remote_code: Annotated[bool, SAME_RESULT] = False
    """Run Python code that lies in the model's folder."""
    chat_template: str | None = None
    """File with a Jinja chat template. Left out: the tokenizer's."""

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.keep is not None and self.against is None:
            raise ValueError("keep is for preferences between two models; give --against, too")
        if self.keep is not None and not self.keep.endswith(".jsonl"):
            raise ValueError(
                f"keep {self.keep}: only JSON lines are added to; give a name that ends in .jsonl"
            )
        if self.turn.count("{text}") != 1:
            raise ValueError("turn has to hold {text} once, which stands for the line you write")
        return self
