"""A method and what a run gathers for it: what does not fit is refused before anything is loaded."""

from collections.abc import Callable
from copy import copy
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.layers import flatten
from trueup.config.resolve import Resolved, dump
from trueup.feedback.records import Comparison, Discarded, Example, Prompt, Response
from trueup.methods import METHODS
from trueup.settings.validation import same

Settle = Callable[..., Resolved]

OPENAI = {"annotator": "openai", "annotator.model": "J", "annotator.base_url": "http://localhost/v1"}
LOCAL = {"annotator": "local:m"}
ONLINE = {"source": "online"}
POLICY_GRADIENTS = ("ppo", "reinforce", "rloo")
ONE = {"sampler.responses": 1}
EVALUATED = {"eval_fraction": 0.2, "eval_every": 2}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "scored", ONLINE | OPENAI,
        r"^annotator openai compares responses, and method scored needs their scores: give as reward rubric, "
        r"weighted, a reward model's FOLDER, likelihood:FOLDER, world:gold, world:proxy or FILE\.py:FUNCTION$",
    ),
    ("scored", ONLINE | LOCAL, "^annotator local compares"),
    ("scored", {"prompts": "p"} | LOCAL, "^annotator local compares"),
    ("oaif", {"reward_kl": 0.1} | OPENAI, r"^reward_kl 0\.1 is taken off scores, and annotator openai gives compari"),
    *[(name, LOCAL, f"^annotator local compares responses, and method {name} n") for name in POLICY_GRADIENTS],
    *[
        (name, {"sampler.models": "m"}, rf"^sampler\.models is refused: method {name} learns from")
        for name in ("oaif", *POLICY_GRADIENTS)
    ],
    *[
        (
            name, {"source": source, "reward_kl": 0.1, "kl_coef": 0.0},
            rf"^reward_kl is refused, as method {name} has its own penalty: give kl_coef",
        )
        for name in POLICY_GRADIENTS
        for source in ("online", "replay")
    ],
    *[
        (name, {"source": source, "eval_data": "e"}, f"^eval_data: method {name} learns from responses of its own")
        for name in POLICY_GRADIENTS
        for source in ("online", "replay")
    ],
    ("oaif", ONE, r"^method oaif needs at least 2 responses to each prompt, and sampler\.responses is 1; give more$"),
    ("rloo", ONE, "^method rloo needs at least 2"),
    ("xpo", {"sampler.responses": 2}, "^method xpo draws one response of the policy and one of its reference"),
    ("nash-md", {"sampler.decode": "greedy"}, "^method nash-md draws one response of the policy and one of its"),
    ("nash-md", {"sampler.engine": "server", "sampler.base_url": "http://h:1/v1"}, "in this process; leave sampler"),
    ("dpo", ONLINE | ONE, "^method dpo needs at least 2"),
    ("dpo", {"prompts": "p", "reward": "rm"} | ONE, "^method dpo needs at least 2"),
    (
        "kto", ONLINE | ONE | OPENAI,
        r"^annotator openai compares responses: give sampler\.responses 2 or more$",
    ),
    (
        "oaif", {"reference.kind": "cached"},
        r"^reference\.kind cached is computed before .* when source is online; take reference\.kind frozen$",
    ),
    ("dpo", {"source": "replay", "reference.kind": "cached"}, "when source is replay"),
    ("dpo", {"keep_best": "loss"}, r"^keep_best: method dpo has no loss to go by; give one of eval_loss, eval_"),
    ("dpo", {"keep_best": "eval_kl"} | EVALUATED, "^keep_best: method dpo has no eval_kl to go by; "),
    ("sft", {"keep_best": "eval_rewards/margins"} | EVALUATED, "^keep_best: method sft has no .* give one of eval_"),
    ("ppo", {"keep_best": "eval_loss"}, "^keep_best: method ppo has no eval_loss to go by; give one of online/score$"),
    ("dpo", {"keep_best": "eval_loss", "eval_fraction": 0.2}, "^keep_best: eval_loss is measured"),
    ("dpo", {"early_stopping": 2}, r"^early_stopping: eval_loss .*; give held-out feedback \(eval_data or eval_f"),
    ("dpo", {"keep_best": "online/score"}, "^keep_best: online/score needs source online and a reward"),
    ("oaif", {"early_stopping": 2} | OPENAI, "^early_stopping: online/score needs source online"),
    ("oaif", {"keep_best": "online/score", "sampler.resync": 2}, r"sampler\.resync 2; give resync 1, or a metric of"),
]  # fmt: skip
TAKEN: list[tuple[str, dict[str, Any]]] = [
    *[
        ("scored", ONLINE | {"annotator": None, "reward": reward})
        for reward in ("runs/rm", "likelihood:m", "world:gold", "rewards.py:f")
    ],
    ("scored", {"source": "replay"} | OPENAI),
    *[(name, {"kl_coef": 0.2, "reward_kl": 0.0, "source": "replay"}) for name in POLICY_GRADIENTS],
    *[(name, {"kl_coef": 0.2, "reward_kl": 0.0}) for name in POLICY_GRADIENTS],
    ("rrhf", ONLINE | {"reward_kl": 0.1}),
    ("dpo", ONLINE | ONE | {"sampler.models": "other"}),
    ("kto", ONLINE | ONE),
    ("oaif", {"source": "replay"} | ONE),
    ("ppo", ONE),
    ("oaif", {"eval_data": "e"}),
    ("rwr", ONLINE | {"reward_mean": 0, "reward_std": 1}),
    ("ca", ONLINE | {"reward_mean": 0, "reward_std": 1, "ask_for": 2}),
    ("ulma", ONLINE | {"scale": "range", "score_low": 0, "score_high": 5}),
    ("ulma", ONLINE | {"scale": "none"}),
    ("dpo", {"reference.kind": "cached"}),
    *[("dpo", {"keep_best": metric} | EVALUATED) for metric in ("eval_loss", "eval_rewards/margins")],
    ("oaif", {"keep_best": "online/score", "early_stopping": 2}),
    ("ppo", {"early_stopping": 2}),
    ("reward-model", {"early_stopping": 2} | EVALUATED),
]


