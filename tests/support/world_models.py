"""What a model of the world makes of responses, computed in the plainest way."""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
import torch.nn.functional as F

from trueup.feedback.records import Example
from trueup.world import language
from trueup.world.model import make_tokenizer, padded

TOKENIZER = make_tokenizer()


def response_log_probs(model: Any, given: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability [N] and number of tokens [N] of every response, in order."""
    token_ids, response = padded(
        [
            (TOKENIZER.encode(str(one.prompt.content)), [*TOKENIZER.encode(str(said.content)), TOKENIZER.eos_token_id])
            for one in given
            for said in one.responses
        ]
    )
    logits = model(token_ids, use_cache=False).logits[:, :-1]
    scored = -F.cross_entropy(logits.transpose(1, 2), token_ids[:, 1:], reduction="none") * response[:, 1:]
    return scored.sum(1), response.sum(1)


def babbler(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
    """Responses of someone who does not read the prompt: one to six items at random."""
    items = tuple(language.TOPIC_OF)
    return tuple(f"{language.join(tuple(rng.choices(items, k=rng.randint(1, 6))))} ." for _ in range(k))
