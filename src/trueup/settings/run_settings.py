"""The settings of a training run that do not belong to its method."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trueup.metrics import TRACKERS
from trueup.settings import gathering_settings, schema
from trueup.settings.annotator_settings import ANNOTATORS, AnnotatorChoice
from trueup.settings.data_settings import Columns, HeldOut, Sources, Values, as_pairs
from trueup.settings.schema import COMMON, RESUMES, SAME_RESULT, Amount, Count, Role, Settings, Text, Texts


def _mapping_or_switch(value: Any) -> Any:
    """`lora: true` is an adapter with its defaults, `lora: false` is none."""
    word = str(value).lower() if isinstance(value, bool | str) else ""
    return {"true": {}, "false": None}.get(word, value)


Schedule = Literal["linear", "cosine", "constant"]
Source = Literal["offline", "online", "replay"]
Positive = Annotated[float, Field(gt=0)]
if TYPE_CHECKING:
    Tracker = str
    Attention = str
else:
    Tracker = Literal[tuple(TRACKERS)]
    Attention = Literal[("auto", *schema.modules_of("models", "attention"))]
KNOWN = Role(common=True, affects="examples", sources=("offline", "replay"))
JUDGED = Role(common=True, affects="examples", gathers=True, forms=ANNOTATORS)
Sampler = gathering_settings.SamplerSettings
GATHERING = Role(common=True, affects="examples", gathers=True)
OFFLINE = Role(common=True, affects="examples", sources=("offline",))
IN_ROUNDS = Role(common=True, sources=("online", "replay"))
HELD_OUT = Role(common=True, affects="nothing", held_out=True)
JUDGING = Role(common=True, affects="nothing", held_out=True, forms=ANNOTATORS)
EITHER = (("epochs", "steps"), ("warmup_steps", "warmup_ratio"), ("eval_data", "eval_fraction"))
"""Settings that say the same thing in two ways: one of them in a layer takes the place of the other below."""
NO_DATA = "data is required: give a file with feedback, hub:OWNER/NAME or world:pairs, or prompts and an annotator"


def _pattern(pairs: tuple[str, ...]) -> tuple[str, ...]:
    for pair in pairs:
        name, _, number = pair.rpartition("=")
        if not (name and number.isdecimal() and int(number)):
            raise schema.unfit(f"must be names with whole numbers, as in q_proj=8; got {pair!r}")
    return pairs


Pattern = Annotated[tuple[str, ...], BeforeValidator(as_pairs), AfterValidator(_pattern), Role(pairs=True)]


class LoraSettings(Settings):
    """A low-rank adapter. Hu et al., 2021, https://arxiv.org/abs/2106.09685."""

    rank: Annotated[Count, COMMON] = 16
    """Rank of the adapter."""
    alpha: Positive | None = None
    """Scale of the adapter: its output is multiplied by alpha / rank. Left out: twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the adapter's inputs that are dropped in training."""
    targets: str | Texts = "all-linear"
    """Names of the layers that get an adapter, or all-linear for every linear layer but the head."""
    rslora: bool = False
    """Multiply by alpha / sqrt(rank) instead. Kalajdzievski, 2023, https://arxiv.org/abs/2312.03732."""
    dora: bool = False
    """Train the norm of each row of a weight, too. Liu et al., 2024, https://arxiv.org/abs/2402.09353."""
    modules_to_save: Texts = ()
    """Names of modules of which a whole copy is trained, and saved with the adapter, such as lm_head."""
    rank_pattern: Pattern = ()
    """Ranks of some layers, by the end of their names, as in down_proj=32 layers.0.self_attn.q_proj=4."""
    alpha_pattern: Pattern = ()
    """The same for alpha; a layer with a rank of its own has the alpha of all others otherwise."""


class ParallelSettings(Settings):
    """How the weights lie over several processes, as `torchrun` starts them."""

    shard: Annotated[Count | None, SAME_RESULT] = None
    """Processes that share one copy of the weights. Left out: all, or as many as make parallel.replicate copies."""
    replicate: Annotated[Count | None, SAME_RESULT] = None
    """Copies of the weights. Left out: 1, or as many as parallel.shard leaves room for."""


Passes = Annotated[float, Field(gt=0, le=1e9)]
Steps = Annotated[int, Field(ge=1, le=10**12)]
"""More would never end."""


