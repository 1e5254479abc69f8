"""A model of the world as the demo uses it: ask it, judge it, measure how far it has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trueup.batch.encode import Encoder, Limits
from trueup.evaluate.kl import sequence_kl
from trueup.evaluate.mean import Mean, mean
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load
from trueup.sampling.in_process import Drawn, Sampling, draw
from trueup.world.gold import gold
from trueup.world.tokenizer import MAX_LENGTH

MAX_NEW_TOKENS = 40


@dataclass(frozen=True)
class Judged:
    """A policy's answers to the held-out prompts."""

    asked: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    """As the policy was asked, a condition included."""
    drawn: tuple[Drawn, ...]
    rewards: tuple[float, ...]
    """Gold reward of each answer."""

    @property
    def gold(self) -> Mean:
        return mean(self.rewards)


class Policy:
    """A model read from a folder."""

    def __init__(self, folder: Path) -> None:
        self.loaded: Loaded = load(str(folder), device=torch.device("cpu"))
        self.model = CausalModel(self.loaded.network)
        limits = Limits(MAX_LENGTH)
        self.encoder = Encoder(
            self.loaded.tokenizer, end_ids=self.loaded.end_ids, limits=limits, condition=self.loaded.condition
        )

    def judge(self, prompts: Sequence[str], seed: int) -> Judged:
        """Answers and their gold rewards."""
        encoded = self.encode(prompts)
        drawn = self._draw(encoded, torch.Generator().manual_seed(seed))
        rewards = [gold(prompt, self.text(one)) for prompt, one in zip(prompts, drawn, strict=True)]
        return Judged(tuple(prompts), tuple(map(tuple, encoded)), tuple(drawn), tuple(rewards))

    def kl_from(self, start: Policy, judged: Judged) -> Mean:
        """KL(this || start) in nats an answer, on the answers judged."""
        return sequence_kl(
            self.model, start.model, judged.prompts, judged.drawn, end_id=self.loaded.end_ids[0],
            start_prompts=start.encode(judged.asked),
        )  # fmt: skip

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """As this policy is asked, a condition included."""
        return [self.encoder.prompt_ids(Prompt(prompt)) for prompt in prompts]

    def _draw(self, prompts: Sequence[Sequence[int]], generator: torch.Generator) -> list[Drawn]:
        sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
        with self.model.plain() as network:
            return draw(network, prompts, end_ids=self.loaded.end_ids, sampling=sampling, generator=generator)

    def text(self, drawn: Drawn) -> str:
        """What an answer says."""
        return str(self.loaded.tokenizer.decode(drawn.ids, skip_special_tokens=True))
