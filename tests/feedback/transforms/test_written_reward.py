"""Every response becomes an example of its own whose prompt says how good the response is."""

import pytest

from trueup.errors import InputError
from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response
from trueup.feedback.transforms.standardized_rewards import StandardizedRewards, WrittenReward

RAW = StandardizedRewards(0.0, 1.0)


def scored(*values: float | None) -> Example:
    responses = tuple(Response(f"r{at}", score=value) for at, value in enumerate(values))
    pair = (Comparison(0, 1),) if len(values) > 1 else ()
    return Example(Prompt("p", origin=Origin("a.jsonl", 1)), responses, pair)


def test_by_hand() -> None:
    example = scored(1.25, -2.0, None)
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
    examples = [scored(float(value)) for value in range(200)]
    condition = WrittenReward("{reward}", 0, "end", rewards=RAW).fit(examples).condition
    assert condition is not None
    assert (condition.reward, condition.highest) == (197.0, 199.0)


def test_the_scale_of_training_is_kept_and_used_for_what_is_held_out() -> None:
    fitted = WrittenReward("{reward}", 2, "start").fit([scored(0.0, 2.0)])
    assert fitted.condition is not None
    assert (fitted.condition.mean, fitted.condition.std) == pytest.approx((1.0, 2**0.5))
    assert fitted.rewrite([scored(1.0)])[0].prompt.content == "0.00p"


def test_asking_for_more_than_was_ever_seen_is_warned_of() -> None:
    def warnings(ask_for: float) -> tuple[str, ...]:
        return WrittenReward("{reward}", 1, "end", ask_for, RAW).fit([scored(1.0, 2.0)]).warnings

    assert warnings(2.0) == ()
    assert "5, is above every reward of training (2 at most)" in warnings(5.0)[0]


@pytest.mark.parametrize("text", ["good", "{reward} of {reward}"])
def test_a_text_without_one_place_for_the_reward_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"holds \{reward\} once; got"):
        WrittenReward(text, 1, "end", rewards=RAW).fit([scored(1.0, 2.0)])
