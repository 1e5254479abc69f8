"""How responses are drawn, and a response as token ids."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn. Logits are divided by the temperature first, then top-k cuts, then top-p."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability are drawn from."""
    top_k: int = 0
    """Only this many of the most likely tokens are drawn from; 0 is all."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One response as token ids."""

    ids: tuple[int, ...]
    """Without the end of sequence."""
    ended: bool
    """Whether the model ended it; False when it ran into `max_new_tokens`."""
    end: int | None = field(default=None, compare=False)
    """The token that ended it."""
    log_probs: tuple[float, ...] = field(default=(), compare=False)
    """log p in nats of each of `ids`, and of `end` where there is one, under the model itself: before temperature,
    top-p and top-k."""

    @property
    def written(self) -> tuple[int, ...]:
        """`ids` and what ended them."""
        return self.ids if self.end is None else (*self.ids, self.end)


def drawn(ids: list[int], log_probs: list[float], ends: frozenset[int]) -> Drawn:
    """A response from the tokens a model wrote, of which the last may be an end."""
    if ids and ids[-1] in ends:
        return Drawn(tuple(ids[:-1]), True, ids[-1], tuple(log_probs))
    return Drawn(tuple(ids), False, None, tuple(log_probs))
