"""What a run learns from: read before a model is loaded, made into token groups and a source once it is there.
There is one way from examples to token groups, for offline, sampled, replayed and held-out examples: `Preprocessing`.
Transforms are fitted, and what they found is kept: it rewrites whatever comes this way later, and what they wrote into
the prompts goes with the model. The view makes groups of text, which no model is needed for; the encoder makes tokens
of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trueup import display, errors, model_folder, words
from trueup.batch import encode, tokenizing, tokens
from trueup.feedback import transforms, turns, views
from trueup.feedback.condition import Condition
from trueup.feedback.records import Comparison, Discarded, Example, Group, Prompt, Response, scores_of
from trueup.methods.method import Method
from trueup.models import causal, load
from trueup.references.reference import Reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import NamedExamples, check_overlap, examples_named, mixed, split
from trueup.sources.source import Batching, Groups, OfflineSource, Source, there
from trueup.training.folder import RunFolder
from trueup.training.step import needs_mismatched

CACHED_FROM = 2000
"""Groups from which on their tokens are kept for other runs; fewer are made as soon as a tokenizer is identified."""
SHOWN_TO_CHECK = 8  # prompts on which it is checked that a condition is not glued to what stands beside it
SCORES = ((1.0, 0.0), (0.5, 0.25), (1e6, -1e6))
"""Two responses may be scored on whatever scale; one that is read at all is enough."""


def examples_of(settings: RunSettings, names: Sequence[str]) -> NamedExamples:
    return examples_named(names, settings, skip_bad=settings.skip_bad, chat=settings.chat)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """A method's way from examples to groups, its transforms fitted; `prompts` are a few that they were fitted on."""

    method: Method
    settings: RunSettings
    fitted: transforms.Fitted
    prompts: Sequence[Prompt] = ()

    @classmethod
    def fit(cls, method: Method, settings: RunSettings, examples: Sequence[Example]) -> "Preprocessing":
        fitted = transforms.fit_all(method.transforms, examples)
        return cls(method, settings, fitted, [example.prompt for example in examples[:SHOWN_TO_CHECK]])

    def rewrite(self, examples: Sequence[Example], *, tell: bool = False) -> tuple[Example, ...]:
        """Examples, training or held out, as the view is shown them; `tell` says which turns are learned."""
        # The turns come after the transforms: two conversations that only begin alike are not one prompt.
        return turns.turns_in_loss(self.fitted.rewrite(examples), self.settings.turns, tell=tell)

    def encoder(self, loaded: load.Loaded) -> encode.Encoder:
        """What makes tokens of the groups; prompts get the model's own condition unless the method wrote another."""
        written = self.fitted.condition
        refuse_hidden(written or loaded.condition, self.settings)
        if written is not None:
            encode.check_condition(written, loaded.tokenizer, self.prompts)
            loaded = replace(loaded, condition=None)
        return asking_encoder(loaded, self.settings)


def asking_encoder(loaded: load.Loaded, settings: RunSettings) -> encode.Encoder:
    """As the model is asked: with its own condition, if it has one, and no longer than it was made for."""
    length, most = settings.max_length, model_folder.context_length(loaded.network.config)
    if most is not None and length > most:
        if "max_length" in settings.model_fields_set:
            raise errors.InputError(
                f"max_length {length} is more than the {most} positions {settings.model} was made for. "
                f"Give --max-length {most} or less"
            )
        length = most
    limits = encode.Limits(length, settings.max_prompt_length)
    network: Any = loaded.network
    return encode.Encoder(
        loaded.tokenizer, end_ids=loaded.end_ids, limits=limits, condition=loaded.condition,
        date=loaded.template_date, opening=settings.answer_opening, raw_meant=settings.chat is False,
        rows=network.get_input_embeddings().num_embeddings,
    )  # fmt: skip


def refuse_annotator(settings: RunSettings, method: Method) -> None:
    """Refuse an annotator of whose judgements the method can use none, tried out on an example."""
    if settings.annotator is None:
        return
    reasons = [_reason(example, method) for example in as_judged(settings.annotator.gives)]
    if all(reasons):
        raise errors.InputError(
            f"annotator {settings.annotator.kind} gives {settings.annotator.gives}, and method {method.name} as it is "
            f"set can use none of them: {reasons[0]}"
        )


