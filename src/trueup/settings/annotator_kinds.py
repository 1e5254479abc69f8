"""Who judges responses: plain values. A kind is a class in `AnnotatorChoice`; its `about` says what to know of it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from trueup.settings.schema import RESUMES, SAME_RESULT, STRICT_DATACLASS, Amount, Count, Text, Urls, Variable

Share = Annotated[float, Field(ge=0, le=1)]
Money = Annotated[float, Field(ge=0)]
UNREADABLE = "Share of verdicts that may be unreadable before the run stops."
Unreadable = Annotated[Share, RESUMES, Field(description=UNREADABLE)]
INSTRUCTION = "What to prefer, in words. Left out: the template's own."
Instruction = Annotated[str | None, Field(description=INSTRUCTION)]
PROMPT = "Prompt of the annotator: helpfulness, harmlessness, summary, or a file with a Jinja template."
Template = Annotated[Text, Field(description=PROMPT)]
Gives = Literal["scores", "comparisons"]
Weights = Literal["language model", "reward model"]
IMPROVE = "improve"
RATING = "rating"
_FOUND = {file.stem for file in (Path(__file__).parents[1] / "annotators/templates").glob("*.jinja")}
TEMPLATES = tuple(sorted(_FOUND - {IMPROVE, RATING}, key=lambda name: (name != "helpfulness", name)))


@dataclasses.dataclass(frozen=True, slots=True)
class NamedFile:
    """How a setting names a file by which an annotator judges."""

    give: str
    """What to give, for messages."""
    known: tuple[str, ...] = ()
    """Names that stand for files of trueup's own."""
    function: bool = False
    """Whether it names a function in the file, as FILE:FUNCTION."""

    def path(self, name: str) -> str:
        return name.rpartition(":")[0] if self.function else name


TEMPLATE = NamedFile(f"one of {', '.join(TEMPLATES)}, or a file with a Jinja template", TEMPLATES)
PROMPTED = {"template": TEMPLATE}
FUNCTION = NamedFile("a file with the function, as FILE.py:FUNCTION, as in rewards.py:brevity", function=True)
RUBRIC = NamedFile("a file of text with a criterion on each line")
GOLD = NamedFile("a file of feedback with pairs of which the better one is known")


@dataclasses.dataclass(frozen=True, slots=True)
class AnnotatorKind:
    """What is to be known of a kind of annotator beside its settings."""

    maker: str
    """`MODULE:FUNCTION`, imported where the kind is chosen; it takes the settings and arguments of `make_annotator`."""
    main: str
    """The setting that a name gives: `local:FOLDER` stands for `kind: local` and `model: FOLDER`."""
    forms: tuple[str, ...]
    """Of such names, for messages."""
    weights: Weights | None = None
    """What the folder under `main` holds; None where it is no folder."""
    files: Mapping[str, NamedFile] = dataclasses.field(default_factory=dict)
    """Settings that name a file by which it judges."""
    asker: str | None = None
    """The same of what its model can be asked freely by, as for demonstrations; None where it only judges."""


@dataclass(frozen=True, config=STRICT_DATACLASS)
class LocalAnnotator:
    """A language model in this process, read by the logits of its two answer tokens."""

    model: Text
    """Folder of a causal language model."""
    kind: Literal["local"] = "local"
    gives: ClassVar[Gives] = "comparisons"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.local:load_local_annotator", "model", ("local:FOLDER",), "language model", PROMPTED
    )
    instruction: Instruction = None
    template: Template = "helpfulness"
    max_unreadable: Unreadable = 0.1


