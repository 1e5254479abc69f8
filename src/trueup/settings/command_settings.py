"""What commands that need few settings are told: plain values, nothing reads a file."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trueup.settings.data_settings import Columns, HeldOut, Values
from trueup.settings.schema import Amount, Count, Day, Role, Settings, Text, Texts

AS_IN_TRAINING = Field(description="As of `trueup train`.")
Form = Literal["canonical", "pairs", "rankings", "points", "trl"]
RowsOfTRL = Literal["pairs", "points", "demonstrations"]
OF_TOKENS = (
    *("max_length", "max_prompt_length", "turns", "eos_token", "chat_template", "trust_remote_code"),
    *("answer_opening", "template_date", "chat", "show", "row", "ids"),
)
"""Settings of `trueup inspect` that have an effect only where there is a model."""


class InspectSettings(Settings):
    """Which feedback to look at, and how closely."""

    data: Annotated[Texts, Role("Feedback")] = ()
    """Whatever `--data` of `trueup train` takes."""
    eval_data: HeldOut = ()
    """Held-out feedback, compared with the rest."""
    columns: Columns = ()
    values: Values = ()
    strict: bool = False
    """Exit with 2 if there is an error or a warning."""
    min_visible: Amount = 3
    """A response with fewer visible characters is near-empty."""

    model: Annotated[Text | None, Role("Model")] = None
    """Look at tokens too: folder of a model, weights not needed; or world."""
    eos_token: Annotated[str | None, AS_IN_TRAINING] = None
    chat_template: Annotated[str | None, AS_IN_TRAINING] = None
    template_date: Day | None = None
    """As of `trueup train`. Left out: today."""
    trust_remote_code: Annotated[bool, AS_IN_TRAINING] = False

    max_length: Annotated[Annotated[int, Field(ge=2)] | None, Role("Length and tokens")] = None
    """As of `trueup train`. Left out: 1024, or what the model was made for."""
    max_prompt_length: Annotated[Count | None, AS_IN_TRAINING] = None
    turns: Annotated[Literal["last", "all"], AS_IN_TRAINING] = "last"
    answer_opening: Annotated[Literal["inference", "conversation"], AS_IN_TRAINING] = "inference"
    chat: Annotated[bool | None, AS_IN_TRAINING] = None

    show: Annotated[Amount, Role("Examples as tokens")] = 2
    """How many examples to show."""
    row: Texts = ()
    """Which row to show: [FILE:]N."""
    ids: bool = False
    """Show the number of each token."""

    def check(self) -> None:
        if self.model is None and (given := [name for name in OF_TOKENS if name in self.model_fields_set]):
            option = given[0].replace("_", "-")
            raise ValueError(f"--{option} is about tokens; give the folder of a model with --model")


class ConvertSettings(Settings):
    """Which feedback to write, in which form."""

    data: Annotated[Texts, Field(min_length=1), Role("Converting")]
    """Files of any layout, or world:pairs and the like."""
    to: Form
    """Everything as it is; what one view uses, in trueup's own form; or TRL's rows."""
    output: Text
    """A .jsonl or .jsonl.gz file, or - for the standard output."""
    kind: RowsOfTRL | None = None
    """With --to trl, which rows. Left out: pairs if there are comparisons, else points, else demonstrations."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """With --kind points, labels from here on are true and all others false."""
    skip_bad: Amount = 0
    """How many malformed rows to leave out, over all files."""
    columns: Columns = ()
    values: Values = ()
    force: bool = False
    """Replace the output file if it is there."""

    def check(self) -> None:
        if self.kind is not None and self.to != "trl":
            raise ValueError(f"--kind says which of TRL's rows to write; leave it out with --to {self.to}")
        if self.threshold is not None and (self.to != "trl" or self.kind not in (None, "points")):
            points = "--to trl --kind points"
            raise ValueError(f"--threshold makes labels true or false for TRL; give it with {points}")


def _numbers(given: object) -> object:
    found: list[float] = []
    for part in ",".join(given).split(",") if isinstance(given, list) else str(given).split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            instead = "give numbers with commas between, e.g. 0.5,1,2"
            raise ValueError(f"--candidates: {part.strip()!r} is not a finite number; {instead}")
        found.append(value)
    return found


class ConditionSettings(Settings):
    """Which model to ask for which rewards, and what scores its answers."""

    model: Annotated[Text, Role("Asking")]
    """Folder of a model trained by `trueup train ca`."""
    prompts: Annotated[Texts, Field(min_length=1)]
    """What to ask: a file whose rows hold `prompt`, any file of feedback, or world:prompts?count=512&seed=1."""
    reward: Text
    """What scores the answers: FILE.py:FUNCTION, called with prompt and response; or world:gold."""
    candidates: Annotated[tuple[float, ...] | None, BeforeValidator(_numbers)] = None
    """Standardised rewards to ask for, beside the one it asks for now. Left out: the highest of training, 2, 5, 0."""
    count: Count | None = None
    """Ask the first N prompts only."""
    columns: Columns = ()
    values: Values = ()
    seed: int = 0
    """Of the answers; the same for every reward."""
    max_new_tokens: Count | None = None
    """Longest answer in tokens. Left out: 128, or half of the model's positions if that is less."""
    keep: bool = True
    """Have the model ask for the best from now on."""