def as_judged(gives: str) -> Iterator[Example]:
    """Examples as an annotator that gives scores or comparisons would judge them, on several scales."""
    if gives == "comparisons":
        yield Example(Prompt("a"), (Response("b"), Response("c")), (Comparison(0, 1, 0.9),))
        return
    for better, worse in SCORES:
        yield Example(Prompt("a"), (Response("b", score=better), Response("c", score=worse)))


def _reason(example: Example, method: Method) -> str | None:
    """Why the example is left out; None where it is used, or that depends on what other examples say."""
    try:
        rewritten = transforms.fit_all(method.transforms, [example]).rewrite([example])
    except errors.InputError:
        return None
    viewed = [method.view(one) for one in rewritten]
    reasons = [one.reason for one in viewed if isinstance(one, Discarded)]
    return reasons[0] if reasons and len(reasons) == len(viewed) else None


def encode_round(
    method: Method, settings: RunSettings, encoder: encode.Encoder, examples: Sequence[Example]
) -> tuple[list[tokens.TokenGroup[Any]], Mapping[str, float]]:
    """Make of a round's examples what the method trains on; transforms see this round alone."""
    examples = judged(examples)
    if not examples:
        return [], {}
    viewed = views.look(method.view, Preprocessing.fit(method, settings, examples).rewrite(examples))
    made = tokenizing.tokenize(viewed.groups, encoder)
    lost = {
        "online/not_used": sum(map(len, viewed.discarded.values())),
        "online/too_long": sum(map(len, made.dropped.values())),
        "online/cut": made.responses_cut,
    }
    return made.groups, {name: float(count) for name, count in lost.items() if count}


def judged(examples: Iterable[Example]) -> list[Example]:
    """Those of a round that something was said of; a log has those that a jury left undecided, too."""
    return [one for one in examples if one.comparisons or scores_of([one])]


def written_for(method: Method, settings: RunSettings, examples: Sequence[Example]) -> Condition | None:
    known = judged(examples)
    return Preprocessing.fit(method, settings, known).fitted.condition if known else None


def refuse_hidden(condition: Condition | None, settings: RunSettings) -> None:
    """Refuse a condition that training would not show where it stands when the model is asked."""
    if condition and condition.position == "end" and settings.turns == "all":
        raise errors.InputError(
            f"turns is all, but the model is asked with the condition {condition.words()!r} after the last message, "
            "and the earlier turns would be learned without it. Leave turns at last"
        )
    if condition and condition.position == "start" and settings.max_prompt_length is not None:
        raise errors.InputError(
            f"max_prompt_length {settings.max_prompt_length} cuts the beginning of long prompts, where the condition "
            f"{condition.words()!r} stands. Put the condition at the end, or leave max_prompt_length out"
        )


@dataclass(frozen=True)
class Parts:
    """The rest of a run, as far as its source may need it."""

    settings: RunSettings
    method: Method
    policy: causal.StreamModel
    loaded: load.Loaded
    reference: Reference
    folder: RunFolder
    configuration: Mapping[str, Any]  # how the policy computes with its weights, as it was read
    sampled: Any = None
    """What measures its responses while it trains (`trueup.training.sampled`); None where nothing does."""


@dataclass(frozen=True, slots=True)
class Data:
    """Examples of a run, or what they will be made of."""

    fingerprints: Mapping[str, str]
    source: Callable[[Parts], Source]
    """Makes the source.

    Raises:
        InputError: what was read does not suit the model; or as sampler and annotator raise it.
    """
    prompts: Sequence[Prompt] = ()  # those that are trained on, where they are known


@dataclass(frozen=True, slots=True)
class ViewedFeedback:
    training: Sequence[Group[Any]]
    held_out: Sequence[Group[Any]]
    fingerprints: Mapping[str, str]
    preprocessing: Preprocessing


