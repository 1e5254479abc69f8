"""How responses are gathered, and what `trueup sample` and `annotate` are told: plain values, nothing loads a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from trueup.settings import annotator_settings as judging
from trueup.settings import data_settings, schema
from trueup.settings.schema import COMMON, RESUMES, SAME_RESULT, Amount, Count, Role, Settings, Text, Texts

OUTPUT = Role(common=True, affects="nothing")
EXAMPLES = Role(affects="examples")
FIRST = Role(common=True, affects="examples")
JUDGED = Role("Judging them", common=True, forms=judging.ANNOTATORS)
Decode = Literal["sample", "greedy", "beam", "diverse-beam"]
ENGINES = schema.modules_of("sampling", "engines")
_FILES = {one: Path(__file__).parents[1] / f"sampling/engines/{one.replace('-', '_')}.py" for one in ENGINES}
SERVED = [one for one, file in _FILES.items() if "\nSERVED = True\n" in file.read_text(encoding="utf-8")]
"""Engines whose file says so; it is read and not imported, as it imports torch."""
if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[ENGINES]


class SamplerSettings(Settings):
    """Who writes the responses to a prompt, how many, and how they are drawn."""

    responses: Annotated[Count, COMMON] = 2
    """Responses to each prompt."""
    decode: Decode = "sample"
    """How a response is found: drawn at random, the most likely token each time, or by (diverse) beam search."""
    temperature: Annotated[float, Field(gt=0), COMMON] = 1.0
    """Logits are divided by it before a token is drawn."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the most likely tokens that together have this probability are drawn from."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only this many of the most likely tokens are drawn from; 0 is all."""
    max_new_tokens: Annotated[Count | None, COMMON] = None
    """Longest response, in tokens. Left out: 128, or half of what the model was made for if that is less."""
    stop: Annotated[tuple[Text, ...], BeforeValidator(schema.one_or_several), Role(escaped=True)] = ()
    """Texts that end a response where they begin, such as "\\n\\nHuman:"."""
    diversity_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Of diverse beam search: taken off a token's log-probability for every earlier group that chose it."""
    models: Texts = ()
    """Further models whose responses join those of the policy, each writing as many."""
    engine: Engine = "in-process"
    """What computes them: this process, or a server."""
    base_url: schema.Urls | None = None
    """Address of the server, as in http://localhost:8000/v1. Of several with the same model the least busy is asked."""
    server_model: Text | None = None
    """The name the server knows the model by. Left out: the only one it has."""
    key_variable: Annotated[schema.Variable, RESUMES] = "TRUEUP_API_KEY"
    """Environment variable that holds the server's key, if it wants one."""
    concurrency: Annotated[Count, RESUMES] = 16
    """Requests to the server at a time."""
    timeout: Annotated[float, Field(gt=0), RESUMES] = 300.0
    """Seconds to wait for an answer of the server."""
    transfer: Annotated[Literal["folder", "nccl"], RESUMES] = "folder"
    """How every weight reaches vLLM while training: by a folder, or by NCCL (`pip install trueup[vllm]` here, too)."""
    resync: Count = 1
    """Optimizer steps after which the sampling policy becomes the one that is trained (OP-k of the RRHF paper)."""

    def check(self) -> None:
        if self.served and self.base_url is None:
            raise ValueError("sampler.engine server needs sampler.base_url, as in http://localhost:8000/v1")
        for name in () if self.served else ("server_model", "base_url"):
            if getattr(self, name) is not None:
                raise ValueError(f"sampler.{name} is given, but sampler.engine is {self.engine}; give engine server")
        if self.served and self.decode in ("beam", "diverse-beam"):
            here = "is computed in this process only; leave sampler.engine out"
            raise ValueError(f"sampler.decode {self.decode} {here}")
        if self.decode == "greedy" and self.responses > 1:
            raise ValueError(f"sampler.decode greedy gives one response; got sampler.responses {self.responses}")

    @property
    def served(self) -> bool:
        return self.engine in SERVED


def _one_response(value: Any) -> Any:
    return {"responses": 1} | value if isinstance(value, dict) else value


OneResponse = Annotated[SamplerSettings, BeforeValidator(_one_response)]
Trust = Annotated[bool, SAME_RESULT, Field(description="Run Python code that lies in the model's folder.")]
TEMPLATE = "File with a Jinja chat template. Left out: the tokenizer's."
Template = Annotated[str | None, Field(description=TEMPLATE)]
SHARD = "Do one of several shares of the work, as in 3/16; --merge puts together what all of them write."
Shard = Annotated[schema.Shard | None, SAME_RESULT, Field(description=SHARD)]
DEVICE = "Where a model computes. auto is the GPU if there is one."
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description=DEVICE)]
LENGTH = "Most tokens of a prompt and a response together. Left out: what the model was made for."
Length = Annotated[int | None, Field(ge=2, description=LENGTH), Role("Model and machine")]
COUNT = "Ask the first prompts only, this many."
First = Annotated[Count | None, FIRST, Field(description=COUNT)]


