"""What the world can show: methods in their plainest form, on the whole model, move the gold reward as they should.
Padded batches, AdamW with a constant learning rate, 32 examples a step; run with `-s` to see every number."""

import copy
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from trueup.feedback.records import Example
from trueup.world.generate import examples, prompts
from trueup.world.language import gold, proxy
from trueup.world.model import answers, make_tokenizer, padded, world_model_path, written_by
from trueup.world.people import Reward, demonstrator, expert

pytestmark = [pytest.mark.slow, pytest.mark.world]

HELD_OUT = prompts(512, seed=99)
TOKENIZER = make_tokenizer()
BATCH = 32
Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, list[Example]], torch.Tensor]
"""(log-probabilities [N], reference's [N], lengths [N], examples) -> loss; rows in the order of the responses."""


@pytest.fixture(scope="module")
def start() -> LlamaForCausalLM:
    model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(world_model_path())
    return model


@pytest.fixture(scope="module")
def before(start: LlamaForCausalLM) -> float:
    return quality(start)


def quality(model: LlamaForCausalLM, reward: Reward = gold) -> float:
    said = answers(model, TOKENIZER, HELD_OUT, generator=torch.Generator().manual_seed(0))
    return fmean(map(reward, HELD_OUT, said))


def response_log_probs(model: LlamaForCausalLM, given: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
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


def step(
    policy: LlamaForCausalLM, reference: LlamaForCausalLM, optimizer: torch.optim.Optimizer,
    objective: Objective, batch: list[Example],
) -> None:  # fmt: skip
    chances, lengths = response_log_probs(policy, batch)
    anchored = torch.zeros(0)  # the others make nothing of it
    if objective in (dpo, ulma):
        with torch.no_grad():
            anchored, _ = response_log_probs(reference, batch)
    optimizer.zero_grad()
    objective(chances, anchored, lengths, batch).backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()


def align(
    start: LlamaForCausalLM, objective: Objective, given: tuple[Example, ...], rate: float = 1e-3
) -> LlamaForCausalLM:
    policy = copy.deepcopy(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    for first in range(0, len(given), BATCH):
        step(policy, start, optimizer, objective, list(given[first : first + BATCH]))
    return policy


def sft(chances: torch.Tensor, _: torch.Tensor, __: torch.Tensor, batch: list[Example]) -> torch.Tensor:
    return -chances.mean()


def dpo(chances: torch.Tensor, anchored: torch.Tensor, _: torch.Tensor, batch: list[Example]) -> torch.Tensor:
    ratio = (chances - anchored).view(len(batch), 2)
    compared = [(row, one.comparisons[0]) for row, one in enumerate(batch) if one.comparisons]
    margin = torch.stack([ratio[row, pair.better] - ratio[row, pair.worse] for row, pair in compared])
    return -F.logsigmoid(0.1 * margin).mean()


def rrhf(chances: torch.Tensor, _: torch.Tensor, lengths: torch.Tensor, batch: list[Example]) -> torch.Tensor:
    per_token = (chances / lengths).view(len(batch), -1)
    scores = torch.tensor([[said.score or 0.0 for said in one.responses] for one in batch])
    worse = scores[:, :, None] < scores[:, None, :]
    ranked = ((per_token[:, :, None] - per_token[:, None, :]).clamp(min=0) * worse).sum((1, 2))
    best = chances.view(len(batch), -1).gather(1, scores.argmax(1, keepdim=True))[:, 0]
    return (ranked - best).mean()


def ulma(chances: torch.Tensor, anchored: torch.Tensor, _: torch.Tensor, batch: list[Example]) -> torch.Tensor:
    said = [one.responses[0] for one in batch]
    label = torch.tensor([1.0 if one.demonstration else one.label or 0.0 for one in said])
    return (-label * chances - (1 - label) * F.logsigmoid(-0.1 * (chances - anchored))).mean()


def test_the_model_is_near_the_demonstrator_and_far_below_the_expert(start: LlamaForCausalLM, before: float) -> None:
    rng = Random(0)
    reached = before
    print(f"\nstart {reached:.3f}")
    crowd = fmean(gold(prompt, demonstrator(prompt, 1, rng)[0]) for prompt in HELD_OUT)
    assert crowd - 0.3 < reached < crowd + 0.05
    assert fmean(gold(prompt, expert(prompt, 1, rng)[0]) for prompt in HELD_OUT) > reached + 0.5


@pytest.mark.parametrize(
    ("kind", "objective", "rate", "gain"),
    [
        ("demonstrations", sft, 1e-3, 0.3),
        pytest.param("pairs", dpo, 3e-4, 0.15, marks=pytest.mark.many),
        pytest.param("mixed", ulma, 1e-3, 0.2, marks=pytest.mark.many),
    ],
)
def test_fifty_steps_of_a_method_help(
    start: LlamaForCausalLM, before: float, kind: str, objective: Objective, rate: float, gain: float
) -> None:
    reached = quality(align(start, objective, examples(kind, count=1600, seed=1), rate))
    print(f"\n{kind}: {before:.3f} -> {reached:.3f}")
    assert reached > before + gain


@pytest.mark.many
def test_rankings_of_four_teach_more_than_rankings_of_two(start: LlamaForCausalLM, before: float) -> None:
    two, four = (quality(align(start, rrhf, examples("rankings", count=640, seed=1, responses=k))) for k in (2, 4))
    print(f"\nrankings of 2: {two:.3f}, of 4: {four:.3f}")
    assert before + 0.05 < two < four - 0.05


@pytest.mark.many
def test_a_learning_rate_too_large_collapses(start: LlamaForCausalLM, before: float) -> None:
    reached = quality(align(start, dpo, examples("pairs", count=320, seed=1), rate=2e-2))
    print(f"\nlearning rate 0.02: {reached:.3f}")
    assert reached < before - 0.3


@pytest.mark.many
def test_pursuing_the_proxy_helps_at_first_and_harms_in_the_end(start: LlamaForCausalLM, before: float) -> None:
    """Online DPO: the policy's own answers, preferred by the proxy."""
    policy = copy.deepcopy(start)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    seen: dict[int, tuple[float, float]] = {}
    for turn in range(1, 71):
        own = partial(written_by, policy, TOKENIZER, prompts(BATCH, turn), 2)
        judged = examples("pairs", count=BATCH, seed=turn, reward=proxy, writer=own(generator=generator))
        step(policy, start, optimizer, dpo, [one for one in judged if one.comparisons])
        if turn in (20, 70):
            seen[turn] = quality(policy), quality(policy, proxy)
    print(f"\n(gold, proxy): {before, quality(start, proxy)}, {seen}")
    assert seen[20][0] > before + 0.1
    assert seen[70][1] > seen[20][1] + 0.03
    assert seen[70][0] < seen[20][0] - 0.05