class ExportSettings(Settings):
    """Which model to write for other programs, and how."""

    source: Annotated[Text, Role("Exporting")]
    """Folder of a run, of one of its checkpoints, or of any model or adapter; or one of the hub."""
    output: Text
    """Folder to write; it must not be there."""
    step: Count | None = None
    """Of a run, the checkpoint to take. Left out: the finished model, or the newest checkpoint."""
    merge: bool = False
    """Add an adapter to the weights it stands on, and write a full model."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What the weights are written in. Left out: as they are, or as the run says."""
    base: Text | None = None
    """What an adapter says it stands on: a folder, or OWNER/NAME on the hub. Left out: the full path of its folder."""
    push: Text | None = None
    """Put the folder on the hub too, as OWNER/NAME; private, with the token in HF_TOKEN."""
    public: bool = False
    """With --push, for everybody to see."""
    trust_remote_code: Annotated[bool, AS_IN_TRAINING] = False

    def check(self) -> None:
        if self.public and self.push is None:
            raise ValueError("--public is about the hub; give --push OWNER/NAME")


class LabelSettings(Settings):
    """Which responses people compare, and how."""

    data: Annotated[Texts, Field(min_length=1), Role("Comparing")]
    """Files of feedback or samples with two responses to a prompt or more."""
    output: Text
    """A .jsonl or .jsonl.gz file for the feedback; what people say is kept at once in OUTPUT.db beside it."""
    criterion: Text = "helpfulness"
    """What is asked: helpfulness, harmlessness, coherence, correctness, detail, or a sentence of yours."""
    gold: Texts = ()
    """Files of pairs with known answers, which are mixed in and tell how often each person is right."""
    gold_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of gold pairs among those shown."""
    repeat_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of pairs that a person has seen before, and that tell how often they say the same again."""
    people: Count | None = None
    """Ask no more people about a pair once so many have compared it. Left out: everybody about every pair."""
    pairs: Count | None = None
    """Most pairs of a prompt. Left out: as many as it has responses, each of which then stands in two."""
    undecided: bool = False
    """Ask only the pairs that no comparison in the files decides, such as those that a jury left open."""
    seed: int = 0
    """Of the order of pairs and of sides."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the page on this machine. 0 takes a free one."""
    export: bool = False
    """Write the output from what is kept, and show no page."""
    skip_bad: Amount = 0
    """How many malformed rows to leave out, over all files."""
    columns: Columns = ()
    values: Values = ()


class ReportSettings(Settings):
    """Which run to write a page of."""

    run: Annotated[Text, Role("Report")]
    """Folder of a run, finished or not."""
    output: Text | None = None
    """The page. Left out: report.html in the run's folder."""
    votes: Texts = ()
    """Files in which people voted, as trueup label writes them: who, how far they agree, and against the judge."""


class CompareSettings(Settings):
    """Which runs to write a page about."""

    runs: Annotated[Texts, Field(min_length=1), Role("Comparing")]
    """Folders of runs, finished or not."""
    evaluation: Texts = ()
    """An evaluation.json of `trueup evaluate`, or its folder, beside those in the folders of the runs."""
    output: Text = "comparison.html"
    """The page."""
