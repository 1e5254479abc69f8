"""Scores that a model in this process gives to responses, computed through the group stream."""

import math
import sys
from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from trueup import stop
from trueup.annotators.annotator import Annotated
from trueup.annotators.scoring import with_scores
from trueup.batch.batch import cut
from trueup.batch.encode import Encoder, Limits
from trueup.batch.stream import Stream, build_stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.groups import DemonstrationRelation, Discarded, Group
from trueup.feedback.records import Example, Prompt
from trueup.model_folder import context_length
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load, quiet
from trueup.models.prepare import pick_autocast, pick_device
from trueup.models.reward import RewardModel
from trueup.models.reward_load import load_reward
from trueup.models.selfcheck import check_attention
from trueup.settings.annotator_settings import LikelihoodAnnotator, RewardAnnotator

BATCH_TOKENS = 16_384
"""Tokens computed at a time on a GPU."""
PROBE = ("2 + 2 =", ("4", "5.")), ("Name a fruit.", ("A pear.", "No"))
"""What a model is tried out on."""


class ModelAnnotator:
    """Gives every response the number that a model reads of it, its prompt being computed once.

    A text that is longer than the model's positions is read without the beginning of its prompt, behind the token that
    begins a sequence; its facts count those (`prompts_cut`) and the responses scored (`scores`).

    Args:
        model: on its device, its layout chosen.
        read: a stream -> [N] one number for each of its responses.
        encoder: the model's own; its `max_length` is what the model has positions for.
        name: for messages and records.
        batch_tokens: tokens computed at a time. None, the default on a CPU, takes one example at a time, so that a
            score depends on nothing else to the last bit.
    """

    def __init__(
        self,
        model: CausalModel | RewardModel,
        read: Callable[[Stream], Tensor],
        encoder: Encoder,
        *,
        name: str,
        batch_tokens: int | None = None,
    ) -> None:
        self.model, self.read, self.encoder = model, read, encoder
        self.batch_tokens = batch_tokens
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def gives(self) -> str:
        return "scores"

    def annotate(self, examples: Sequence[Example]) -> Annotated:
        """Score every response of each example by its text.

        Raises:
            InputError: the model's tokenizer or chat template cannot express an example; it is named.
            AnnotatorError: a score is not finite; its example is named.
        """
        made: list[Example | Discarded] = []
        groups: list[TokenGroup[int]] = []
        prompts_cut = 0
        for place, example in enumerate(examples):
            stop.check()
            tokens, was_cut = self._tokens(example, place)
            if isinstance(tokens, Discarded):
                made.append(tokens)
                continue
            made.append(example)
            groups.append(tokens)
            prompts_cut += was_cut
        responses = 0
        for place, scores in self._scores(groups):
            made[place] = with_scores(examples[place], scores, self.name)
            responses += len(scores)
        return Annotated(tuple(made), {"scores": float(responses), "prompts_cut": float(prompts_cut)})

    def _scores(self, groups: Sequence[TokenGroup[int]]) -> list[tuple[int, list[float]]]:
        found: list[tuple[int, list[float]]] = []
        parts = [[group] for group in groups] if self.batch_tokens is None else cut(groups, self.batch_tokens)
        with torch.no_grad(), self.model.without_dropout():
            for part in parts:
                stop.check()
                left = self.read(build_stream(part).to(self.model.device)).tolist()
                for group in part:
                    found.append((group.relation, left[: len(group.responses)]))
                    left = left[len(group.responses) :]
        return found

    def _tokens(self, example: Example, place: int) -> tuple[TokenGroup[int] | Discarded, bool]:
        """An example's ids, marked with its place, and whether its prompt was cut."""
        contents = tuple(response.content for response in example.responses)
        group = Group(example.prompt, contents, place)
        where = f"{example.origin}: " if example.origin else ""
        if not isinstance(example.prompt.content, str) and self.encoder.tokenizer.chat_template is None:
            raise InputError(
                f"{where}the prompt is a conversation, but {self.name} has no chat template. Put the file "
                "chat_template.jinja into its folder, or give prompts in raw text"
            )
        try:
            with quiet():  # the library speaks up where a text is long, which is seen to here
                whole = self._with(Limits(sys.maxsize)).encode(group)
                if isinstance(whole, Discarded):
                    return whole, False
                positions = self.encoder.limits.max_length
                room = positions - max(len(row.ids) for row in whole.tokens.responses)
                if len(whole.tokens.prompt) <= room:
                    return whole.tokens, False
                if room < 1:
                    return Discarded(
                        f"response longer than the {positions} tokens that {self.name} can read",
                        example.origin,
                    ), False
                shorter = self._with(Limits(positions, room)).encode(group)
        except InputError as error:
            raise InputError(f"{where}{self.name}: {error}") from error
        return (shorter, False) if isinstance(shorter, Discarded) else (shorter.tokens, True)

    def _with(self, limits: Limits) -> Encoder:
        encoder = copy(self.encoder)
        encoder.limits = limits
        return encoder


