"""What is rewritten of an example, and what an example becomes.

Cai et al., 2023, https://arxiv.org/abs/2312.02554, have the chosen responses of pairs written anew by a stronger model,
to be imitated, and keep the rejected ones as points with the label 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trueup.feedback import views
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Content, Example, Message, Response, content_key

WITH_TOOLS = "the prompt declares tools, which a demonstration in words does not call"


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of an example."""

    example: Example
    chosen: Response
    """The one that is replaced; of several that were never rejected the first."""
    rejected: tuple[Response, ...]
    """Those that were rejected and never chosen."""

    @property
    def left_out(self) -> int:
        """Responses that are neither replaced nor kept."""
        return len(self.example.responses) - 1 - len(self.rejected)

    def rewritten(self, text: str, source: str) -> Example:
        """The example with a demonstration in place of the chosen response, and the rejected ones as points.

        A demonstration begins with the same white space as the response it replaces.
        """
        before = spoken(self.chosen.content)
        lead = before[: len(before) - len(before.lstrip())]
        plain = isinstance(self.example.prompt.content, str)
        content: Content = f"{lead}{text.strip()}" if plain else (Message("assistant", text.strip()),)
        points = [replace(one, score=None, label=0.0, demonstration=False) for one in self.rejected]
        responses = (Response(content, demonstration=True, source=source), *points)
        return replace(self.example, responses=responses, comparisons=())


def pair_of(example: Example) -> Pair | Discarded:
    """The two sides of an example, as training by pairs would see them."""
    if example.prompt.tools:
        return Discarded(WITH_TOOLS, example.origin)
    paired = views.pairs(example)
    if isinstance(paired, Discarded):
        return paired
    keys = [content_key(content) for content in paired.responses]
    better = {keys[one] for one, _, _ in paired.relation.pairs}
    worse = {keys[one] for _, one, _ in paired.relation.pairs}
    by_key = {content_key(one.content): one for one in reversed(example.responses)}
    chosen = [one for key, one in reversed(by_key.items()) if key in better - worse]
    rejected = tuple(one for key, one in reversed(by_key.items()) if key in worse - better)
    if not chosen or not rejected:
        return Discarded(views.CONTRADICTING, example.origin)
    return Pair(example, chosen[0], rejected)


def spoken(response: Content) -> str:
    """What a response says, its turns behind each other."""
    return response if isinstance(response, str) else "\n\n".join(one.content for one in response)
