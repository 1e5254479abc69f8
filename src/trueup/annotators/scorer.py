"""What a scorer is: something that says in one number how good a response is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trueup.feedback.records import Content


class Scorer(Protocol):
    """Scores responses; higher is better, on one scale for all prompts."""

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        """One finite number for each response.

        Args:
            prompts: as the user gave them, without a condition or a chat template.
            responses: one for each prompt, as text.

        Raises:
            InputError: a response cannot be scored; the message names the number of its prompt, from 1.
        """
        ...