def load_reward_annotator(
    choice: RewardAnnotator, *, device: str = "auto", trust_remote_code: bool = False
) -> ModelAnnotator:
    """The annotator that a reward model is, loaded and tried out.

    Raises:
        InputError: the folder cannot be used, holds a causal language model, or one whose scores cannot be reproduced.
    """
    placed = pick_device(device)
    precision = pick_autocast("auto", placed) or torch.float32
    loaded = load_reward(choice.model, device=placed, dtype=precision, trust_remote_code=trust_remote_code)
    model = RewardModel(loaded.network)
    return model_annotator(
        model, lambda stream: model.outputs(stream).score_N, loaded, name=f"reward:{choice.model}"
    )


def load_likelihood_annotator(
    choice: LikelihoodAnnotator, *, device: str = "auto", trust_remote_code: bool = False
) -> ModelAnnotator:
    """The annotator that a language model's own log-likelihood per token is, loaded and tried out.

    The score is (1 / |y|) log pi(y | x) in nats, over the response and the token that ends it. A model that was trained
    to be asked with a condition is asked with it. RRHF's policy is read as a reward model in this way: Yuan et al.,
    2023, https://arxiv.org/abs/2304.05302, Table 5.

    Raises:
        InputError: the folder cannot be used, or the model's log-probabilities cannot be reproduced.
    """
    placed = pick_device(device)
    precision = pick_autocast("auto", placed) or torch.float32
    loaded = load(choice.model, device=placed, dtype=precision, trust_remote_code=trust_remote_code)
    model = CausalModel(loaded.network)
    return model_annotator(
        model, lambda stream: model.log_probs(stream).mean, loaded, name=f"likelihood:{choice.model}"
    )


def model_annotator(
    model: CausalModel | RewardModel,
    read: Callable[[Stream], Tensor],
    loaded: Loaded,
    *,
    name: str,
) -> ModelAnnotator:
    """The annotator of a model that was just loaded, tried out and in the fastest layout that is exact.

    Raises:
        InputError: what is read of the model cannot be reproduced.
        AnnotatorError: it is not finite.
    """
    loaded.network.requires_grad_(False).eval()
    positions = context_length(model.inner.config)
    encoder = Encoder(
        loaded.tokenizer,
        end_ids=loaded.end_ids,
        limits=Limits(positions or sys.maxsize),
        condition=loaded.condition,
    )
    tried = [
        encoder.encode(Group(Prompt(prompt), responses, DemonstrationRelation()))
        for prompt, responses in PROBE
    ]
    groups = [one.tokens for one in tried if not isinstance(one, Discarded)]
    if groups:
        _check_finite(read, build_stream(groups).to(model.device), name)
        try:
            model.set_attention(check_attention(model, groups, None).attention)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    batch_tokens = None if model.device.type == "cpu" else BATCH_TOKENS
    return ModelAnnotator(model, read, encoder, name=name, batch_tokens=batch_tokens)


@torch.no_grad()
def _check_finite(read: Callable[[Stream], Tensor], stream: Stream, name: str) -> None:
    bad = [value for value in read(stream).tolist() if not math.isfinite(value)]
    if bad:
        raise AnnotatorError(
            f"{name} gives plain short responses the score {bad[0]}, which is not a finite number, so its weights are "
            "damaged or too large for their precision. Train or download it again"
        )
