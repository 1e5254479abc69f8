"""Writers differ in skill as they should, and the annotator is as noisy as asked."""

import math
from random import Random

import pytest

from trueup.world.generate import prompts
from trueup.world.language import TOPIC_OF, WORDS, gold, join
from trueup.world.people import Rater, Writer, demonstrator, expert

PROMPTS = prompts(2000, seed=1)


def babbler(prompt: str, k: int, rng: Random) -> tuple[str, ...]:
    """Responses of someone who does not read the prompt: one to six items at random."""
    items = tuple(TOPIC_OF)
    return tuple(f"{join(tuple(rng.choices(items, k=rng.randint(1, 6))))} ." for _ in range(k))


def mean_gold(writer: Writer) -> float:
    rng = Random(0)
    return sum(gold(prompt, writer(prompt, 1, rng)[0]) for prompt in PROMPTS) / len(PROMPTS)


def test_expert_over_demonstrator_over_babbler() -> None:
    assert 0.8 < mean_gold(expert) < 0.9
    assert 0.2 < mean_gold(demonstrator) < 0.35
    assert mean_gold(babbler) < -0.5


def test_writers_use_known_words_and_repeat_themselves_for_the_same_seed() -> None:
    for writer in (expert, demonstrator, babbler):
        written = [writer(prompt, 3, Random(7)) for prompt in PROMPTS[:300]]
        assert written == [writer(prompt, 3, Random(7)) for prompt in PROMPTS[:300]]
        assert {word for texts in written for text in texts for word in text.split()} <= set(WORDS)


PROMPT, BETTER, WORSE = "list two fruits .", "apple and pear .", "apple and oak ."
"""Gold 0.92 and 0.17."""


def rate(judge: object) -> float:
    assert callable(judge)
    rng = Random(0)
    return sum(bool(judge(rng)) for _ in range(4000)) / 4000


def within(observed: float, expected: float) -> bool:
    return abs(observed - expected) < 5 * math.sqrt(expected * (1 - expected) / 4000) + 1e-9


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
def test_preferences_are_flipped_as_often_as_asked(noise: float) -> None:
    annotator = Rater(noise=noise)
    assert within(rate(lambda rng: annotator.prefers(PROMPT, BETTER, WORSE, rng)), 1 - noise)
    assert within(rate(lambda rng: annotator.prefers(PROMPT, WORSE, BETTER, rng)), noise)


def test_preferences_follow_bradley_terry() -> None:
    annotator = Rater(temperature=0.5)
    expected = 1 / (1 + math.exp(-0.75 / 0.5))
    assert within(rate(lambda rng: annotator.prefers(PROMPT, BETTER, WORSE, rng)), expected)
    softer = Rater(temperature=0.5, noise=0.2)
    both = 0.8 * expected + 0.2 * (1 - expected)
    assert within(rate(lambda rng: softer.prefers(PROMPT, BETTER, WORSE, rng)), both)


def test_equal_rewards_give_no_preference() -> None:
    assert Rater(noise=0.5).prefers(PROMPT, BETTER, "pear and fig .", Random(0)) is None


def test_thumbs_follow_the_threshold_and_the_noise() -> None:
    assert Rater().approves(PROMPT, BETTER, Random(0))
    assert not Rater().approves(PROMPT, WORSE, Random(0))
    annotator = Rater(noise=0.25)
    assert within(rate(lambda rng: annotator.approves(PROMPT, BETTER, rng)), 0.75)


def test_grades_by_hand_and_with_noise() -> None:
    grade = 1 / (1 + math.exp(-(0.92 - 0.5) / 0.25))
    assert Rater().grade(PROMPT, BETTER, Random(0)) == pytest.approx(grade)
    assert Rater(noise=1).grade(PROMPT, BETTER, Random(0)) == pytest.approx(1 - grade)
    assert 0 <= Rater(temperature=9).grade(PROMPT, BETTER, Random(0)) <= 1
