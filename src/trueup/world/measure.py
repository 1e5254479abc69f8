"""What a model says in the world, and feedback made of it."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trueup.sampling.decoding import Decoder, draw
from trueup.settings.gathering_settings import SamplerSettings
from trueup.world.people import Writer


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 40,
    generator: torch.Generator | None = None,
) -> list[str]:
    """One response per prompt, in order.

    Args:
        generator: a CPU generator, which alone decides the draws, whatever device the model is on; None is
            torch's own.
    """
    completions = draw(
        Decoder(model, [tokenizer.eos_token_id]),
        [tokenizer.encode(prompt) for prompt in prompts],
        settings=SamplerSettings(responses=1, max_new_tokens=max_new_tokens),
        generator=generator or torch.default_generator,
    )
    return [str(tokenizer.decode(list(one.ids), skip_special_tokens=True)) for one in completions]


def written_by(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    num_responses: int,
    *,
    max_new_tokens: int = 40,
    generator: torch.Generator | None = None,
) -> Writer:
    """A writer that answers these prompts with the model's own samples, sampled here in one go; see `answers`.

    Example: `examples("pairs", count=500, seed=1, writer=written_by(model, tokenizer, prompts(500, 1), 2))`.
    """
    repeated = [prompt for prompt in prompts for _ in range(num_responses)]
    said = answers(model, tokenizer, repeated, max_new_tokens=max_new_tokens, generator=generator)
    texts: dict[str, list[str]] = defaultdict(list)
    for prompt, text in zip(repeated, said, strict=True):
        texts[prompt].append(text)

    def model_samples(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
        return tuple(rng.sample(texts[prompt], k))

    return model_samples
