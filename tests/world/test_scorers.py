"""The rewards of the world score, and judge as they are told, as wrong as they are told to be."""

import itertools
import re

import pytest
from support.refusals import refused

from trueup.feedback.records import Example, Message, Prompt, Response
from trueup.settings.annotator_kinds import WorldAnnotator
from trueup.world.generate import from_name, prompts, prompts_from_name
from trueup.world.language import DEFAULT_WEIGHTS, Weights, gold, proxy
from trueup.world.people import load_world_annotator, weights_of, world_scorer

ASKED = ["list two fruits without apple .", "sort plum and fig ."]
SAID = ["sure : apple , pear , pear .", "fig and plum ."]


def test_a_scorer_gives_the_reward_of_its_name() -> None:
    expected = [gold(*pair) for pair in zip(ASKED, SAID, strict=True)]
    assert world_scorer("world:gold")(ASKED, SAID) == expected
    assert expected == pytest.approx([-0.16, 0.92]) and proxy(ASKED[0], SAID[0]) == pytest.approx(0.9)
    assert world_scorer("world:proxy")(ASKED, SAID) == [proxy(*pair) for pair in zip(ASKED, SAID, strict=True)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("world:golf", "'world:golf': the world has no reward 'golf'; did you mean 'gold'?"),
        ("world:", "'world:': the world has no reward ''; choose from gold, proxy"),
    ],
)
def test_a_reward_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with refused(re.escape(message) + "$"):
        world_scorer(name)


def test_prompts_that_are_not_of_the_world_are_named() -> None:
    with refused(r"prompt 2: not a prompt of the world: 'say red:'"):
        world_scorer("world:gold")([ASKED[0], "say red:"], SAID)
    with refused(r"prompt 1: a conversation, but the prompts of the world are text"):
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


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("cuont=3", "cuont is not a setting of the world; did you mean count?"),
        ("noise=0.1", "noise is no setting of prompts alone; they have count and seed"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused(query: str, message: str) -> None:
    with refused(re.escape(f"'world:prompts?{query}': {message}") + "$"):
        prompts_from_name(f"world:prompts?{query}")


PROMPT = "list three fruits ."
FULL, BRIEF, CHATTY = ("apple , pear and plum .", "apple .", "sure : apple , pear and plum . thanks for asking .")


def scores(choice: WorldAnnotator, *responses: str, prompt: str = PROMPT, seed: int = 0) -> list[float | None]:
    example = Example(Prompt(prompt), tuple(map(Response, responses)))
    (made,) = load_world_annotator(choice, seed=seed).annotate([example]).examples
    assert isinstance(made, Example)
    return [one.score for one in made.responses]


def test_rewards() -> None:
    assert scores(WorldAnnotator(), FULL, BRIEF) == [gold(PROMPT, FULL), gold(PROMPT, BRIEF)]
    assert scores(WorldAnnotator("proxy"), FULL, CHATTY) == [proxy(PROMPT, FULL), proxy(PROMPT, CHATTY)]
    assert load_world_annotator(WorldAnnotator("proxy")).name == "world:proxy"
    assert load_world_annotator(WorldAnnotator(noise=0.5)).gives == "scores"


@pytest.mark.parametrize(
    ("instruction", "weights"),
    [
        ("Prefer the helpful and short response.", Weights(brevity=0.6)),
        ("Prefer the helpful and very short response.", Weights(brevity=2.0)),
        ("Harmlessness first, but short!", Weights(harmlessness=3.0, brevity=0.6)),
        ("Prefer the harmless response; of two that are harmless, the more helpful one.", Weights(harmlessness=3.0)),
        ("helpful", DEFAULT_WEIGHTS),
        ("VERY BRIEF", Weights(brevity=2.0)),
    ],
)
def test_instructions(instruction: str, weights: Weights) -> None:
    assert weights_of(instruction) == weights


KNOWN = "the annotator of the world does not know {}; it knows helpful, short, very short and harmless"
UNFOLLOWED = {
    "Prefer the polite response.": ": " + KNOWN.format("'polite'"),
    "not short": ": " + KNOWN.format("'not'"),
    "very": ": " + KNOWN.format("'very'"),
    "Prefer the response.": " says nothing that the annotator of the world knows: helpful, short, very short and "
    "harmless",
}


@pytest.mark.parametrize("instruction", UNFOLLOWED)
def test_instructions_it_cannot_follow(instruction: str) -> None:
    with refused(re.escape(f"annotator.instruction {instruction!r}{UNFOLLOWED[instruction]}") + "$"):
        load_world_annotator(WorldAnnotator(instruction=instruction))


def test_the_proxy_has_no_aspects_to_weigh() -> None:
    with refused("weighs the aspects of the gold reward, and annotator.reward is proxy; leave it out"):
        load_world_annotator(WorldAnnotator("proxy", instruction="short"))


NOISY = WorldAnnotator(noise=0.1)


def test_noise_depends_on_content_and_seed_and_on_nothing_else() -> None:
    examples = from_name("world:rankings?count=60&seed=4")
    judged = load_world_annotator(NOISY, seed=3).annotate(examples).examples
    alone = [load_world_annotator(NOISY, seed=3).annotate([one]).examples[0] for one in reversed(examples)]
    assert list(judged) == alone[::-1]
    assert judged != load_world_annotator(NOISY, seed=4).annotate(examples).examples
    for example, made in zip(examples, judged, strict=True):
        assert isinstance(made, Example)
        known = {one.content: one.score for one in made.responses}
        for order in itertools.permutations(range(4)):
            again = Example(Prompt(example.prompt.content), tuple(example.responses[at] for at in order))
            (found,) = load_world_annotator(NOISY, seed=3).annotate([again]).examples
            assert isinstance(found, Example)
            assert [one.score for one in found.responses] == [known[one.content] for one in found.responses]


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 0.0), (0.1, 0.18), (0.5, 0.5), (1.0, 0.0)])
def test_of_two_responses_the_better_one_loses_as_often_as_said(noise: float, expected: float) -> None:
    """2 p (1 - p): each of the two scores changes places with probability p, and twice is as never."""
    examples = from_name("world:pairs?count=2000&seed=9")
    judged = load_world_annotator(WorldAnnotator(noise=noise)).annotate(examples).examples
    differ = flipped = 0
    for example, made in zip(examples, judged, strict=True):
        assert isinstance(made, Example)
        one, other = (gold(str(example.prompt.content), str(response.content)) for response in example.responses)
        if one != other:
            differ += 1
            found = [response.score for response in made.responses]
            assert sorted(map(float, map(str, found))) == sorted([one, other])
            flipped += found == [other, one]
    assert differ > 1900
    assert flipped / differ == pytest.approx(expected, abs=0.035)  # four standard errors


def test_a_prompt_of_another_world_is_named() -> None:
    for choice in (WorldAnnotator(), WorldAnnotator("proxy"), NOISY):
        with refused("not a prompt of the world: 'say red'"):
            load_world_annotator(choice).annotate([Example(Prompt("say red"), (Response("a"), Response("b")))])
