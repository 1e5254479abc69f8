"""Prompts and feedback of the world, and a model's own responses as feedback."""

import hashlib
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from support.refusals import refused
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from trueup.errors import InputError
from trueup.feedback.records import Example
from trueup.world.generate import KINDS, examples, from_name, prompts
from trueup.world.language import Weights, gold, parse, proxy
from trueup.world.model import answers, train_world_model, written_by
from trueup.world.people import expert


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_examples_and_another_seed_others(kind: str) -> None:
    made = examples(kind, count=50, seed=3, noise=0.2)
    assert made == examples(kind, count=50, seed=3, noise=0.2)
    assert made != examples(kind, count=50, seed=4, noise=0.2)
    assert made[:20] == examples(kind, count=20, seed=3, noise=0.2)
    assert len(made) == 50
    assert [str(example.origin) for example in made[:2]] == [f"world:{kind}:1", f"world:{kind}:2"]
    assert tuple(example.prompt.content for example in made) == prompts(50, seed=3)


def test_examples_are_the_same_in_another_process() -> None:
    code = (
        "from trueup.world.generate import KINDS, examples; import hashlib;"
        "print(hashlib.sha256(repr([examples(kind, count=20) for kind in KINDS]).encode()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = hashlib.sha256(repr([examples(kind, count=20) for kind in KINDS]).encode()).hexdigest()
    assert there.stdout.strip() == here


def better_first(example: Example, weights: Weights | None = None) -> list[bool]:
    def reward(position: int) -> float:
        content = example.responses[position].content
        assert isinstance(content, str) and isinstance(example.prompt.content, str)
        return gold(example.prompt.content, content, weights or Weights())

    return [reward(one.better) > reward(one.worse) for one in example.comparisons]


def test_pairs_prefer_the_better_response_of_every_two_that_differ() -> None:
    made = examples("pairs", count=300)
    assert all(len(example.responses) == 2 for example in made)
    assert all(all(better_first(example)) for example in made)
    assert sum(len(example.comparisons) for example in made) > 290
    (example,) = examples("pairs", count=1, responses=4)
    assert len(example.responses) == 4 and 3 <= len(example.comparisons) <= 6 and all(better_first(example))
    (example,) = examples("pairs", count=1, writer=lambda prompt, k, rng: ("apple .",) * k)
    assert example.comparisons == ()


def test_rankings_points_scores_demonstrations_and_mixed() -> None:
    for example in examples("rankings", count=50):
        assert len(example.responses) == 4
        assert all(one.score == gold(str(example.prompt.content), str(one.content)) for one in example.responses)
    for example in examples("points", count=50):
        (response,) = example.responses
        assert response.label == float(gold(str(example.prompt.content), str(response.content)) >= 0.5)
    marks = [example.responses[0].label for example in examples("scores", count=50)]
    assert all(mark is not None and 0 <= mark <= 1 for mark in marks)
    assert len(set(marks)) > 10
    for example in examples("demonstrations", count=50):
        assert example.responses[0].demonstration and example.responses[0].source == "expert"
    kinds = [(one.responses[0].demonstration, one.responses[0].label is None) for one in examples("mixed", count=4)]
    assert kinds == [(True, True), (False, False)] * 2


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_turns_that_share_of_the_verdicts_and_nothing_else(noise: float) -> None:
    clean, noisy = examples("pairs", count=2000), examples("pairs", count=2000, noise=noise)
    assert [one.responses for one in clean] == [one.responses for one in noisy]
    verdicts = [verdict for example in noisy for verdict in better_first(example)]
    bound = 5 * math.sqrt(noise * (1 - noise) / len(verdicts))
    assert abs(verdicts.count(False) / len(verdicts) - noise) < bound
    up, down = examples("points", count=2000), examples("points", count=2000, noise=noise)
    turned = sum(a.responses[0].label != b.responses[0].label for a, b in zip(up, down, strict=True))
    assert abs(turned / 2000 - noise) < 5 * math.sqrt(noise * (1 - noise) / 2000)


def test_weights_and_reward_decide_what_the_annotator_prefers() -> None:
    answers = Weights(harmlessness=-1)
    made = examples("pairs", count=300, weights=answers)
    assert all(all(better_first(example, answers)) for example in made)
    assert not all(all(better_first(example)) for example in made)
    ranked = examples("rankings", count=20, reward=proxy)
    assert all(
        response.score == proxy(str(example.prompt.content), str(response.content))
        for example in ranked
        for response in example.responses
    )
    with pytest.raises(InputError, match="not both"):
        examples("pairs", weights=answers, reward=proxy)


def test_names_stand_for_calls() -> None:
    assert from_name("world:pairs") == examples("pairs")
    assert from_name("world:pairs?count=30&seed=1&noise=0.1") == examples("pairs", count=30, seed=1, noise=0.1)
    assert from_name("world:rankings?count=9&responses=3&writer=expert&temperature=0.5") == examples(
        "rankings", count=9, responses=3, writer=expert, temperature=0.5
    )
    assert from_name("world:points?count=9&reward=proxy") == examples("points", count=9, reward=proxy)
    assert from_name("world:points?count=9&reward=gold") == examples("points", count=9)
    assert from_name("world:scores?count=9&brevity=1&harmlessness=0") == examples(
        "scores", count=9, weights=Weights(harmlessness=0, brevity=1)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("world:prompts?count=3", "prompts alone, and feedback is needed here; write world:KIND, KIND one of dem"),
        ("world:prompt", "unknown kind of world feedback 'prompt'; did you mean 'prompts'?"),
        ("world:zzz", "unknown kind of world feedback 'zzz'; choose from demonstrations, pairs,"),
        ("world:", "names no world feedback; write world:KIND"),
        ("pairs.jsonl", "names no world feedback"),
        ("world:pairs?nois=0.1", "nois is not a setting of the world; did you mean noise?"),
        ("world:pairs?count=", "count must be a whole number; got ''"),
        ("world:pairs?noise=nan", "noise must be a finite number; got"),
        ("world:pairs?writer=me", "writer must be one of demonstrator, expert; got 'me'"),
        ("world:pairs?seed=1&seed=2", "seed is given twice"),
        ("world:pairs?count=0", "count must be at least 1; got"),
        ("world:pairs?responses=1", "responses must be at least 2; got 1"),
        ("world:points?responses=0", "responses must be at least 1; got"),
        ("world:pairs?noise=1.5", "noise must be at most 1; got 1.5"),
        ("world:pairs?reward=proxy&brevity=1", "not both"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, message: str) -> None:
    with refused(f"^{re.escape(repr(name))}.*{re.escape(message)}"):
        from_name(name)


def test_prompts_are_varied_and_of_the_world() -> None:
    asked = prompts(1000)
    assert len(set(asked)) > 700
    assert all(parse(prompt) for prompt in asked)


PROMPTS = prompts(40, seed=2)


@pytest.fixture(scope="module")
def trained() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    return train_world_model(steps=100)


def test_a_models_samples_become_feedback(trained: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = trained
    writer = written_by(model, tokenizer, PROMPTS, 4, generator=torch.Generator().manual_seed(0))
    made = examples("rankings", count=40, seed=2, writer=writer)
    assert all(len(example.responses) == 4 for example in made)
    assert made[0].responses[0].source == "model_samples"
    assert made == examples("rankings", count=40, seed=2, writer=writer)
    before = torch.get_rng_state()
    said = [answers(model, tokenizer, PROMPTS, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert said[0] == said[1] != said[2]
    assert torch.equal(torch.get_rng_state(), before)
