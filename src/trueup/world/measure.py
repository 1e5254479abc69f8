"""What a model says in the world, and how good it is.

Shapes: N prompts, T tokens, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

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
    was_training = model.training
    model.train(False)
    try:
        return tuple(
            sampled
            for start in range(0, len(prompts), batch_size)
            for sampled in _sample_batch(
                model,
                tokenizer,
                prompts[start : start + batch_size],
                None if greedy else temperature,
                max_new_tokens,
                generator,
            )
        )
    finally:
        model.train(was_training)


@torch.no_grad()
def _sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    temperature: float | None,
    max_new_tokens: int,
    generator: torch.Generator | None,
) -> list[Sample]:
    asked = [tokenizer.encode(prompt) for prompt in prompts]
    length = max(map(len, asked))
    token_ids_NT = torch.tensor([[tokenizer.pad_token_id] * (length - len(ids)) + ids for ids in asked])
    mask_NT = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in asked])
    position_N = (mask_NT.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    running_N = torch.ones(len(asked), dtype=torch.bool)
    drawn_TN: list[Tensor] = []
    while len(drawn_TN) < max_new_tokens and bool(running_N.any()):
        logits_NV = model(
            input_ids=token_ids_NT.to(model.device),
            attention_mask=mask_NT.to(model.device),
            position_ids=position_N.to(model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        token_N = _draw(logits_NV.float().cpu(), temperature, generator)
        drawn_TN.append(token_N)
        running_N &= token_N != tokenizer.eos_token_id
        token_ids_NT = token_N[:, None]
        mask_NT = torch.cat([mask_NT, torch.ones_like(token_ids_NT)], dim=1)
        position_N = position_N[:, -1:] + 1
    columns = torch.stack(drawn_TN, dim=1).tolist() if drawn_TN else [[] for _ in asked]
    return [_until_end(tokenizer, row) for row in columns]


def _draw(logits_NV: Tensor, temperature: float | None, generator: torch.Generator | None) -> Tensor:
    if temperature is None:
        return logits_NV.argmax(dim=-1)
    chances_NV = (logits_NV / temperature).softmax(dim=-1)
    return torch.multinomial(chances_NV, num_samples=1, generator=generator)[:, 0]


def _until_end(tokenizer: PreTrainedTokenizerBase, row: list[int]) -> Sample:
    finished = tokenizer.eos_token_id in row
    kept = row[: row.index(tokenizer.eos_token_id)] if finished else row
    return Sample(str(tokenizer.decode(kept, skip_special_tokens=True)), tuple(kept), finished)


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