@dataclass(frozen=True, config=STRICT_DATACLASS)
class EndpointAnnotator:
    """A language model behind an OpenAI-compatible endpoint."""

    base_url: Urls
    """Address, as in http://localhost:8000/v1. Of several with the same model the least busy is asked."""
    model: Text
    """The name the endpoint knows the model by."""
    kind: Literal["openai"] = "openai"
    gives: ClassVar[Gives] = "comparisons"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.endpoint:load_endpoint_annotator", "model", ("openai",),
        files=PROMPTED, asker="annotators.asker:make_asker",
    )  # fmt: skip
    instruction: Instruction = None
    template: Template = "helpfulness"
    read: Literal["auto", "log-probs", "answer"] = "auto"
    """How a verdict is read: by log-probabilities, by the answer, or by the first where the endpoint gives them."""
    form: Literal["auto", "choice", "free"] = "auto"
    """What an answer is constrained to: a JSON schema, else a choice of labels; a choice of labels (vLLM); nothing."""
    max_answer_tokens: Count | None = None
    """Longest answer in tokens. Left out: 1 or 32, by `read`, and 4096 for a judge that turns out to think first."""
    key_variable: Annotated[Variable, RESUMES] = "OPENAI_API_KEY"
    """Environment variable that holds the key, if the endpoint wants one."""
    concurrency: Annotated[Count, RESUMES] = 16
    """Requests at a time, to all addresses together."""
    timeout: Annotated[float, Field(gt=0), RESUMES] = 60.0
    """Seconds to wait for an answer."""
    deadline: Annotated[float, Field(gt=0), RESUMES] = 600.0
    """Seconds over which a request that fails is tried again."""
    asks: Annotated[Count, SAME_RESULT] = 2
    """How often a question is asked before its verdict counts as unreadable."""
    max_unreadable: Unreadable = 0.1
    max_requests: Annotated[Amount | None, RESUMES] = None
    """Requests after which the run stops, before the one that would exceed it."""
    max_tokens: Annotated[Amount | None, RESUMES] = None
    """Tokens, of questions and answers together, after which it stops."""
    max_cost: Annotated[Money | None, RESUMES] = None
    """Cost after which it stops, in the currency of the prices."""
    input_price: Annotated[Money | None, RESUMES] = None
    """Price of a million tokens of questions."""
    output_price: Annotated[Money | None, RESUMES] = None
    """Price of a million tokens of answers."""
    cache: Annotated[bool, RESUMES] = True
    """Keep judgements on disk, by content, so that none is paid for twice."""

    def __post_init__(self) -> None:
        if self.max_cost is not None and None in (self.input_price, self.output_price):
            prices = "annotator.input_price and annotator.output_price, of a million tokens"
            raise ValueError(f"annotator.max_cost {self.max_cost:g} needs {prices}")


@dataclass(frozen=True, config=STRICT_DATACLASS)
class RewardAnnotator:
    """A reward model: one score a response."""

    model: Text
    """Folder of a sequence-classification model with one output, such as RUN/model of `trueup train reward-model`."""
    kind: Literal["reward"] = "reward"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.local:load_reward_annotator", "model", ("reward:FOLDER",), "reward model"
    )


@dataclass(frozen=True, config=STRICT_DATACLASS)
class LikelihoodAnnotator:
    """A language model that scores a response by its own log-likelihood per token, as RRHF's policy does."""

    model: Text
    """Folder of a causal language model."""
    kind: Literal["likelihood"] = "likelihood"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.local:load_likelihood_annotator", "model", ("likelihood:FOLDER",), "language model"
    )


@dataclass(frozen=True, config=STRICT_DATACLASS)
class FunctionAnnotator:
    """A function of yours: one score a response."""

    function: Text
    """FILE.py:FUNCTION, or python:NAME of an installed package; function(prompt, response) returns a number."""
    kind: Literal["function"] = "function"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.annotator:load_function_annotator", "function", ("FILE.py:FUNCTION",), files={"function": FUNCTION}
    )


@dataclass(frozen=True, config=STRICT_DATACLASS)
class ComparingFunction:
    """A function of yours that compares two responses."""

    function: Text
    """FILE.py:FUNCTION, or python:NAME; function(prompt, first, second): how likely the first is better, 0 to 1."""
    kind: Literal["comparing"] = "comparing"
    gives: ClassVar[Gives] = "comparisons"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.comparing:load_comparing_function",
        "function",
        ("comparing:FILE.py:FUNCTION",),
        files={"function": FUNCTION},
    )


@dataclass(frozen=True, config=STRICT_DATACLASS)
class WorldAnnotator:
    """A reward of the built-in world."""

    reward: Literal["gold", "proxy"] = "gold"
    """Which one."""
    kind: Literal["world"] = "world"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "world.people:load_world_annotator", "reward", ("world:gold", "world:proxy")
    )
    instruction: str | None = None
    """What it cares about, in words of which it knows helpful, short, very short and harmless."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a judgement is turned into its opposite."""


Comparing = LocalAnnotator | EndpointAnnotator | ComparingFunction
Scoring = RewardAnnotator | LikelihoodAnnotator | FunctionAnnotator | WorldAnnotator
Rating = LocalAnnotator | EndpointAnnotator
Instructed = LocalAnnotator | EndpointAnnotator | WorldAnnotator
"""Those that can be told in words what to prefer."""