class WatchSettings(Settings):
    """From where on figures of a run mean trouble, which is warned of and told with the finished model."""

    drift: Positive = 5.0
    """Mean log-ratio to the reference, in nats a token. A model that knows nothing is about 8 below a good one."""
    sampled_drift: Positive = 1.0
    """KL divergence of sampled responses to the reference, in nats a token. Runs that gain by it stay below 0.1."""
    margin: Positive = 100.0
    """Mean difference of the rewards of chosen and rejected responses. From 40 on a logistic loss is 0."""
    chosen: Positive = 1.0
    """Nats a token that chosen responses may lose to the reference: at 1 every token is e times less likely."""
    length: Annotated[float, Field(gt=1)] = 3.0
    """How many times as long or as short as in the first round sampled responses may become."""
    distinct: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the variety of the first round below which sampled responses have collapsed."""
    gap: Positive = 0.05
    """Mean difference of log-probabilities, sampler's and trainer's, in nats a token. Rounding alone stays below."""
    moved: Positive = 0.1
    """Change of the first responses' log-probabilities, in nats, or scores, below which nothing was learned."""
    accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.55
    """Share of pairs that a reward model has to order rightly. Chance is 0.5, and people agree in about 0.7."""


class RunSettings(Settings):
    """What to train, on what, how long, how fast, and what to write."""

    model: Annotated[Text, Role("The run", common=True)]
    """Folder of a model or PEFT adapter; OWNER/NAME or OWNER/NAME@REVISION of the hub; or world, the built-in one."""
    data: Annotated[Sources, KNOWN] = ()
    """Files with feedback, hub:OWNER/NAME, or world:pairs, world:rankings, ... Each may have a weight, how often its
    examples stand in a pass, and a limit: {path, weight, limit} in YAML, FILE?weight=2&limit=1000 as one text."""
    output: Annotated[Text, Role(common=True, affects="nothing")]
    """Folder of the run; made if absent."""
    eval_data: Annotated[HeldOut, HELD_OUT] = ()
    """Files with held-out feedback, each of which may have a limit, as in data."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1), OFFLINE] = 0.0
    """Fraction of the data that is held out for evaluation, all examples of a prompt together."""
    allow_overlap: Annotated[bool, SAME_RESULT] = False
    """Evaluate although prompts of eval_data are also trained on, with a warning."""
    eval_prompts: Annotated[Texts, HELD_OUT] = ()
    """Files with held-out prompts, or world:prompts: what is written to them is measured every eval_every steps."""
    eval_by: Annotated[AnnotatorChoice | None, JUDGING] = None
    """Who judges that against what the start model wrote. Left out: the run's own annotator."""
    run_name: Annotated[str | None, SAME_RESULT] = None
    """Name shown by trackers and in the model card. Left out: the output folder's name."""
    source: Annotated[Source, Role("Gathering feedback", common=True, affects="examples")] = "offline"
    """Where examples come from: gathered beforehand; sampled and judged while training; or an online run's log."""
    prompts: Annotated[Texts, GATHERING] = ()
    """Files with prompts to sample responses to, or world:prompts. Offline they are all sampled before training."""
    annotator: Annotated[AnnotatorChoice | None, JUDGED] = None
    """Who judges the responses sampled."""
    sampler: Annotated[Sampler, Role(affects="examples", gathers=True)] = Sampler()
    """How responses are sampled."""
    round_prompts: Annotated[Amount | None, GATHERING] = None
    """Prompts sampled at a time, online; 0 is all of them. Left out: batch_size, those of one optimizer step."""
    round_passes: Annotated[Count, IN_ROUNDS] = 1
    """Passes over what was sampled at a time."""
    reward_kl: Annotated[float, Field(ge=0), Role(affects="examples", gathers=True)] = 0.0
    """beta of the KL penalty in the reward, online: beta log(pi / pi_ref)(y | x) is taken off every score."""

    epochs: Annotated[Passes | None, Role("Length and batches", common=True, affects="examples")] = None
    """Passes over the data. Left out: 1, unless steps is given."""
    steps: Annotated[Steps | None, COMMON] = None
    """Optimizer steps, instead of epochs."""
    batch_size: Annotated[Count, COMMON] = 32
    """Examples per optimizer step."""
    micro_batch_tokens: Annotated[int, Field(ge=0)] = 0
    """Most tokens in one forward pass; fewer where there is less memory, or it runs out in mid-step. It sets memory and
    speed, not the result: a step sums its passes. 0: 8192 on a GPU; on a CPU 1024, and up to 8192 for a small model."""
    max_length: Annotated[int, Field(ge=2), COMMON] = 1024
    """Most tokens of a prompt and one of its responses together."""
    max_prompt_length: Count | None = None
    """Most tokens of a prompt. Left out: max_length alone limits it."""
    turns: Literal["last", "all"] = "last"
    """Which assistant turns of a conversation are in the loss: those after the last request, or all of them."""
    answer_opening: Literal["inference", "conversation"] = "inference"
    """What becomes of answers that a chat template writes otherwise in a conversation than it asks for them: they are
    refused, or learned as the conversation has them."""
    chat: Annotated[bool | None, Role(affects="examples")] = None
    """Make of raw texts a turn of each. Left out: they stay, with a warning where the model has a chat template."""
    skip_bad: Annotated[Amount, Role(affects="examples")] = 0
    """How many unreadable rows to leave out, with a warning, before the run is refused."""
    columns: Columns = ()
    values: Values = ()
    lazy: Annotated[bool | None, Role(affects="examples")] = None
    """Read rows when a step needs them. Left out: of files over 8 MB and 200,000 rows, unless something needs all."""
    token_cache: Annotated[bool, RESUMES] = True
    """Keep the tokens of large data in the cache's folder, so that another run need not make them again."""

    learning_rate: Annotated[Positive | None, Role("Optimization", common=True)] = None
    """Learning rate after warm-up. Left out: the method's default."""
    schedule: Schedule = "linear"
    """How the learning rate falls after warm-up: to 0 in a line or a cosine, or not at all."""
    warmup_steps: Amount = 0
    """Optimizer steps over which the learning rate rises from 0."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The same as a fraction of all steps."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What moves the matrices of layers: muon makes their updates orthogonal, at AdamW's size; AdamW moves the rest."""
    optimizer_states: Literal["fp32", "bf16", "8bit"] = "fp32"
    """How AdamW's moments are held: 8, 4 or 2 bytes a weight. The shorter ones are rounded at random, and slower."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's running mean of the gradient."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's running mean of the squared gradient."""
    adam_epsilon: Positive = 1e-8
    """Added to AdamW's denominator."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients with a larger norm are scaled down to it; 0 turns that off."""

    lora: Annotated[LoraSettings | None, BeforeValidator(_mapping_or_switch), COMMON] = None
    """Train a low-rank adapter instead of every weight."""
    quantize: Literal["nf4", "fp4"] | None = None
    """Hold weights under an adapter in 4 bits (`trueup[quantize]`). Dettmers et al., 2023, https://arxiv.org/abs/2305.14314."""

    precision: Annotated[Literal["auto", "fp32", "bf16"], Role("Model and machine")] = "auto"
    """Precision of the computation; weights stay in fp32. auto is bf16 where the device is faster with it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute. auto is the GPU if there is one."""
    threads: Count | None = None
    """CPU threads. Left out: 1 where a step is very small, else as torch chooses."""
    attention: Attention = "auto"
    """How shared prompts are computed. auto takes the fastest that the device has and that is exact for the model."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""
    compile: bool = False
    """Compile decoder layers, of one process that samples nothing; the first step takes a minute longer."""
    parallel: ParallelSettings = ParallelSettings()
    trust_remote_code: gathering_settings.Trust = False
    eos_token: str | None = None
    """Token that ends a response. Left out: the tokenizer's."""
    chat_template: gathering_settings.Template = None
    template_date: schema.Day | None = None
    """What a chat template writes for today, such as 2026-11-30. Left out: the day on which the run begins."""

    seed: Annotated[Amount, Role("Progress and output", common=True)] = 0
    """Seed of everything that is random."""
    eval_every: Annotated[Count | None, RESUMES] = None
    """Optimizer steps between evaluations. Left out: only when the run ends."""
    accept_changed: Annotated[bool, RESUMES] = False
    """Go on although what judges or samples beside the policy has changed; from here on it judges as it is now."""
    keep_best: Text | None = None
    """Finish with the model of the best step by eval_loss, eval_rewards/accuracies, ..., or online/score."""
    early_stopping: Count | None = None
    """End the run when so many evaluations in a row were no better by the metric of keep_best; left out: eval_loss or,
    without held-out feedback, online/score of every round."""
    save_every: Annotated[Count | None, RESUMES] = None
    """Optimizer steps between checkpoints. Left out: ten times in the run. Stopping saves too."""
    keep_checkpoints: Annotated[Count | None, RESUMES] = None
    """How many of the newest checkpoints to keep. Left out: 2 while the run goes on, 1 once it is done."""
    watch: Annotated[WatchSettings, RESUMES] = WatchSettings()
    """From where on figures mean trouble."""
    log_every: Annotated[Count, RESUMES] = 1
    """Optimizer steps between lines of metrics."""
    trackers: Annotated[tuple[Tracker, ...], BeforeValidator(schema.one_or_several), RESUMES] = ()
    """Where metrics go beside metrics.jsonl."""
    save_dtype: Annotated[Literal["float32", "bfloat16", "float16"], SAME_RESULT] = "float32"
    """Precision of the weights of the finished model."""

    @model_validator(mode="before")
    @classmethod
    def _one_epoch(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is None and values.get("steps") is None:
            return {**values, "epochs": 1.0}
        return values

    def check(self) -> None:
        for pair in EITHER:
            given = {name: getattr(self, name) for name in pair}
            if all(given.values()):
                told = (name if isinstance(one, tuple) else f"{name} {one:g}" for name, one in given.items())
                raise ValueError(f"{' and '.join(told)} are both given; give one")
        if self.steps is not None and self.warmup_steps > self.steps:
            longer = f"is longer than the run's {self.steps} steps"
            raise ValueError(f"warmup_steps {self.warmup_steps} {longer}; give fewer, or a warmup_ratio")
        self._check_source()
        if self.compile and (self.prompts or self.eval_prompts):
            raise ValueError("compile is for runs that sample nothing; leave out compile, or prompts and eval_prompts")
        if self.optimizer == "muon" and self.optimizer_states != "fp32":
            states = f"optimizer_states {self.optimizer_states}"
            raise ValueError(f"{states} is AdamW's, and optimizer is muon; give one")
        if self.eval_by and not self.eval_prompts:
            raise ValueError("eval_by judges what is written to eval_prompts; give those")
        if self.eval_every is not None and not (self.eval_data or self.eval_fraction or self.eval_prompts):
            parts = "eval_data or eval_fraction" if self.source == "offline" else "eval_data"
            raise ValueError(f"eval_every {self.eval_every} needs held-out feedback; give {parts}")
        if self.max_prompt_length is not None and self.max_prompt_length >= self.max_length:
            room = f"leaves no room for a response within max_length {self.max_length}"
            raise ValueError(f"max_prompt_length {self.max_prompt_length} {room}; give a smaller one")

    @property
    def eval_choice(self) -> AnnotatorChoice | None:
        return self.eval_by or self.annotator

    @property
    def sampled_metrics(self) -> tuple[str, ...]:
        choice = self.eval_choice if self.eval_prompts else None
        return () if choice is None else ("eval_wins", "eval_score")[: 1 + (choice.gives == "scores")]

    @property
    def best_by(self) -> str | None:
        """The metric that says which step is best; None where nothing asks for that."""
        if self.keep_best or not self.early_stopping:
            return self.keep_best
        return "online/score" if self.source == "online" and not self.eval_data else "eval_loss"

    @property
    def gathers(self) -> bool:
        return self.annotator is not None and self.source != "replay"

    def _check_source(self) -> None:
        if self.source != "offline" and self.eval_fraction:
            raise ValueError(f"eval_fraction holds out a part of data, and source is {self.source}; give eval_data")
        match self.source:
            case "offline":
                self._check_offline()
            case "online":
                self._check_online()
            case "replay" if not self.data:
                raise ValueError("data is required when source is replay: give an online run's examples.jsonl")

    def _check_offline(self) -> None:
        if self.prompts and self.annotator is None:
            judge = "give an annotator or a reward"
            raise ValueError(f"prompts are given but no annotator to judge the responses; {judge}")
        if self.annotator is not None and not self.prompts:
            raise ValueError("an annotator is given but nothing to judge; give prompts to sample responses to")
        if not (self.data or self.prompts):
            raise ValueError(NO_DATA)
        of_rounds = {
            "round_prompts": self.round_prompts is not None,
            "round_passes": self.round_passes > 1,
            "reward_kl": self.reward_kl > 0,
            "sampler.resync": self.sampler.resync > 1,
        }
        if given := [name for name, differs in of_rounds.items() if differs]:
            how = "say how examples are gathered while training"
            raise ValueError(f"{' and '.join(given)} {how}; give source online, or leave them out")

    def _check_online(self) -> None:
        if not self.prompts:
            give = "give a file with prompts to sample responses to, or world:prompts"
            raise ValueError(f"prompts are required when source is online: {give}")
        if self.annotator is None:
            judge = f"to judge the responses: give {ANNOTATORS}"
            raise ValueError(f"an annotator is required when source is online, {judge}")
        if self.data:
            instead = "give it as eval_data, or take source replay for the examples.jsonl of an online run"
            raise ValueError(f"data is given, but source is online, which gathers its own; {instead}")
        if self.reward_kl and self.annotator.gives != "scores":
            gives = f"annotator {self.annotator.kind} gives comparisons; give one that scores"
            raise ValueError(f"reward_kl {self.reward_kl:g} is taken off scores, and {gives}")


RESUME_MAY_CHANGE = frozenset(one.path for one in schema.settings_in(RunSettings) if one.role.resume)
"""What may change when a run is resumed: what cannot change its result, or decides whether it goes on at all."""
