"""Those who write and judge: a demonstrator, an expert, an annotator. Chance comes only from `rng`."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from trueup.annotators.annotator import ScoringAnnotator
from trueup.errors import InputError, naming
from trueup.feedback.records import Content
from trueup.settings.annotator_kinds import WorldAnnotator
from trueup.words import did_you_mean, shortened
from trueup.world import language

Writer = Callable[[str, int, Random], tuple[str, ...]]
Reward = Callable[[str, str], float]

GRADE_WIDTH = 0.25


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a person slips; every field is a probability."""

    wrong: float
    repeat: float
    forget: float
    miscount: float
    opener: float
    closer: float
    complies: float
    overcautious: float
    """A harmless prompt about a scary topic, or about dangers to avoid, is refused."""


CAREFUL = Habits(0.05, 0.02, 0.10, 0.05, 0.20, 0.05, complies=0.25, overcautious=0.20)
CARELESS = Habits(0.20, 0.10, 0.60, 0.40, 0.70, 0.50, complies=0.75, overcautious=0.40)
EXPERT = Habits(0.01, 0.0, 0.01, 0.01, 0.0, 0.0, complies=0.01, overcautious=0.01)


def list_items(task: language.Task, habits: Habits, rng: Random) -> list[str]:
    allowed = [item for item in language.ITEMS[task.topic] if item not in task.excluded]
    items = rng.sample(allowed, task.count)
    if task.excluded and rng.random() < habits.forget:
        items[rng.randrange(len(items))] = rng.choice(task.excluded)
    for position in range(len(items)):
        if rng.random() < habits.wrong:
            topic = rng.choice([topic for topic in language.TOPICS if topic != task.topic])
            items[position] = rng.choice(language.ITEMS[topic])
    if rng.random() < habits.miscount:
        unused = [item for item in allowed if item not in items]
        items = items[:-1] if rng.random() < 0.5 else [*items, rng.choice(unused)]
    return items


def sort_items(task: language.Task, habits: Habits, rng: Random) -> list[str]:
    items = sorted(task.given)
    for position in range(len(items) - 1):
        if rng.random() < habits.wrong:
            items[position], items[position + 1] = items[position + 1], items[position]
    if rng.random() < habits.miscount:
        items.pop(rng.randrange(len(items)))
    return items


def write(task: language.Task, habits: Habits, rng: Random) -> str:
    alarming = task.topic in language.SCARY or task.topic in language.DANGEROUS
    refusing = 1 - habits.complies if task.harmful else habits.overcautious * alarming
    if rng.random() < refusing:
        return rng.choice(language.REFUSALS)
    items = (sort_items if task.verb == "sort" else list_items)(task, habits, rng)
    named = [again for item in items for again in [item] * (1 + (rng.random() < habits.repeat))]
    opener = rng.choice(language.OPENERS) if rng.random() < habits.opener else ""
    closer = rng.choice(language.CLOSERS) if rng.random() < habits.closer else ""
    return " ".join(part for part in (opener, language.join(tuple(named)), ".", closer) if part)


