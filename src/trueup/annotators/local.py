"""A language model in this process as a judge, read by how likely it finds each of the two labels as its answer."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trueup import stop
from trueup.annotators.comparing import ComparingAnnotator
from trueup.annotators.judge import Judgements, Question, Unreadable, Verdict
from trueup.annotators.question import load_question, pose
from trueup.annotators.template import Template
from trueup.batch.batch import cut
from trueup.batch.encode import Encoder, Limits
from trueup.batch.pieces import PieceEncoder
from trueup.batch.stream import build_stream
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.feedback.records import Message, Prompt
from trueup.model_folder import context_length
from trueup.models.causal import CausalModel
from trueup.models.load import load, quiet
from trueup.models.prepare import pick_autocast, pick_device
from trueup.models.selfcheck import check_attention
from trueup.settings.annotator_settings import LocalAnnotator

BATCH_TOKENS = 8192
"""Tokens of questions computed at a time."""
PROBE = 256
"""Tokens of a question with which a model is tried out."""
LEADS = ("", " ")
"""What a model may write before a label: it is the same answer."""
NOT_FINITE = Unreadable("the model's log-probabilities are not finite")


class LocalJudge:
    """Reads P(first) = p(label 1) / (p(label 1) + p(label 2)) off a model's next token after the question.

    As Lee et al. (2023, https://arxiv.org/abs/2309.00267) do. A label's probability is that of every token that is the
    label, alone or behind a space. The question is computed once for all of them. A model with a chat template is asked
    by a user's message; any other goes on with the question's text.

    Its facts, as sums: `label_mass`, the probability that the model gives to the two labels together. Where the mean
    over the readable verdicts is far below 1, the model would rather say something else, and its verdicts say little.

    Args:
        model: the judge.
        encoder: its own, with as many tokens as it has positions as `max_length`.
        name: for messages and records.
        batch_tokens: tokens computed at a time; a longer question is computed by itself.
    """

    def __init__(
        self, model: CausalModel, encoder: Encoder, *, name: str, batch_tokens: int = BATCH_TOKENS
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.batch_tokens = batch_tokens
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def ask(self, questions: Sequence[Question]) -> Judgements:
        """See `trueup.annotators.judge.Judge`.

        Raises:
            InputError: the labels are not tokens of this model.
        """
        longest = self.encoder.limits.max_length
        too_long = Unreadable(f"the question is longer than the {longest} tokens that the model can read")
        verdicts: list[Verdict | Unreadable] = [too_long] * len(questions)
        groups = [group for group in self.groups(questions) if len(group.prompt) < longest]
        mass = 0.0
        with torch.no_grad(), self.model.without_dropout():
            for part in cut(groups, self.batch_tokens):
                stop.check()
                rows = self.model.log_probs(build_stream(part).to(self.model.device)).sum.tolist()
                for group in part:
                    own, rows = rows[: len(group.responses)], rows[len(group.responses) :]
                    verdicts[group.relation], share = _read(own)
                    mass += share
        return Judgements(tuple(verdicts), {"label_mass": mass})

    def groups(self, questions: Sequence[Question]) -> list[TokenGroup[int]]:
        """Each question as a prompt, and its answers, those of the first label before those of the second.

        Raises:
            InputError: the labels are not tokens of this model.
        """
        known = {question.labels for question in questions}
        tokens = {labels: sum(answer_tokens(self.encoder.pieces, labels), ()) for labels in known}
        with quiet():  # the library speaks up where a text is long, and here that has a verdict of its own
            return [
                TokenGroup(
                    np.array(self._ids(question.text), np.int32),
                    tuple(
                        TokenRow(np.array([one], np.int32), np.ones(1, np.bool_))
                        for one in tokens[question.labels]
                    ),
                    number,
                )
                for number, question in enumerate(questions)
            ]

    def _ids(self, text: str) -> list[int]:
        """The question as the model reads it; whatever special token it spells is text."""
        tokenizer: Any = self.encoder.tokenizer
        if tokenizer.chat_template is not None:
            return self.encoder.asked_ids(Prompt((Message("user", text),)))
        ids = list(tokenizer(text, add_special_tokens=True, split_special_tokens=True).input_ids)
        while ids and ids[-1] in self.encoder.end_ids:
            ids.pop()  # a tokenizer that ends what it encodes would end the question before its answer
        return ids


def answer_tokens(pieces: PieceEncoder, labels: tuple[str, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the tokens that are each label, alone or behind a space.

    Both labels get as many, spelled alike, so that neither is favoured; all of them differ.

    Raises:
        InputError: the tokenizer writes a label in several tokens, or both in the same.
    """
    found = [_alike(pieces, lead, labels) for lead in LEADS]
    kept = list(dict.fromkeys(pair for pair in found if pair is not None))
    first, second = (tuple(pair[place] for pair in kept) for place in range(2))
    if not kept or set(first) & set(second):
        raise InputError(
            f"the tokenizer does not write {labels[0]!r} and {labels[1]!r} as one token each, so a verdict cannot be "
            "read off the model's next token; choose another model as the judge"
        )
    return first, second


def _alike(pieces: PieceEncoder, lead: str, labels: tuple[str, str]) -> tuple[int, int] | None:
    one, other = (_single(pieces, lead, label) for label in labels)
    return None if one is None or other is None else (one, other)


def _single(pieces: PieceEncoder, lead: str, label: str) -> int | None:
    """The one token that a label is in the middle of a text; None where there is no such token."""
    tokenizer: Any = pieces.tokenizer
    ids = pieces.raw(lead + label, literal=True)
    if len(ids) != 1:
        return None
    return ids[0] if str(tokenizer.decode(ids)).strip() == label else None


def _read(log_probs: Sequence[float]) -> tuple[Verdict | Unreadable, float]:
    """The verdict, and the probability of the two labels together.

    Args:
        log_probs: in nats, of the tokens of the first label and of as many of the second.
    """
    label_L = torch.tensor(log_probs, dtype=torch.float64).view(2, -1).logsumexp(1)
    if not label_L.isfinite().all():
        return NOT_FINITE, 0.0
    return Verdict(float(torch.sigmoid(label_L[0] - label_L[1]))), float(label_L.exp().sum())


def load_local_annotator(
    choice: LocalAnnotator, *, device: str = "auto", trust_remote_code: bool = False
) -> ComparingAnnotator:
    """The annotator that a choice describes, with its model loaded and tried out.

    Raises:
        InputError: the template or the model's folder cannot be used, the labels are not tokens of the model, or its
            log-probabilities cannot be reproduced.
    """
    template = load_question(choice.template)
    placed = pick_device(device)
    precision = pick_autocast("auto", placed)
    loaded = load(
        choice.model, device=placed, dtype=precision or torch.float32, trust_remote_code=trust_remote_code
    )
    loaded.network.requires_grad_(False)
    model = CausalModel(loaded.network)
    positions = context_length(model.inner.config)
    limits = Limits(max_length=positions or sys.maxsize)
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits)
    judge = LocalJudge(model, encoder, name=choice.model)
    _choose_layout(judge, template)
    return ComparingAnnotator(
        judge, template, instruction=choice.instruction, max_unreadable=choice.max_unreadable
    )


def _choose_layout(judge: LocalJudge, template: Template) -> None:
    """Compute questions in a way that gives what the model's own forward pass gives."""
    name, longest = judge.name, judge.encoder.limits.max_length
    try:
        asked = judge.groups(
            [
                pose(template, Prompt("2 + 2 ="), "4", "5"),
                pose(template, Prompt("Name a fruit."), "A pear.", "Yes."),
            ]
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    short = [replace(group, prompt=group.prompt[: min(longest - 1, PROBE)]) for group in asked]
    judge.model.set_attention(check_attention(judge.model, short, None).attention)
