"""The world's rewards and prompts by name."""

import pytest

from trueup.errors import InputError
from trueup.feedback.records import Message
from trueup.world.generate import from_name, is_prompt_name, prompts, prompts_from_name
from trueup.world.gold import gold, proxy
from trueup.world.scorers import world_scorer

ASKED = ["list two fruits without apple .", "sort plum and fig ."]
SAID = ["sure : apple , pear , pear .", "fig and plum ."]


def test_a_scorer_gives_the_reward_of_its_name() -> None:
    expected = [gold(*pair) for pair in zip(ASKED, SAID, strict=True)]
    assert world_scorer("world:gold")(ASKED, SAID) == expected
    assert expected == pytest.approx([-0.16, 0.92])
    assert world_scorer("world:proxy")(ASKED, SAID) == [
        proxy(*pair) for pair in zip(ASKED, SAID, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("world:golf", "'world:golf': the world has no reward 'golf'; did you mean 'gold'?"),
        ("world:", "'world:': the world has no reward ''; choose from gold, proxy"),
    ],
)
def test_a_reward_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        world_scorer(name)
    assert str(caught.value) == message


def test_prompts_that_are_not_of_the_world_are_named() -> None:
    with pytest.raises(InputError, match=r"prompt 2: not a prompt of the world: 'say red:'"):
        world_scorer("world:gold")([ASKED[0], "say red:"], SAID)
    with pytest.raises(InputError, match=r"prompt 1: a conversation, but the prompts of the world are text"):
        world_scorer("world:gold")([(Message("user", ASKED[0]),)], SAID[:1])


def test_prompts_by_name_are_those_that_feedback_is_made_on() -> None:
    made = prompts_from_name("world:prompts?count=20&seed=3")
    assert tuple(prompt.content for prompt in made) == prompts(20, 3)
    assert [prompt.content for prompt in made] == [
        one.prompt.content for one in from_name("world:pairs?count=20&seed=3")
    ]
    assert str(made[4].origin) == "world:prompts:5"
    assert len(prompts_from_name("world:prompts")) == 1000
    assert prompts_from_name("world:prompts?count=2") == prompts_from_name("world:prompts?seed=0&count=2")


def test_which_names_are_prompts() -> None:
    assert is_prompt_name("world:prompts") and is_prompt_name("world:prompts?cuont=3")
    assert not is_prompt_name("world:pairs?count=3") and not is_prompt_name("prompts.jsonl")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("cuont=3", "unknown key 'cuont'; did you mean 'count'?"),
        ("noise=0.1", "unknown key 'noise'; the keys are count, seed"),
        ("count=1.5", "count must be a whole number; got '1.5'"),
        ("count=0", "count must be at least 1; got 0"),
        ("seed=", "seed must be a whole number; got ''"),
        ("seed=1&seed=2", "seed is given twice; give it once"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused(query: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        prompts_from_name(f"world:prompts?{query}")
    assert str(caught.value) == f"'world:prompts?{query}': {message}"
