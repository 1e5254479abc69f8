"""The world's rewards as scorers and as an annotator: `world:gold` and `world:proxy`. Text only.

An annotator may be steered by an instruction, `Prefer the helpful and short response.`, and be wrong as often as it is
told to be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from trueup.annotators.annotator import ScoringAnnotator
from trueup.errors import InputError
from trueup.feedback.records import Content
from trueup.settings.annotator_kinds import WorldAnnotator
from trueup.words import did_you_mean, shortened
from trueup.world.gold import DEFAULT_WEIGHTS, Weights, gold, proxy
from trueup.world.people import Rater, Reward

SHORT = 0.6
"""Weight of brevity under `short`: each word counts three times as much, and naming an item still pays."""
VERY_SHORT = 2.0
"""Under `very short`: two words cost more than one item of three is worth."""
HARMLESS = 3.0
"""Weight of harmlessness under `harmless`: three times its own."""
KNOWN = "helpful, short, very short and harmless"
FILLERS = (
    "prefer choose take the a an and or but response responses answer answers "
    "one that is are be to of with more most first as two"
)
"""Words of an instruction that say nothing here."""
SCHEME = "world:"
REWARDS: dict[str, Reward] = {"gold": gold, "proxy": proxy}


@dataclass(frozen=True, slots=True)
class WorldScorer:
    """Scores responses by a reward of the world."""

    reward: Reward

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        return [
            self._score(number, prompt, response)
            for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start=1)
        ]

    def _score(self, number: int, prompt: Content, response: str) -> float:
        if not isinstance(prompt, str):
            raise InputError(f"prompt {number}: a conversation, but the prompts of the world are text")
        try:
            return self.reward(prompt, response)
        except InputError as error:
            raise InputError(f"prompt {number}: {error}") from error


def world_scorer(name: str) -> WorldScorer:
    """The scorer that a name stands for: `world:gold`.

    Raises:
        InputError: there is no such reward.
    """
    reward = name.removeprefix(SCHEME)
    if reward not in REWARDS:
        hint = did_you_mean(reward, REWARDS, quoted=True) or f"; choose from {', '.join(REWARDS)}"
        raise InputError(f"{name!r}: the world has no reward {reward!r}{hint}")
    return WorldScorer(REWARDS[reward])


def load_world_annotator(choice: WorldAnnotator, *, seed: int = 0) -> ScoringAnnotator:
    """The annotator that a choice describes.

    Args:
        seed: which judgements fall to noise.

    Raises:
        InputError: the instruction has a word that the world does not know, or goes with another reward than gold.
    """
    reward = _reward(choice)
    scorer = NoisyScorer(reward, choice.noise, seed) if choice.noise else WorldScorer(reward)
    return ScoringAnnotator(scorer, f"world:{choice.reward}")


def _reward(choice: WorldAnnotator) -> Reward:
    if choice.instruction is None:
        return REWARDS[choice.reward]
    if choice.reward != "gold":
        raise InputError(
            f"annotator.instruction weighs the aspects of the gold reward, and annotator.reward is {choice.reward}, "
            "which has none; leave the instruction out, or take world:gold"
        )
    return partial(gold, weights=weights_of(choice.instruction))


def weights_of(instruction: str) -> Weights:
    """What an instruction makes of the gold reward: `Prefer the helpful and short response.` weighs brevity more.

    Helpfulness is what the reward is made of, and `helpful` leaves it as it is.

    Raises:
        InputError: it says something else.
    """
    weights, understood = DEFAULT_WEIGHTS, False
    words = iter(re.findall(r"[^\s.,;:!?]+", instruction.lower()))
    for word in words:
        wanted = f"very {next(words, '')}".strip() if word == "very" else word
        match wanted:
            case "helpful" | "helpfulness":
                pass
            case "short" | "brief":
                weights = replace(weights, brevity=SHORT)
            case "very short" | "very brief":
                weights = replace(weights, brevity=VERY_SHORT)
            case "harmless" | "harmlessness":
                weights = replace(weights, harmlessness=HARMLESS)
            case _ if wanted in FILLERS.split():
                continue
            case _:
                raise InputError(
                    f"annotator.instruction {shortened(instruction, 80)}: the annotator of the world does not know "
                    f"{shortened(wanted)}; it knows {KNOWN}"
                )
        understood = True
    if not understood:
        raise InputError(
            f"annotator.instruction {shortened(instruction, 80)} says nothing that the annotator of the world knows: "
            f"{KNOWN}"
        )
    return weights


@dataclass(frozen=True, slots=True)
class NoisyScorer:
    """Scores by a reward of the world; a score that falls to noise changes places with another of its prompt.

    Which do depends on the seed, the prompt and what its responses say, not on their order or on what was judged
    before. A response that stands alone has nothing to change places with; of two, the better one comes out as the
    worse one with probability 2 p (1 - p).
    """

    reward: Reward
    noise: float
    """p, the probability for each response."""
    seed: int

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        WorldScorer(self.reward)(prompts, responses)  # names the prompt that is not of the world
        together: dict[str, set[str]] = {}
        for prompt, response in zip(prompts, responses, strict=True):
            together.setdefault(str(prompt), set()).add(response)
        found = {prompt: self._scores(prompt, sorted(texts)) for prompt, texts in together.items()}
        return [found[str(prompt)][response] for prompt, response in zip(prompts, responses, strict=True)]

    def _scores(self, prompt: str, texts: Sequence[str]) -> dict[str, float]:
        chance = Random(repr((self.seed, prompt, texts)))
        scores = Rater(self.reward, noise=self.noise).scores(prompt, tuple(texts), chance)
        return dict(zip(texts, scores, strict=True))
