"""Supervised training of the world's language model: from nothing to a small Llama that imitates the people.

Shapes: N demonstrations, T tokens, D model width.
"""

import math
from collections.abc import Callable, Iterator
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trueup.world.language import draw, render
from trueup.world.people import demonstrator
from trueup.world.tokenizer import MAX_LENGTH, make_tokenizer

STEPS = 1500
BATCH_SIZE = 32
LEARNING_RATE = 5e-3
WARMUP = 20
SORTED_BATCHES = 16
"""Batches cut from one pool sorted by length: enough that they hold little padding."""

Progress = Callable[[int, int, float], None]
"""(steps done, steps in all, loss of the last step)."""


def world_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Two layers of width 64, about 0.1 M parameters.

    Weights start at 1 / sqrt(width), six times the library's default: so small a model then learns in half
    the steps.
    """
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=192,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        tie_word_embeddings=True,
        initializer_range=0.125,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def batches(tokenizer: PreTrainedTokenizerFast, rng: Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of fresh demonstrations: token ids [N, T], and which of them belong to a response."""
    ids: dict[str, int] = tokenizer.get_vocab()

    def demonstration() -> tuple[list[int], list[int]]:
        prompt = render(draw(rng))
        (response,) = demonstrator(prompt, 1, rng)
        answered = [*(ids[word] for word in response.split()), ids[tokenizer.eos_token]]
        return [ids[word] for word in prompt.split()], answered

    pool_size = BATCH_SIZE * SORTED_BATCHES
    while True:
        pool = [demonstration() for _ in range(pool_size)]
        pool.sort(key=lambda row: len(row[0]) + len(row[1]))
        cut = [pool[first : first + BATCH_SIZE] for first in range(0, pool_size, BATCH_SIZE)]
        rng.shuffle(cut)
        yield from map(padded, cut)


def padded(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """(prompt, response) ids -> token ids [N, T] padded right with 0, and a mask of the response tokens."""
    length = max(len(prompt) + len(response) for prompt, response in rows)
    token_ids_NT = torch.zeros(len(rows), length, dtype=torch.long)
    response_NT = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        token_ids_NT[row, :end] = torch.tensor(prompt + response)
        response_NT[row, len(prompt) : end] = True
    return token_ids_NT, response_NT


def train_world_model(
    *, seed: int = 0, steps: int = STEPS, progress: Progress | None = None
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A model trained on the demonstrator's responses, and its tokenizer.

    Runs on one thread whatever torch is set to, so that the sums come out the same; leaves torch's settings
    and random state as they were.
    """
    tokenizer = make_tokenizer()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(world_config(tokenizer))
            _train(model, batches(tokenizer, Random(seed)), steps, progress)
    finally:
        torch.set_num_threads(num_threads)
    model.train(False)
    return model, tokenizer


def _train(
    model: LlamaForCausalLM,
    data: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    progress: Progress | None,
) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / WARMUP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))),
    )
    model.train()
    for step in range(steps):
        token_ids_NT, response_NT = next(data)
        # No attention mask: padding stands on the right, where no real token looks.
        hidden_NTD = model.model(input_ids=token_ids_NT, use_cache=False).last_hidden_state
        predicted = response_NT[:, 1:]
        loss = F.cross_entropy(model.lm_head(hidden_NTD[:, :-1][predicted]), token_ids_NT[:, 1:][predicted])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, loss.item())
