"""Models in this process as annotators: a language model as a judge, and models that give each response a score.
A judge is read by how likely it finds each of the two labels as its answer. A score is what a reward model gives, or a
language model's own likelihood. All of it is computed through the group stream, a prompt once for all its responses."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from trueup import errors, model_folder, stop
from trueup.annotators import annotator, comparing
from trueup.annotators.judge import Judgements, Question, Unreadable, Verdict
from trueup.annotators.template import load_question, pose
from trueup.batch import chat_template, stream, tokens
from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.batch.pieces import PieceEncoder
from trueup.feedback.condition import Condition
from trueup.feedback.records import DemonstrationRelation, Discarded, Example, Group, Message, Prompt
from trueup.models import causal, load, prepare, reward, selfcheck
from trueup.models.tokenizer import quiet_library
from trueup.settings.annotator_kinds import LikelihoodAnnotator, LocalAnnotator, RewardAnnotator

JUDGE_TOKENS = 8192
SCORE_TOKENS = 16_384
TRIED = ("2 + 2 =", ("4", "5.")), ("Name a fruit.", ("A pear.", "No"))
"""Prompts and responses that a model is tried out on."""
LONGEST_TRIED = 256
LONGEST_CHECKED = 8192
LEADS = ("", " ")  # what a model may write before a label: it is the same answer
NOT_FINITE = Unreadable("the model's log-probabilities are not finite")

Read = Callable[[stream.Stream], torch.Tensor]
Day = Callable[[], str]  # says what a template that writes the date is to write
today = chat_template.today
Model = causal.CausalModel | reward.RewardModel


def read_groups(
    model: Model, read: Read, parts: Iterable[Sequence[tokens.TokenGroup[int]]]
) -> list[tuple[tokens.TokenGroup[int], list[float]]]:
    """Every group with what is read of its responses, one part after the other."""
    found = []
    with torch.no_grad(), model.without_dropout():
        for part in parts:
            stop.check()
            values = iter(read(stream.build_stream(part).to(model.device)).tolist())
            found += [(group, list(islice(values, len(group.responses)))) for group in part]
    return found


class LocalJudge:
    """Reads P(first) = p(label 1) / (p(label 1) + p(label 2)) off a model's next token after the question.
    As Lee et al. (2023, https://arxiv.org/abs/2309.00267) do. A label's probability is that of every token that is the
    label, alone or behind a space. The question is computed once for all of them. A model with a chat template is asked
    by a user's message; any other goes on with the question's text.

    Its totals: `label_mass`, the probability that the model gives to the two labels together. Where the mean over the
    readable verdicts is far below 1, the model would rather say something else, and its verdicts say little."""

    def __init__(self, model: causal.CausalModel, encoder: Encoder, *, name: str) -> None:
        self.model, self.encoder, self.name = model, encoder, name

    def ask(self, questions: Sequence[Question]) -> Judgements:
        longest = self.encoder.limits.max_length
        too_long = Unreadable(f"the question is longer than the {longest} tokens that the model can read")
        verdicts: list[Verdict | Unreadable] = [too_long] * len(questions)
        groups = [group for group in self.groups(questions) if len(group.prompt) < longest]
        mass, parts = 0.0, stream.cut(groups, JUDGE_TOKENS)
        for group, log_probs in read_groups(self.model, lambda one: self.model.log_probs(one).sum, parts):
            verdicts[group.relation], share = _read(log_probs)
            mass += share
        return Judgements(tuple(verdicts), {"label_mass": mass})

    def groups(self, questions: Sequence[Question]) -> list[tokens.TokenGroup[int]]:
        """Each question as a prompt, and its answers, those of the first label before those of the second."""
        rows = {}
        for labels in {question.labels for question in questions}:
            ids = sum(answer_tokens(self.encoder.pieces, labels), ())
            each = (np.array([one], np.int32) for one in ids)
            rows[labels] = tuple(tokens.TokenRow(one, np.ones(1, np.bool_)) for one in each)
        with quiet_library():  # speaks up where a text is long, and here that has a verdict of its own
            return [
                tokens.TokenGroup(np.array(self._ids(question.text), np.int32), rows[question.labels], number)
                for number, question in enumerate(questions)
            ]

    def _ids(self, text: str) -> list[int]:
        """The question as the model reads it; whatever special token it spells is text."""
        tokenizer: Any = self.encoder.tokenizer
        if tokenizer.chat_template is not None:
            return self.encoder.cut_prompt_ids(Prompt((Message("user", text),)))
        ids = list(tokenizer(text, add_special_tokens=True, split_special_tokens=True).input_ids)
        while ids and ids[-1] in self.encoder.end_ids:
            ids.pop()  # a tokenizer that ends what it encodes would end the question before its answer
        return ids


def answer_tokens(pieces: PieceEncoder, labels: tuple[str, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the tokens that are each label, alone or behind a space: as many of both, all different."""
    kept: list[list[int]] = []
    for lead in LEADS:
        pair = [token for label in labels if (token := _single(pieces, lead, label)) is not None]
        if len(pair) == len(labels) and pair not in kept:
            kept.append(pair)
    first, second = (tuple(pair[place] for pair in kept) for place in range(2))
    if not kept or set(first) & set(second):
        raise errors.InputError(
            f"the tokenizer does not write {labels[0]!r} and {labels[1]!r} as one token each, so a verdict cannot be "
            "read off the model's next token; choose another model as the judge"
        )
    return first, second


def _single(pieces: PieceEncoder, lead: str, label: str) -> int | None:
    """The one token that a label is in the middle of a text; None where there is no such token."""
    tokenizer: Any = pieces.tokenizer
    ids = pieces.raw(lead + label, literal=True)
    return ids[0] if len(ids) == 1 and str(tokenizer.decode(ids)).strip() == label else None


def _read(log_probs: Sequence[float]) -> tuple[Verdict | Unreadable, float]:
    """The verdict, and the probability of both labels, of as many log-probabilities each, the first label's first."""
    label_L = torch.tensor(log_probs, dtype=torch.float64).view(2, -1).logsumexp(1)
    if not label_L.isfinite().all():
        return NOT_FINITE, 0.0
    return Verdict(float(torch.sigmoid(label_L[0] - label_L[1]))), float(label_L.exp().sum())


class ModelAnnotator:
    """Gives every response the number that `read` makes of it, [N] of a stream, its prompt being computed once.
    A text that is longer than the model's positions is read without the beginning of its prompt, behind the token that
    begins a sequence; its totals count those (`prompts_cut`) and the responses scored (`scores`). `batch_tokens` are
    computed at a time; without, as on a CPU, one example, so that a score depends on nothing else to the last bit."""

    gives = "scores"

    def __init__(
        self, model: Model, read: Read, encoder: Encoder, *, name: str, batch_tokens: int | None = None
    ) -> None:
        self.model, self.read, self.encoder = model, read, encoder
        self.name, self.batch_tokens = name, batch_tokens

    def annotate(self, examples: Sequence[Example]) -> annotator.Annotated:
        made: list[Example | Discarded] = []
        groups: list[tokens.TokenGroup[int]] = []
        prompts_cut = 0
        for place, example in enumerate(examples):
            stop.check()
            encoded = self._encoded(example, place)
            made.append(encoded if isinstance(encoded, Discarded) else example)
            if not isinstance(encoded, Discarded):
                groups.append(encoded.tokens)
                prompts_cut += encoded.prompt_cut
        alone, most = [[group] for group in groups], self.batch_tokens
        parts = alone if most is None else stream.cut(groups, most)
        for group, scores in read_groups(self.model, self.read, parts):
            made[group.relation] = annotator.with_scores(examples[group.relation], scores, self.name)
        responses = sum(len(group.responses) for group in groups)
        totals = {"scores": float(responses), "prompts_cut": float(prompts_cut)}
        return annotator.Annotated(tuple(made), totals)

    def _encoded(self, example: Example, place: int) -> EncodedGroup[int] | Discarded:
        """An example's ids, marked with its place; of its prompt what there is room for."""
        group = Group(example.prompt, tuple(response.content for response in example.responses), place)
        positions = self.encoder.limits.max_length
        # the library speaks up where a text is long, which is seen to here
        with errors.naming(example.origin), errors.naming(self.name), quiet_library():
            if not isinstance(example.prompt.content, str) and self.encoder.tokenizer.chat_template is None:
                raise errors.InputError(
                    "the prompt is a conversation, but the model has no chat template. Put the file "
                    "chat_template.jinja into its folder, or give prompts in raw text"
                )
            full = self._with(Limits(sys.maxsize)).encode(group)
            if isinstance(full, Discarded):
                return full
            room = positions - max(len(row.ids) for row in full.tokens.responses)
            if len(full.tokens.prompt) <= room:
                return full
            if room < 1:
                reason = f"response longer than the {positions} tokens that {self.name} can read"
                return Discarded(reason, example.origin)
            return self._with(Limits(positions, room)).encode(group)

    def _with(self, limits: Limits) -> Encoder:
        encoder = copy(self.encoder)
        encoder.limits = limits
        return encoder


def load_local_annotator(
    choice: LocalAnnotator, *, device: str = "auto", trust_remote_code: bool = False, day: Day = today
) -> comparing.ComparingAnnotator:
    """The annotator that a choice describes, with its model loaded and tried out; `day` is what a template writes."""
    template = load_question(choice.template)
    loaded = _loaded(load.load, choice.model, device, trust_remote_code)
    model = causal.CausalModel(loaded.network)
    judge = LocalJudge(model, _encoder(model, loaded, None, day), name=choice.model)
    with errors.naming(choice.model):
        tried = judge.groups([pose(template, Prompt(prompt), *responses) for prompt, responses in TRIED])
    longest = min(judge.encoder.limits.max_length - 1, LONGEST_TRIED)
    short = [replace(group, prompt=group.prompt[:longest]) for group in tried]
    _choose_attention(model, short, judge.encoder)
    how: dict[str, Any] = {"instruction": choice.instruction, "max_unreadable": choice.max_unreadable}
    return comparing.ComparingAnnotator(judge, template, **how)


def load_reward_annotator(
    choice: RewardAnnotator, *, device: str = "auto", trust_remote_code: bool = False, day: Day = today
) -> ModelAnnotator:
    loaded = _loaded(reward.load_reward, choice.model, device, trust_remote_code)
    model = reward.RewardModel(loaded.network)
    return _scoring(model, lambda one: model.outputs(one).score_N, loaded, f"reward:{choice.model}", day)


def load_likelihood_annotator(
    choice: LikelihoodAnnotator, *, device: str = "auto", trust_remote_code: bool = False, day: Day = today
) -> ModelAnnotator:
    """The annotator that a language model's own log-likelihood per token is; `day` as of `load_local_annotator`.
    The score is (1 / |y|) log pi(y | x) in nats, over the response and the token that ends it. A model that was trained
    to be asked with a condition is asked with it. RRHF's policy is read as a reward model in this way: Yuan et al.,
    2023, https://arxiv.org/abs/2304.05302, Table 5."""
    loaded = _loaded(load.load, choice.model, device, trust_remote_code)
    model = causal.CausalModel(loaded.network)
    return _scoring(model, lambda one: model.log_probs(one).mean, loaded, f"likelihood:{choice.model}", day)


def _loaded(loader: Callable[..., load.Loaded], path: str, device: str, trust_remote_code: bool) -> load.Loaded:
    """A model that is not trained, in the precision that pays on its device."""
    placed = prepare.pick_device(device)
    precision = prepare.pick_autocast("auto", placed) or torch.float32
    loaded = loader(path, device=placed, dtype=precision, trust_remote_code=trust_remote_code)
    loaded.network.requires_grad_(False).eval()
    return loaded


def _encoder(model: Model, loaded: load.Loaded, condition: Condition | None, day: Day) -> Encoder:
    limits = Limits(model_folder.context_length(model.inner.config) or sys.maxsize)
    dated = day() if chat_template.writes_date(loaded.tokenizer) else None
    return Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits, condition=condition, date=dated)


