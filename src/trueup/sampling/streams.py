"""Random numbers of each response by itself, whatever is computed beside it.

Counter-based generators (Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3,
https://doi.org/10.1145/2063384.2063405) need nothing but a key, so every response has its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def uniforms(key: bytes, count: int) -> NDArray[np.float64]:
    """[count] numbers in [0, 1) that the key alone decides; fewer are the first of more."""
    digest = hashlib.sha256(key).digest()
    philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.random.Generator(philox).random(count)


def keys(seed: int, prompts: Sequence[Sequence[int]], copies: int) -> list[list[bytes]]:
    """A key for each of the `copies` responses to each prompt, made of the seed and the prompt's tokens.

    A prompt that comes again has further responses, and not the same ones.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    made = []
    for prompt in prompts:
        ids = tuple(prompt)
        spelled = np.array(ids, "<i8").tobytes()
        made.append([b"%d:%d:" % (seed, seen[ids] + copy) + spelled for copy in range(copies)])
        seen[ids] += copies
    return made


def another_seed(seed: int, number: int) -> int:
    """A seed that shares nothing with `seed`; 63 bits."""
    return int.from_bytes(hashlib.sha256(b"%d/%d" % (seed, number)).digest()[:8], "little") >> 1
