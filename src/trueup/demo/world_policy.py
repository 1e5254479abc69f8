"""A model of the world as the demo uses it: ask it, judge it, measure how far it moved, have it write feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trueup.batch.encode import Encoder, Limits
from trueup.evaluate.estimates import Mean, mean
from trueup.evaluate.kl import sequence_kl
from trueup.feedback.canonical import write_examples
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load
from trueup.sampling.decoding import draw
from trueup.sampling.sampler import Completion
from trueup.settings.gathering_settings import SamplerSettings
from trueup.world.generate import examples, prompts
from trueup.world.gold import gold
from trueup.world.measure import written_by
from trueup.world.model import MAX_LENGTH

PROMPTS = 2048
"""Prompts that the model answers for feedback."""
RESPONSES = 4
"""Answers to each."""
DEMONSTRATIONS = 512
"""Answers written by the expert."""
NOISE = 0.05
"""Share of the annotator's judgements that are turned around."""
MAX_NEW_TOKENS = 40


@dataclass(frozen=True)
class Judged:
    """A policy's answers to the held-out prompts."""

    texts: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    """As the policy was asked, a condition included."""
    completions: tuple[Completion, ...]
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
        completions = self._draw(encoded, torch.Generator().manual_seed(seed))
        rewards = [gold(prompt, self.text(one)) for prompt, one in zip(prompts, completions, strict=True)]
        return Judged(tuple(prompts), tuple(map(tuple, encoded)), tuple(completions), tuple(rewards))

    def kl_from(self, start: "Policy", judged: Judged) -> Mean:
        """KL(this || start) in nats an answer, on the answers judged."""
        return sequence_kl(
            self.model,
            start.model,
            judged.prompts,
            judged.completions,
            end_id=self.loaded.end_ids[0],
            start_prompts=start.encode(judged.texts),
        )

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """As this policy is asked, a condition included."""
        return [self.encoder.prompt_ids(Prompt(prompt)) for prompt in prompts]

    def _draw(self, prompts: Sequence[Sequence[int]], generator: torch.Generator) -> list[Completion]:
        settings = SamplerSettings(max_new_tokens=MAX_NEW_TOKENS)
        with self.model.plain() as network:
            return draw(network, prompts, end_ids=self.loaded.end_ids, settings=settings, generator=generator)

    def text(self, written: Completion) -> str:
        """What an answer says."""
        return str(self.loaded.tokenizer.decode(written.ids, skip_special_tokens=True))


def write_feedback(folder: Path, start: Policy, seed: int = 1) -> dict[str, Path]:
    """Write one canonical JSONL file for each kind of feedback: the start model's answers, judged, and an expert's.

    `rankings` scores four answers of the model to each prompt, `points` gives each of four a thumb,
    `demonstrations` are the expert's.
    """
    with start.model.plain() as network:
        writer = written_by(
            network,
            start.loaded.tokenizer,
            prompts(PROMPTS, seed),
            RESPONSES,
            max_new_tokens=MAX_NEW_TOKENS,
            generator=torch.Generator().manual_seed(seed),
        )
    made = {
        "rankings": examples(
            "rankings", count=PROMPTS, seed=seed, responses=RESPONSES, noise=NOISE, writer=writer
        ),
        "points": examples(
            "points", count=PROMPTS, seed=seed, responses=RESPONSES, noise=NOISE, writer=writer
        ),
        "demonstrations": examples("demonstrations", count=DEMONSTRATIONS, seed=seed + 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{kind}.jsonl" for kind in made}
    for kind, content in made.items():
        write_examples(paths[kind], content)
    return paths
