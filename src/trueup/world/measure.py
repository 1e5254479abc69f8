"""What a model says in the world, and how good it is."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trueup.sampling.decoding import draw
from trueup.settings.gathering_settings import SamplerSettings
from trueup.world.gold import DEFAULT_WEIGHTS, Aspects, Weights, aspects
from trueup.world.people import Writer


@dataclass(frozen=True, slots=True)
class Sample:
    """A response a model gave: `Sample("i cannot .", (112, 113, 12), finished=True)`."""

    text: str
    token_ids: tuple[int, ...]
    """Without the end of sequence."""
    finished: bool
    """Whether the model ended its response, and was not cut off."""


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 40,
    generator: torch.Generator | None = None,
    greedy: bool = False,
    batch_size: int = 256,
) -> tuple[Sample, ...]:
    """One response per prompt, in order.

    Args:
        generator: a CPU generator, which alone decides the draws, whatever device the model is on; None is
            torch's own.
        greedy: take the most likely token each time; `temperature` and `generator` play no part.
    """
    settings = SamplerSettings(
        decode="greedy" if greedy else "sample",
        responses=1,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    drawn = draw(
        model,
        [tokenizer.encode(prompt) for prompt in prompts],
        end_ids=[tokenizer.eos_token_id],
        settings=settings,
        generator=generator or torch.default_generator,
        batch_size=batch_size,
    )
    return tuple(
        Sample(str(tokenizer.decode(list(one.ids), skip_special_tokens=True)), one.ids, one.ended)
        for one in drawn
    )


def written_by(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    num_responses: int,
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 40,
    generator: torch.Generator | None = None,
) -> Writer:
    """A writer that answers these prompts with the model's own samples, drawn here in one go.

    Example: `examples("pairs", count=500, seed=1, writer=written_by(model, tokenizer, prompts(500, 1), 2))`.
    """
    repeated = [prompt for prompt in prompts for _ in range(num_responses)]
    texts: dict[str, list[str]] = defaultdict(list)
    for prompt, sampled in zip(
        repeated,
        sample(
            model,
            tokenizer,
            repeated,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            generator=generator,
        ),
        strict=True,
    ):
        texts[prompt].append(sampled.text)

    def model_samples(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
        return tuple(rng.sample(texts[prompt], k))

    return model_samples


def mean_aspects(prompts: Sequence[str], responses: Sequence[str]) -> Aspects:
    """Each aspect's mean over prompts and their responses."""
    judged = [aspects(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    return Aspects(
        sum(one.helpfulness for one in judged) / len(judged),
        sum(one.harmlessness for one in judged) / len(judged),
        sum(one.brevity for one in judged) / len(judged),
    )


def mean_gold(prompts: Sequence[str], responses: Sequence[str], weights: Weights = DEFAULT_WEIGHTS) -> float:
    """Mean gold reward of prompts and their responses."""
    return mean_aspects(prompts, responses).total(weights)
