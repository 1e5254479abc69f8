"""Rewards on one scale, measured on the training examples alone; weights, and conditions in prompts, made of them."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusals import refused

from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response, scores
from trueup.feedback.transforms import ExponentialWeights, MergedPrompts, StandardizedRewards, WrittenReward, fit_all


def scored(*values: float | None) -> Example:
    return Example(Prompt("p"), tuple(Response(f"r{at}", score=value) for at, value in enumerate(values)))


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), min_size=1, max_size=8))
def test_standardised_rewards_have_mean_0_and_standard_deviation_1(values: list[list[float]]) -> None:
    together = [value for one in values for value in one]
    if len(together) < 2 or statistics.stdev(together) < 1e-3:
        return
    examples = [scored(*one) for one in values]
    made = StandardizedRewards().fit(examples).rewrite(examples)
    found = [value for example in made for _, value in scores(example)]
    assert statistics.fmean(found) == pytest.approx(0, abs=1e-6)
    assert statistics.stdev(found) == pytest.approx(1, rel=1e-9)
    order = sorted(range(len(found)), key=lambda at: together[at])
    assert [found[at] for at in order] == sorted(found)


def test_standardised_by_hand() -> None:
    """1, 2 and 6: mean 3, unbiased standard deviation sqrt(7)."""
    fitted = StandardizedRewards().fit([scored(1.0, 2.0), scored(6.0, None)])
    assert fitted.found == ("rewards: scores of 3 responses, mean 3, standard deviation 2.646; standardised",)
    (made,) = fitted.rewrite([scored(3.0, 3.0 + 7**0.5, None)])
    assert [response.score for response in made.responses] == pytest.approx([0.0, 1.0, None])


def test_a_given_mean_and_deviation_are_used() -> None:
    (made,) = StandardizedRewards(mean=1.0, std=4.0).fit([scored(5.0)]).rewrite([scored(3.0)])
    assert made.responses[0].score == 0.5


def test_labels_stand_in_where_there_are_no_scores() -> None:
    examples = [Example(Prompt("p"), (Response("a", label=1.0),)), Example(Prompt("q"), (Response("b", label=0.0),))]
    fitted = StandardizedRewards().fit(examples)
    assert fitted.found[0].startswith("rewards: labels of 2 responses, mean 0.5")
    found = [example.responses[0].score for example in fitted.rewrite(examples)]
    assert found == pytest.approx([0.5**0.5, -(0.5**0.5)])


def test_comparisons_stand_in_where_there_is_nothing_else() -> None:
    pair = (Comparison(0, 1, 0.75), Comparison(1, 2))
    example = Example(Prompt("p"), (Response("a"), Response("b"), Response("c"), Response("d")), pair)
    (made,) = StandardizedRewards(0.0, 1.0).fit([example]).rewrite([example])
    assert [response.score for response in made.responses] == [0.75, (0.25 + 1) / 2, 0.0, None]


def test_one_kind_serves_all_examples() -> None:
    """Where any response has a score, a label is no reward."""
    examples = [scored(1.0, 3.0), Example(Prompt("q"), (Response("b", label=1.0),))]
    fitted = StandardizedRewards().fit(examples)
    assert fitted.found[1] == "rewards: 1 example without scores"
    assert fitted.rewrite(examples)[1].responses[0].score is None


@pytest.mark.parametrize(
    "examples, message",
    [
        ([Example(Prompt("p"), (Response("a"),))], "does not say how good a response is"),
        ([scored(2.0, 2.0), scored(2.0)], "all 3 rewards are 2. Give feedback"),
        ([scored(2.0)], "all 1 rewards are 2"),
    ],
)
def test_what_tells_nothing_is_refused(examples: list[Example], message: str) -> None:
    with refused(message):
        StandardizedRewards().fit(examples)


def test_a_transform_is_fitted_on_what_the_one_before_it_made() -> None:
    """Merged, the two scores of the same response are their mean, 2; beside a score of 0 the mean of all is 1."""
    examples = [Example(Prompt("p"), (Response("a", score=score),)) for score in (1.0, 3.0)]
    examples.append(Example(Prompt("q"), (Response("b", score=0.0),)))
    fitted = fit_all([MergedPrompts(), StandardizedRewards()], examples)
    assert any("scores of 2 responses, mean 1," in line for line in fitted.found)
    found = [one.score for example in fitted.rewrite(examples) for one in example.responses]
    assert found == pytest.approx([0.5**0.5, -(0.5**0.5)])


RAW = StandardizedRewards(0.0, 1.0)


def test_weights_by_hand() -> None:
    fitted = ExponentialWeights(2.0, 20.0, RAW).fit([scored(0.0, 1.0, 10.0)])
    (made,) = fitted.rewrite([scored(0.0, 1.0, 10.0, None, -4.0)])
    expected = [1.0, math.exp(0.5), 20.0, None, math.exp(-2.0)]
    assert [response.score for response in made.responses] == pytest.approx(expected)
    total, squares = 1 + math.exp(0.5) + 20, 1 + math.exp(1) + 400
    assert fitted.found[-1] == (
        f"weights exp(r / 2): effective sample size {total**2 / squares:.1f} of 3 responses (42 %), 1 clipped to 20"
    )
    assert len(fitted.warnings) == 1 and fitted.warnings[0].startswith("1 of 3 weights are clipped to 20 and so alike")
    assert ExponentialWeights(2.0, 200.0, RAW).fit([scored(0.0, 1.0, 10.0)]).warnings == ()


def test_a_small_beta_is_survived_and_warned_of() -> None:
    """exp(1 / 0.001) overflows; one of twenty responses carries everything."""
    examples = [scored(*[-1.0] * 19, 1.0)]
    fitted = ExponentialWeights(0.001, 20.0, RAW).fit(examples)
    (made,) = fitted.rewrite(examples)
    assert [response.score for response in made.responses] == [0.0] * 19 + [20.0]
    assert "equivalent of 1.0 of 20 responses; a larger --beta" in fitted.warnings[-1]


def test_rewards_are_standardised_first() -> None:
    fitted = ExponentialWeights(1.0, 20.0).fit([scored(10.0, 20.0)])
    (made,) = fitted.rewrite([scored(15.0)])
    assert made.responses[0].score == pytest.approx(1.0)


def compared_scores(*values: float | None) -> Example:
    responses = tuple(Response(f"r{at}", score=value) for at, value in enumerate(values))
    pair = (Comparison(0, 1),) if len(values) > 1 else ()
    return Example(Prompt("p", origin=Origin("a.jsonl", 1)), responses, pair)


def test_conditions_by_hand() -> None:
    example = compared_scores(1.25, -2.0, None)
    fitted = WrittenReward(" [{reward}]", 1, "end", rewards=RAW).fit([example])
    made = fitted.rewrite([example])
    assert [(one.prompt.content, one.responses, one.comparisons, one.origin) for one in made] == [
        ("p [1.2]", (Response("r0", score=1.25, demonstration=True),), (), example.origin),
        ("p [-2.0]", (Response("r1", score=-2.0, demonstration=True),), (), example.origin),
    ]
    assert fitted.condition is not None
    assert (fitted.condition.reward, fitted.condition.highest) == (1.25, 1.25)
    assert fitted.found[-2:] == (
        "condition at the end of the prompt, from ' [-2.0]' to ' [1.2]'; the finished model is asked with ' [1.2]'",
        "condition: 1 response without a reward not used",
    )


def test_the_finished_model_is_asked_for_the_99th_percentile() -> None:
    """Of 200 rewards the 198th: the two highest are left out."""
    examples = [compared_scores(float(value)) for value in range(200)]
    condition = WrittenReward("{reward}", 0, "end", rewards=RAW).fit(examples).condition
    assert condition is not None
    assert (condition.reward, condition.highest) == (197.0, 199.0)


def test_the_scale_of_training_is_kept_and_used_for_what_is_held_out() -> None:
    fitted = WrittenReward("{reward}", 2, "start").fit([compared_scores(0.0, 2.0)])
    assert fitted.condition is not None
    assert (fitted.condition.mean, fitted.condition.std) == pytest.approx((1.0, 2**0.5))
    assert fitted.rewrite([compared_scores(1.0)])[0].prompt.content == "0.00p"


def test_asking_for_more_than_was_ever_seen_is_warned_of() -> None:
    def warnings(ask_for: float) -> tuple[str, ...]:
        return WrittenReward("{reward}", 1, "end", ask_for, RAW).fit([compared_scores(1.0, 2.0)]).warnings

    assert warnings(2.0) == ()
    assert "5, is above every reward of training (2 at most)" in warnings(5.0)[0]


@pytest.mark.parametrize("text", ["good", "{reward} of {reward}"])
def test_a_text_without_one_place_for_the_reward_is_refused(text: str) -> None:
    with refused(r"holds \{reward\} once; got"):
        WrittenReward(text, 1, "end", rewards=RAW).fit([compared_scores(1.0, 2.0)])