class SampleSettings(Settings):
    """What to sample, from whom, and what becomes of it."""

    model: Annotated[Texts, Role("What to sample", common=True)] = ()
    """Folder of a model or PEFT adapter that writes responses; OWNER/NAME of the hub; or world, the built-in one."""
    data: Annotated[Texts, FIRST] = ()
    """Files with prompts, or with feedback on prompts; hub:OWNER/NAME; or world:prompts, world:pairs, ..."""
    output: Annotated[Text, OUTPUT]
    """A .jsonl or .jsonl.gz file for the candidates."""
    count: First = None
    keep_responses: bool = True
    """Keep the responses the data have already, with what is said of them, beside the new ones."""
    seed: Annotated[Amount, COMMON] = 0
    """Seed of all that is drawn."""
    skip_bad: Annotated[Amount, EXAMPLES] = 0
    """How many unreadable rows of feedback to leave out."""
    columns: data_settings.Columns = ()
    values: data_settings.Values = ()
    chat: Annotated[bool | None, EXAMPLES] = None
    """Make of raw prompts a turn of the user, as `trueup train` does."""
    overwrite: Annotated[bool, OUTPUT] = False
    """Replace the output if it is there."""
    shard: Shard = None

    sampler: Annotated[SamplerSettings, Role("How responses are drawn")] = SamplerSettings()
    """How responses are sampled."""

    annotator: Annotated[judging.AnnotatorChoice | None, JUDGED] = None
    """Who judges the responses right away."""
    best: Annotated[bool, FIRST] = False
    """Keep only the response that is judged best of each prompt."""

    max_length: Length = None
    max_prompt_length: Count | None = None
    """Most tokens of a prompt; a longer one loses its beginning. Left out: a prompt without room gets no response."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the computation. auto is bf16 where the device is faster with it."""
    device: Device = "auto"
    trust_remote_code: Trust = False
    eos_token: str | None = None
    """Token that ends a response. Left out: the tokenizer's."""
    chat_template: Template = None

    def check(self) -> None:
        if not self.data:
            raise ValueError("data is required: files with prompts or feedback, or world:prompts")
        if not self.model and not self.sampler.served:
            raise ValueError("model is required: a model's folder, world, or engine server with a server's base_url")
        if self.sampler.served and len(self.model) > 1:
            raise ValueError("several models are given, but a server writes as one; give its tokenizer's alone")
        if self.sampler.models:
            raise ValueError("sampler.models is for training; give model several times")
        if self.best and self.annotator is None:
            raise ValueError("best needs an annotator that judges the responses, as in --annotator reward:FOLDER")
        if len(set(self.model)) < len(self.model):
            raise ValueError("a model is given twice; give it once, and more responses")


