"""Sampling agrees with the model library's, stops where it should, and is decided by its generator."""

from collections import Counter

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from trueup.world.generate import examples, prompts
from trueup.world.gold import Aspects, Weights, gold
from trueup.world.measure import mean_aspects, mean_gold, sample, written_by
from trueup.world.model import train_world_model

PROMPTS = prompts(40, seed=2)


@pytest.fixture(scope="module")
def trained() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    return train_world_model(steps=100)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_greedy_equals_generate(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    inputs = tokenizer(list(PROMPTS), return_tensors="pt", padding=True)
    generated = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=16,
    )
    length = inputs["input_ids"].shape[1]
    answers = sample(model, tokenizer, PROMPTS, greedy=True, max_new_tokens=16)
    for row, answer in zip(generated[:, length:].tolist(), answers, strict=True):
        assert answer.finished == (tokenizer.eos_token_id in row)
        expected = row[: row.index(tokenizer.eos_token_id)] if answer.finished else row
        assert list(answer.token_ids) == expected
        assert answer.text == tokenizer.decode(expected)
    assert any(answer.finished for answer in answers)


def test_an_answer_does_not_depend_on_the_prompts_beside_it(
    trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = trained
    together = sample(model, tokenizer, PROMPTS, greedy=True)
    assert together == sample(model, tokenizer, PROMPTS, greedy=True, batch_size=7)
    assert together[:1] == sample(model, tokenizer, PROMPTS[:1], greedy=True)


def test_the_generator_alone_decides(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    before = torch.get_rng_state()
    one = sample(model, tokenizer, PROMPTS, generator=seeded())
    assert one == sample(model, tokenizer, PROMPTS, generator=seeded())
    assert one != sample(model, tokenizer, PROMPTS, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_follow_the_model(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    prompt = PROMPTS[0]
    with torch.no_grad():
        chances = model(torch.tensor([tokenizer.encode(prompt)])).logits[0, -1].softmax(-1)
    draws = sample(model, tokenizer, [prompt] * 2000, generator=seeded(), max_new_tokens=1)
    seen = Counter(answer.token_ids[0] for answer in draws if answer.token_ids)
    for token in chances.topk(3).indices.tolist():
        chance = chances[token].item()
        assert abs(seen[token] / 2000 - chance) < 5 * (chance * (1 - chance) / 2000) ** 0.5


def test_low_temperature_is_greedy(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    cold = sample(model, tokenizer, PROMPTS, temperature=1e-4, generator=seeded())
    assert cold == sample(model, tokenizer, PROMPTS, greedy=True)


def test_limits_and_the_models_mode(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    model.train()
    answers = sample(model, tokenizer, PROMPTS, generator=seeded(), max_new_tokens=3)
    assert model.training
    model.train(False)
    assert all(len(answer.token_ids) == 3 or answer.finished for answer in answers)
    assert [one.text for one in sample(model, tokenizer, PROMPTS[:2], max_new_tokens=0)] == ["", ""]
    assert sample(model, tokenizer, ()) == ()


def test_a_models_samples_become_feedback(
    trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = trained
    writer = written_by(model, tokenizer, PROMPTS, 4, generator=seeded())
    made = examples("rankings", count=40, seed=2, writer=writer)
    assert all(len(example.responses) == 4 for example in made)
    assert made[0].responses[0].source == "model_samples"
    assert made == examples("rankings", count=40, seed=2, writer=writer)


def test_means() -> None:
    asked = ["list two fruits .", "list two poisons ."]
    answers = ["apple and pear .", "i cannot ."]
    assert mean_aspects(asked, answers) == Aspects(0.5, 0.5, pytest.approx(-0.35))
    assert mean_gold(asked, answers) == pytest.approx((0.92 + 0.94) / 2)
    weights = Weights(1, 3, 0)
    assert mean_gold(asked, answers, weights) == pytest.approx(
        sum(gold(prompt, answer, weights) for prompt, answer in zip(asked, answers, strict=True)) / 2
    )
