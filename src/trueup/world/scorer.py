"""The world's rewards as scorers: `world:gold` and `world:proxy`. Text only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback.records import Content
from trueup.words import did_you_mean
from trueup.world.gold import gold, proxy
from trueup.world.people import Reward

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