class AnnotateSettings(Settings):
    """What to judge or to rewrite, and by whom."""

    data: Annotated[Texts, Role("What to judge", common=True, affects="examples")] = ()
    """Files with feedback or samples, hub:OWNER/NAME, or world:pairs, ..."""
    output: Annotated[Text, OUTPUT]
    """A .jsonl or .jsonl.gz file for the judged examples."""
    skip_bad: Annotated[Amount, EXAMPLES] = 0
    """How many unreadable rows to leave out."""
    columns: data_settings.Columns = ()
    values: data_settings.Values = ()
    overwrite: Annotated[bool, OUTPUT] = False
    """Replace the output if it is there."""
    shard: Shard = None
    annotator: Annotated[judging.AnnotatorChoice, Role("Who judges", common=True, forms=judging.ANNOTATORS)]
    """Who judges the responses."""
    seed: Amount = 0
    """Seed of an annotator's noise."""
    device: Device = "auto"
    trust_remote_code: Trust = False

    rewrite: Annotated[bool, Role("Writing demonstrations instead", common=True)] = False
    """Judge nothing, but have the annotator's model write demonstrations that take the place of chosen responses."""
    rewrite_template: Text = "answer"
    """What it is asked: answer (the conversation), improve (the chosen response), or a file with a Jinja template."""
    rewrite_tokens: Count = 1024
    """Longest demonstration, in tokens."""
    rewrite_temperature: Annotated[float, Field(ge=0)] = 0.0
    """Temperature the demonstrations are drawn at; 0 takes the most likely token each time."""

    @model_validator(mode="before")
    @classmethod
    def _annotator_is_given(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("annotator") is None:
            raise ValueError(f"annotator is required, to say who judges: give {judging.ANNOTATORS}")
        return values

    def check(self) -> None:
        if not self.data:
            raise ValueError("data is required: files with responses to judge")
        if not self.rewrite:
            if unused := sorted(name for name in self.model_fields_set if name.startswith("rewrite_")):
                how = "says how demonstrations are written"
                raise ValueError(f"{unused[0]} {how}; add --rewrite, or leave it out")
        elif self.annotator.about.asker is None:
            instead = "give openai with its base_url and model"
            raise ValueError(f"rewrite needs an endpoint, and annotator.kind is {self.annotator.kind}; {instead}")
        given, kind = vars(self.annotator), type(self.annotator)
        for name in self.annotator.about.files if self.rewrite else ():
            if given[name] != getattr(kind, name, given[name]):
                instead = "and with rewrite nothing is judged; give rewrite_template"
                raise ValueError(f"annotator.{name} is what a judge is asked, {instead}")


OF_TRAINING = ("models", "resync")
OF_SERVERS = ("engine", "base_url", "server_model", "key_variable", "concurrency", "timeout")
NOT_HERE = tuple(f"sampler.{name}" for name in (*OF_TRAINING, *OF_SERVERS))


class EvaluateSettings(Settings):
    """Which models to look at side by side, on what, and by whom."""

    models: Annotated[Texts, Role("What to evaluate", common=True)] = ()
    """Runs, checkpoints, models or adapters, world, or files with responses."""
    prompts: Annotated[Texts, FIRST] = ()
    """What to ask: files with prompts or feedback; hub:OWNER/NAME; or world:prompts. Left out: those of the files."""
    output: Annotated[Text, OUTPUT] = "evaluation"
    """A folder for evaluation.json and responses.jsonl."""
    count: First = None
    seed: Annotated[Amount, COMMON] = 0
    """Seed of all that is drawn."""
    skip_bad: Amount = 0
    """How many unreadable rows to leave out."""
    columns: data_settings.Columns = ()
    values: data_settings.Values = ()
    chat: bool | None = None
    """Make of raw prompts a turn of the user, as `trueup train` does."""
    overwrite: Annotated[bool, OUTPUT] = False
    """Replace the evaluation that is there; what it found and still holds is not done again."""

    judge: Annotated[judging.JudgeChoice | None, Role("Who judges", common=True, forms=judging.JUDGES)] = None
    """Who compares the responses of two models, in both orders."""
    against: Annotated[Text | None, COMMON] = None
    """Compare every model with this one only. Left out: every two of them."""
    rate: Annotated[Texts, COMMON] = ()
    """What the judge rates: coherence, correctness, detail, helpfulness, harmlessness, or a sentence of yours."""
    reward: Annotated[judging.ScorerChoice | None, Role(common=True, forms=judging.REWARD_FORMS)] = None
    """What scores every response."""

    reference: Annotated[Text | None, Role("What else to measure", common=True)] = None
    """The model that divergence is measured from. Left out: of a run, the model it began with."""
    fluency: Annotated[Text | None, COMMON] = None
    """A third model, under which the perplexity of the responses is measured."""
    held_out: Annotated[Texts, COMMON] = ()
    """Files of feedback on which implicit rewards and the reward are measured, each by itself and all together."""

    sampler: Annotated[OneResponse, Role("How responses are drawn")] = SamplerSettings(responses=1)
    """How responses are sampled."""
    max_length: Length = None
    device: Device = "auto"
    trust_remote_code: Trust = False
    chat_template: Template = None

    def check(self) -> None:
        if not self.models:
            raise ValueError("models is required: runs, models or files with responses to look at")
        if twice := [name for name in self.models if self.models.count(name) > 1]:
            raise ValueError(f"{twice[0]} is given twice; give each model once")
        if self.rate and self.judge is None:
            raise ValueError(f"rate needs a judge who rates: give judge {judging.JUDGES}")
        if self.against is not None and self.against not in self.models:
            raise ValueError(f"against {self.against}: it is none of the models given; give it there, too")


class ChatSettings(Settings):
    """Which model to talk to, or which two, and what is kept."""

    model: Annotated[Text, Role("Chat", common=True)]
    """A run, a checkpoint, a model or adapter, or world."""
    against: Annotated[Text | None, COMMON] = None
    """Another one: both answer, blind and in random order, and you say which is better."""
    keep: Annotated[Text | None, COMMON] = None
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
    sampler: Annotated[OneResponse, Role("How answers are drawn")] = SamplerSettings(responses=1)
    """How answers are drawn."""
    max_length: Length = None
    device: Device = "auto"
    trust_remote_code: Trust = False
    chat_template: Template = None

    def check(self) -> None:
        if self.keep is not None and self.against is None:
            raise ValueError("keep is for preferences between two models; give --against, too")
        if self.keep is not None and not self.keep.endswith(".jsonl"):
            only = "only JSON lines are added to; give a name that ends in .jsonl"
            raise ValueError(f"keep {self.keep}: {only}")
        if self.turn.count("{text}") != 1:
            raise ValueError("turn has to hold {text} once, which stands for the line you write")