@pytest.fixture(autouse=True)
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method named `scored` that needs scores and takes feedback gathered beforehand."""
    info = copy(METHODS["sft"])
    info.name, info.needs_scores = "scored", True
    monkeypatch.setitem(METHODS, "scored", info)


@pytest.mark.parametrize(("method", "given", "message"), REFUSED)
def test_refused(settle: Settle, method: str, given: dict[str, Any], message: str) -> None:
    with refused(message):
        settle(method, **given)


@pytest.mark.parametrize(("method", "given"), TAKEN)
def test_taken(settle: Settle, method: str, given: dict[str, Any]) -> None:
    resolved = settle(method, **given)
    made = flatten(dump(resolved)["settings"] | dump(resolved)["method_settings"])
    assert all(same(made[name], value) for name, value in given.items() if name in made and name != "annotator")
    assert resolved.settings.annotator is not None or "reward" not in given


def test_one_sample_is_the_default_of_a_method_with_values(settle: Settle) -> None:
    assert settle("ppo").settings.sampler.responses == 1


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
def test_what_needs_all_of_the_data(
    settle: Settle, source: str, method: str, given: dict[str, Any], message: str
) -> None:
    with refused(f"^method {method} measures {message}"):
        settle(method, source=source, **given)
    assert settle(method, **given).settings.source == "offline"


LOSER, WINNER = Response("a", score=0.0, label=0.0), Response("b", score=1.0, label=1.0)
COMPARED = Example(Prompt("p"), (Response("a"), Response("b")), comparisons=(Comparison(1, 0),))
EXAMPLES = {"one": Example(Prompt("p"), (WINNER,)), "two": Example(Prompt("p"), (LOSER, WINNER)), "compared": COMPARED}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_it_needs_is_what_it_takes(name: str) -> None:
    """On examples with scores and labels of one response, of two, and with a comparison alone."""
    info = METHODS[name]
    method = info.build()

    def takes(kind: str) -> bool:
        examples = [EXAMPLES[kind]]
        for transform in method.transforms:
            fitted = transform.fit([*examples, EXAMPLES["two" if kind == "one" else kind]])  # rewards must differ
            examples = list(fitted.rewrite(examples))
        return any(not isinstance(method.view(example), Discarded) for example in examples)

    assert takes("two")
    assert takes("one") is (info.least_responses == 1)
    assert takes("compared") is not info.needs_scores
