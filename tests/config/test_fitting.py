"""A method and what a run gathers for it: what does not fit is refused before anything is loaded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.resolve import Resolved
from trueup.feedback.records import Comparison, Discarded, Example, Prompt, Response
from trueup.methods import METHODS

Settle = Callable[..., Resolved]

OPENAI = {"annotator": "openai", "annotator.model": "J", "annotator.base_url": "http://localhost/v1"}


def refuses(settle: Settle, method: str, message: str, **given: Any) -> None:
    with refused(message):
        settle(method, **given)


class TestScores:
    @pytest.fixture
    def scored(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setitem(METHODS, "scored", replace(METHODS["sft"], name="scored", needs_scores=True))
        return "scored"

    def test_an_annotator_that_compares(self, settle: Settle, scored: str) -> None:
        message = (
            r"^annotator openai compares responses, and method scored needs their scores: give as reward a reward "
            r"model's FOLDER, likelihood:FOLDER, world:gold, world:proxy or FILE\.py:FUNCTION$"
        )
        refuses(settle, scored, message, source="online", **OPENAI)
        refuses(settle, scored, "^annotator local compares", source="online", annotator="local:m")
        refuses(settle, scored, "^annotator local compares", prompts="p", annotator="local:m")

    @pytest.mark.parametrize("reward", ["runs/rm", "likelihood:m", "world:gold", "rewards.py:f"])
    def test_annotators_that_score(self, settle: Settle, scored: str, reward: str) -> None:
        assert settle(scored, source="online", annotator=None, reward=reward).settings.annotator is not None

    def test_a_replay_asks_nobody(self, settle: Settle, scored: str) -> None:
        assert settle(scored, source="replay", **OPENAI).settings.source == "replay"

    def test_a_penalty_is_taken_off_scores(self, settle: Settle) -> None:
        message = (
            r"^reward_kl 0\.1 is taken off scores, and annotator openai gives comparisons; leave it out, or"
        )
        refuses(settle, "oaif", message, reward_kl=0.1, **OPENAI)


class TestPolicyGradients:
    @pytest.mark.parametrize("method", ["ppo", "reinforce", "rloo"])
    def test_they_need_scores_of_their_own_samples(self, settle: Settle, method: str) -> None:
        refuses(
            settle,
            method,
            rf"^annotator local compares responses, and method {method} n",
            annotator="local:m",
        )
        refuses(
            settle, method, rf"^sampler\.models is refused, as method {method} learns", sampler__models="m"
        )
        assert settle(method).settings.annotator is not None

    @pytest.mark.parametrize("method", ["ppo", "reinforce", "rloo"])
    @pytest.mark.parametrize("source", ["online", "replay"])
    def test_one_penalty_is_enough(self, settle: Settle, method: str, source: str) -> None:
        message = (
            rf"^reward_kl 0\.1 is refused, as method {method} has such a penalty of its own: give kl_coef"
        )
        refuses(settle, method, message, source=source, reward_kl=0.1, kl_coef=0.0)
        resolved = settle(method, source=source, reward_kl=0.0, kl_coef=0.2)
        assert resolved.method_settings.model_dump()["kl_coef"] == 0.2
        assert settle("rrhf", source="online", reward_kl=0.1).settings.reward_kl == 0.1

    def test_a_baseline_needs_two(self, settle: Settle) -> None:
        refuses(settle, "rloo", "^method rloo needs at least 2 responses", sampler__responses=1)
        assert settle("ppo").settings.sampler.responses == 1


class TestResponses:
    def test_too_few(self, settle: Settle) -> None:
        message = (
            r"^method oaif needs at least 2 responses to each prompt, and sampler\.responses is 1; give more$"
        )
        refuses(settle, "oaif", message, sampler__responses=1)
        refuses(settle, "dpo", "^method dpo needs at least 2", source="online", sampler__responses=1)
        refuses(settle, "dpo", "^method dpo needs at least 2", prompts="p", reward="rm", sampler__responses=1)

    def test_one_of_each_of_two_models(self, settle: Settle) -> None:
        given = {"source": "online", "sampler.responses": 1, "sampler.models": "other"}
        assert settle("dpo", **given).settings.sampler.responses == 1

    def test_one_response_cannot_be_compared(self, settle: Settle) -> None:
        message = r"^annotator openai compares responses, and sampler\.responses is 1; give at least 2$"
        refuses(settle, "kto", message, source="online", sampler__responses=1, **OPENAI)
        assert settle("kto", source="online", sampler__responses=1).settings.sampler.responses == 1

    def test_a_method_of_its_own_samples_takes_no_other_model(self, settle: Settle) -> None:
        refuses(
            settle, "oaif", r"^sampler\.models is refused, as method oaif learns from", sampler__models="m"
        )

    def test_what_a_replay_does_not_sample_is_not_looked_at(self, settle: Settle) -> None:
        assert settle("oaif", source="replay", sampler__responses=1).settings.sampler.responses == 1


class TestWhatNeedsAllOfTheData:
    @pytest.mark.parametrize("source", ["online", "replay"])
    @pytest.mark.parametrize(
        ("method", "given", "message"),
        [
            ("rwr", {}, "the mean and the standard deviation of all rewards .*: give reward_mean and"),
            ("rwr", {"reward_std": 1}, "the mean of all rewards .*: give reward_mean$"),
            ("fa", {"reward_mean": 0}, "the standard deviation of all rewards .*: give reward_std$"),
            ("ca", {"reward_mean": 0, "reward_std": 1}, "the 99th percentile of all rewards .*: give"),
            ("ca", {}, "the mean and .* all rewards .*: give reward_mean and reward_std and ask_for$"),
            ("ulma", {"scale": "min-max"}, r"the lowest and the highest score \(scale min-max\) .*: give"),
            ("pointwise-dpo", {"scale": "sigmoid"}, r"the mean and standard deviation of all scores"),
        ],
    )
    def test_refused(
        self, settle: Settle, source: str, method: str, given: dict[str, Any], message: str
    ) -> None:
        refuses(settle, method, f"^method {method} measures {message}", source=source, **given)
        assert settle(method, **given).settings.source == "offline"

    @pytest.mark.parametrize(
        ("method", "given"),
        [
            ("rwr", {"reward_mean": 0, "reward_std": 1}),
            ("ca", {"reward_mean": 0, "reward_std": 1, "ask_for": 2}),
            ("ulma", {"scale": "range", "score_low": 0, "score_high": 5}),
            ("ulma", {"scale": "none"}),
        ],
    )
    def test_known_beforehand(self, settle: Settle, method: str, given: dict[str, Any]) -> None:
        assert settle(method, source="online", **given).settings.source == "online"

    def test_a_cached_reference(self, settle: Settle) -> None:
        message = (
            r"^reference\.kind cached is refused when source is online: .*; take reference\.kind frozen$"
        )
        refuses(settle, "oaif", message, reference__kind="cached")
        refuses(settle, "dpo", r"when source is replay", source="replay", reference__kind="cached")
        assert settle("dpo", reference__kind="cached").settings.source == "offline"


LOSER, WINNER = Response("a", score=0.0, label=0.0), Response("b", score=1.0, label=1.0)
COMPARED = Example(Prompt("p"), (Response("a"), Response("b")), comparisons=(Comparison(1, 0),))
EXAMPLES = {
    "one": Example(Prompt("p"), (WINNER,)),
    "two": Example(Prompt("p"), (LOSER, WINNER)),
    "compared": COMPARED,
}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_it_needs_is_what_it_takes(name: str) -> None:
    """On examples with scores and labels of one response, of two, and with a comparison alone."""
    info = METHODS[name]
    method = info.build()

    def takes(kind: str) -> bool:
        examples = [EXAMPLES[kind]]
        for transform in method.transforms:
            fitted = transform.fit(
                [*examples, EXAMPLES["two" if kind == "one" else kind]]
            )  # rewards must differ
            examples = list(fitted.rewrite(examples))
        return any(not isinstance(method.view(example), Discarded) for example in examples)

    assert takes("two")
    assert takes("one") is (info.least_responses == 1)
    assert takes("compared") is not info.needs_scores