def view_all(
    settings: RunSettings, method: Method, examples: Sequence[Example], weights: Mapping[str, float] | None = None
) -> ViewedFeedback:
    """View examples as the method does, a part of them or other data held out, and say what became of them.
    The weights are of the sources of a mixture, see `mixed`; what is held out has none."""
    training, held_out = split(examples, settings.eval_fraction, settings.seed)
    fingerprints: Mapping[str, str] = {}
    if settings.eval_data:
        other = examples_of(settings, settings.eval_data)
        held_out, fingerprints = other.examples, other.fingerprints
        check_overlap((one.prompt for one in training), held_out, allowed=settings.allow_overlap)
    preprocessing = Preprocessing.fit(method, settings, training)
    preprocessing.fitted.log()
    rewritten = preprocessing.rewrite(training, tell=True)
    for check in method.checks:
        check(rewritten)
    viewed = views.apply(method.view, rewritten)
    for line in viewed.lines():
        display.data_logger.info(line)
    files = (group.origin.file if group.origin else "" for group in viewed.groups)
    training_groups = mixed(viewed.groups, files, weights or {}, settings.seed)
    return ViewedFeedback(training_groups, view_held_out(preprocessing, held_out), fingerprints, preprocessing)


def view_held_out(preprocessing: Preprocessing, examples: Sequence[Example]) -> Sequence[Group[Any]]:
    """The groups to evaluate on, of examples that nothing is fitted to; and how many there are, told."""
    if not examples:
        return ()
    rewritten = preprocessing.rewrite(examples)
    if not rewritten:
        raise errors.InputError(
            f"evaluation data: none of the {len(examples)} examples holds the rewards that the training data was "
            "measured by. Give evaluation data of the same kind"
        )
    try:
        viewed = views.apply(preprocessing.method.view, rewritten)
    except errors.InputError as error:
        raise errors.InputError(f"evaluation data: {error}") from error
    made = f", {viewed.responses} responses" if len(rewritten) != len(examples) else ""
    used = len(viewed.groups) if len(rewritten) == len(examples) else len(examples)
    display.data_logger.info(f"evaluation on {used} of {len(examples)} held-out examples{made}")
    return viewed.groups


def offline_source(texts: ViewedFeedback, parts: Parts) -> OfflineSource:
    settings = parts.settings
    encoder = texts.preprocessing.encoder(parts.loaded)
    cache = tokenizing.TokenCache(encoder) if settings.token_cache and len(texts.training) >= CACHED_FROM else None
    groups = tokenizing.tokens_of(display.track(texts.training, "tokenizing"), encoder, what="training", cache=cache)
    return source_of(groups, texts.held_out, parts, texts.preprocessing, encoder)


def source_of(
    groups: Groups, held_out_groups: Sequence[Group[Any]], parts: Parts, preprocessing: Preprocessing,
    encoder: encode.Encoder, *, known: Sequence[tokens.TokenGroup[Any]] = (),
) -> OfflineSource:  # fmt: skip
    """Lay out a run's batches; the groups held out are yet to be made tokens of. For `known` see `OfflineSource`."""
    settings, method = parts.settings, parts.method
    if encoder.condition is not None:
        display.data_logger.info(f"every prompt is asked as the model was trained: {encoder.condition.words()!r}")
    held_out = tokenizing.tokens_of(held_out_groups, encoder, what="evaluation") if held_out_groups else []
    if needs_mismatched(method):
        for part, what in ((groups, "training"), (held_out, "evaluation")):
            if len(part) and len({group.prompt.tobytes() for group in there(part)}) < 2:
                raise errors.InputError(
                    f"the {what} data holds one prompt only, but this method measures how likely responses to other "
                    "prompts are. Give feedback on at least two prompts, or choose a method that does without (`trueup "
                    "methods`)"
                )
    epochs = settings.epochs if settings.epochs is not None else 1.0
    total = settings.steps * settings.batch_size if settings.steps else max(1, round(epochs * len(groups)))
    if min(settings.batch_size, total) > len(groups):
        display.data_logger.warning(
            f"batch_size {settings.batch_size} is more than the {words.counted(len(groups), 'example')} there are, so "
            "that some stand several times in one step"
        )
    return OfflineSource(
        groups=groups, held_out_groups=held_out, batching=batching_of(settings, method, encoder),
        batch_size=settings.batch_size, seed=settings.seed, total=total, stratum=method.stratum,
        condition=preprocessing.fitted.condition or parts.loaded.condition, known=known,
    )  # fmt: skip


def batching_of(settings: RunSettings, method: Method, encoder: encode.Encoder) -> Batching:
    """How steps are cut into micro-batches, with mismatched groups where the method measures something on them."""
    pairing = partial(tokens.mismatched, max_length=encoder.limits.max_length) if needs_mismatched(method) else None
    return Batching(method.collate, settings.micro_batch_tokens, pairing)
