"""Responses of a model in this process, token by token: drawn, or the most likely token each time.

Prompts are computed once and their cache is copied for each response; responses that are done leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trueup.sampling.choose import choose
from trueup.sampling.drawn import Drawn, Sampling, drawn
from trueup.sampling.fork import Fork

LEAVING = 8
"""Sequences leave the batch when at least one in so many of it is done: copying the cache costs about as much as one
step."""


class Watch(Protocol):
    """Sees the tokens of one response as they come."""

    def add(self, token: int) -> bool:
        """Whether the response ends with this token, although the model did not end it."""
        ...


def write(
    network: Any,
    prompts: Sequence[Sequence[int]],
    copies: int,
    *,
    end_ids: Sequence[int],
    sampling: Sampling,
    rooms: Sequence[int],
    streams: Callable[[int, int], NDArray[np.float64]],
    watch: Callable[[], Watch] | None = None,
    batch_size: int = 256,
    poll: Callable[[], None] = lambda: None,
) -> list[list[Drawn]]:
    """`copies` responses to each prompt, in the order of the prompts.

    Args:
        network: a transformers model with the library's own attention, its dropout off.
        prompts: token ids, none of them empty.
        end_ids: tokens that end a response.
        rooms: for each prompt the longest response, in tokens, at least 1; `sampling.max_new_tokens` holds too.
        streams: (place of the prompt, copy) -> as many uniform numbers as its response may have tokens; not called
            where the temperature is 0.
        watch: makes what may end a response.
        batch_size: responses computed together; of no influence on what is drawn, but for rounding.
        poll: called before each token; may raise to stop.

    Raises:
        InputError: the model cannot be sampled from in this process.
    """
    found: list[list[Drawn]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))  # little padding
    together = max(1, batch_size // copies)
    for start in range(0, len(order), together):
        places = order[start : start + together]
        written = _write(
            Fork(network, [prompts[place] for place in places]),
            [(place, copy) for place in places for copy in range(copies)],
            copies, frozenset(end_ids), sampling, rooms, streams, watch, poll,
        )  # fmt: skip
        for number, place in enumerate(places):
            found[place] = written[number * copies : (number + 1) * copies]
    return found


def _write(
    fork: Fork,
    rows: Sequence[tuple[int, int]],
    copies: int,
    ends: frozenset[int],
    sampling: Sampling,
    rooms: Sequence[int],
    streams: Callable[[int, int], NDArray[np.float64]],
    watch: Callable[[], Watch] | None,
    poll: Callable[[], None],
) -> list[Drawn]:
    fork.select([place for place in range(len(fork)) for _ in range(copies)])
    longest = [min(rooms[place], sampling.max_new_tokens) for place, _ in rows]
    uniform_NL = _uniforms(rows, longest, streams) if sampling.temperature else None
    watches = [watch() for _ in rows] if watch else None
    ids: list[list[int]] = [[] for _ in rows]
    log_probs: list[list[float]] = [[] for _ in rows]
    here = list(range(len(rows)))
    """The row at each place of the batch."""
    done: set[int] = set()
    for step in range(max(longest)):
        poll()
        uniform_N = None if uniform_NL is None else uniform_NL[here, step]
        token_N, log_prob_N = choose(fork.logits_NV, sampling, uniform_N)
        for row, token, log_prob in zip(here, token_N.tolist(), log_prob_N.tolist(), strict=True):
            if row in done:
                continue
            ids[row].append(token)
            log_probs[row].append(log_prob)
            stopped = watches is not None and token not in ends and watches[row].add(token)
            if stopped or token in ends or len(ids[row]) == longest[row]:
                done.add(row)
        alive = [place for place, row in enumerate(here) if row not in done]
        if not alive:
            break
        if LEAVING * (len(here) - len(alive)) >= len(here):
            fork.select(alive)
            here = [here[place] for place in alive]
            token_N = token_N[alive]
        fork.advance(token_N)
    return [drawn(ids[row], log_probs[row], ends) for row in range(len(rows))]


def _uniforms(
    rows: Sequence[tuple[int, int]],
    longest: Sequence[int],
    streams: Callable[[int, int], NDArray[np.float64]],
) -> torch.Tensor:
    """[N, L] float64 on the CPU."""
    uniform_NL = np.zeros((len(rows), max(longest)))
    for row, (place, copy) in enumerate(rows):
        uniform_NL[row, : longest[row]] = streams(place, copy)[: longest[row]]
    return torch.from_numpy(uniform_NL)