def _choose_attention(model: Model, groups: Sequence[tokens.TokenGroup[Any]], encoder: Encoder) -> None:
    """Take the fastest layout that is exact, also for rows longer than the model's windows."""
    longest = min(encoder.limits.max_length, LONGEST_CHECKED)
    model.set_attention(selfcheck.check_attention(model, groups, None, longest).attention)


def _scoring(model: Model, read: Read, loaded: load.Loaded, name: str, day: Day) -> ModelAnnotator:
    """The annotator of a model that was just loaded, tried out and in the fastest layout that is exact."""
    encoder = _encoder(model, loaded, loaded.condition, day)
    tried = [encoder.encode(Group(Prompt(prompt), pair, DemonstrationRelation())) for prompt, pair in TRIED]
    groups = [one.tokens for one in tried if not isinstance(one, Discarded)]
    if groups:
        with torch.no_grad():
            scores = read(stream.build_stream(groups).to(model.device)).tolist()
        if bad := [score for score in scores if not math.isfinite(score)]:
            raise errors.AnnotatorError(
                f"{name} gives plain short responses the score {bad[0]}, which is not a finite number, so its weights "
                "are damaged or too large for their precision. Train or download it again"
            )
        with errors.naming(name):
            _choose_attention(model, groups, encoder)
    batch_tokens = None if model.device.type == "cpu" else SCORE_TOKENS
    return ModelAnnotator(model, read, encoder, name=name, batch_tokens=batch_tokens)