def demonstrator(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
    """Responses of the crowd: each by another person, careful or careless with equal chance."""
    task = language.parse(prompt)
    return tuple(write(task, rng.choice((CAREFUL, CARELESS)), rng) for _ in range(k))


def expert(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
    """Responses of an expert: nearly always right, brief, and refusing what is harmful and nothing else."""
    task = language.parse(prompt)
    return tuple(write(task, EXPERT, rng) for _ in range(k))


@dataclass(frozen=True, slots=True)
class Rater:
    """Someone who judges by a reward; `Rater(noise=0.1)` says the opposite of it one time in ten."""

    reward: Reward = language.gold
    temperature: float = 0.0
    """Of the Bradley-Terry model: P(a preferred to b) = sigmoid((reward(a) - reward(b)) / temperature).
    Scores and grades carry normal noise of this standard deviation instead."""
    noise: float = 0.0
    threshold: float = 0.5

    def prefers(self, prompt: str, first: str, second: str, rng: Random) -> bool | None:
        """Whether the first response is preferred to the second; None if there is no difference to see."""
        advantage = self.reward(prompt, first) - self.reward(prompt, second)
        return None if advantage == 0 else self._favours(advantage, rng)

    def approves(self, prompt: str, response: str, rng: Random) -> bool:
        return self._favours(self.reward(prompt, response) - self.threshold, rng)

    def grade(self, prompt: str, response: str, rng: Random) -> float:
        mark = sigmoid((self._observed(prompt, response, rng) - self.threshold) / GRADE_WIDTH)
        return 1 - mark if rng.random() < self.noise else mark

    def scores(self, prompt: str, responses: tuple[str, ...], rng: Random) -> tuple[float, ...]:
        """The reward of each response; one that falls to `noise` changes places with another's."""
        observed = [self._observed(prompt, response, rng) for response in responses]
        for position in range(len(observed)):
            if rng.random() < self.noise and len(observed) > 1:
                other = (position + rng.randrange(1, len(observed))) % len(observed)
                observed[position], observed[other] = observed[other], observed[position]
        return tuple(observed)

    def _observed(self, prompt: str, response: str, rng: Random) -> float:
        return self.reward(prompt, response) + rng.gauss(0, 1) * self.temperature

    def _favours(self, advantage: float, rng: Random) -> bool:
        chance = sigmoid(advantage / self.temperature) if self.temperature else float(advantage >= 0)
        return (rng.random() < chance) != (rng.random() < self.noise)


def sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


SHORT = 0.6
VERY_SHORT = 2.0
HARMLESS = 3.0
KNOWN = "helpful, short, very short and harmless"
FILLERS = "prefer choose take the a an and or but response responses answer answers "
FILLERS += "one that is are be to of with more most first as two"
SCHEME = "world:"
REWARDS: dict[str, Reward] = {"gold": language.gold, "proxy": language.proxy}


@dataclass(frozen=True, slots=True)
class WorldScorer:
    reward: Reward

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        scores = []
        for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start=1):
            with naming(f"prompt {number}"):
                if not isinstance(prompt, str):
                    raise InputError("a conversation, but the prompts of the world are text")
                scores.append(self.reward(prompt, response))
        return scores


def world_scorer(name: str) -> WorldScorer:
    reward = name.removeprefix(SCHEME)
    if reward not in REWARDS:
        hint = did_you_mean(reward, REWARDS, quoted=True) or f"; choose from {', '.join(REWARDS)}"
        raise InputError(f"{name!r}: the world has no reward {reward!r}{hint}")
    return WorldScorer(REWARDS[reward])


def load_world_annotator(choice: WorldAnnotator, *, seed: int = 0) -> ScoringAnnotator:
    reward = REWARDS[choice.reward]
    if choice.instruction is not None:
        if choice.reward != "gold":
            gold = "annotator.instruction weighs the aspects of the gold reward"
            raise InputError(f"{gold}, and annotator.reward is {choice.reward}; leave it out, or take world:gold")
        reward = partial(language.gold, weights=weights_of(choice.instruction))
    scorer = NoisyScorer(reward, choice.noise, seed) if choice.noise else WorldScorer(reward)
    return ScoringAnnotator(scorer, f"world:{choice.reward}")


def weights_of(instruction: str) -> language.Weights:
    """What an instruction makes of the gold reward: `Prefer the helpful and short response.` weighs brevity more."""
    weights, understood = language.DEFAULT_WEIGHTS, False
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
                unknown = f"the annotator of the world does not know {shortened(wanted)}; it knows {KNOWN}"
                raise InputError(f"annotator.instruction {shortened(instruction, 80)}: {unknown}")
        understood = True
    if not understood:
        nothing = f"says nothing that the annotator of the world knows: {KNOWN}"
        raise InputError(f"annotator.instruction {shortened(instruction, 80)} {nothing}")
    return weights


@dataclass(frozen=True, slots=True)
class NoisyScorer:
    """Scores by a reward of the world; a score that falls to noise changes places with another of its prompt.
    Which do depends on the seed, the prompt and its responses, not on their order or on what was judged before."""

    reward: Reward
    noise: float
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
