"""Filtering alignment trains on exactly the responses that its rule keeps, counted here by other means."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import run_here

from trueup.config.resolve import resolve
from trueup.errors import InputError
from trueup.feedback.records import Example, Prompt, Response
from trueup.feedback.transforms import fit_all
from trueup.feedback.views import apply
from trueup.methods import METHODS

Row = tuple[str, dict[str, float]]  # a prompt, and the score of each response
Kept = list[tuple[str, tuple[str, ...]]]


def rows(count: int, seed: int) -> list[Row]:
    """Prompts with two to four responses that name themselves and have scores of a lopsided distribution."""
    chance = random.Random(seed)
    return [
        (f"p{n}", {f"r{n}.{at}": round(chance.expovariate(1.0), 3) for at in range(chance.randint(2, 4))})
        for n in range(count)
    ]


def kept(training: Sequence[Row], held_out: Sequence[Row] = (), **settings: Any) -> Kept:
    """What FA trains on, or evaluates on where something is held out: prompts and responses."""
    method = METHODS["fa"].build(**settings)
    examples, held = (
        [Example(Prompt(one), tuple(Response(a, score=b) for a, b in said.items())) for one, said in some]
        for some in (training, held_out)
    )
    fitted = fit_all(method.transforms, examples)
    groups = apply(method.view, fitted.rewrite(held or examples)).groups
    return [(str(group.prompt.content), tuple(map(str, group.responses))) for group in groups]


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0])
def test_exactly_the_responses_above_the_threshold_are_kept(threshold: float) -> None:
    content = rows(60, seed=0)
    values = [score for _, said in content for score in said.values()]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    expected = [
        (prompt, tuple(text for text, score in said.items() if (score - mean) / deviation > threshold))
        for prompt, said in content
    ]
    assert kept(content, threshold=threshold) == [one for one in expected if one[1]]
    assert 0 < sum(len(some) for _, some in expected) < len(values)


ABC: list[Row] = [("p", {"a": 0.0, "b": 1.0, "c": 2.0})]
"""Mean 1, unbiased standard deviation 1; the biased one is 0.82."""
HELD: list[Row] = [("q", {"d": 3.0, "e": 4.0, "f": 23.0})]


@pytest.mark.parametrize(
    ("held", "settings", "expected"),
    [
        ([], {}, [("p", ("c",))]),  # the middle one is the mean, exactly, and so is left out
        ([], {"reward_mean": 0.0, "reward_std": 1.0, "threshold": 1.0}, [("p", ("c",))]),
        ([], {"threshold": 0.99}, [("p", ("c",))]),
        ([], {"threshold": 1.0}, None),
        ([], {"threshold": 50.0}, None),
        (HELD, {"threshold": 0.5}, [("q", ("d", "e", "f"))]),  # by their own mean of 10 one would be above
        (HELD, {"threshold": 4.0}, [("q", ("f",))]),
    ],
)
def test_by_hand(held: list[Row], settings: dict[str, Any], expected: Kept | None) -> None:
    if expected is not None:
        assert kept(ABC, held, **settings) == expected
        return
    with pytest.raises(InputError, match="no response is above the threshold"):
        kept(ABC, held, **settings)


def test_the_best_of_each_prompt() -> None:
    """Equal prompts are one, ties go to the first, and a duplicate counts with the mean of its scores."""
    content: list[Row] = [
        ("spread", {"a": 1, "b": 3}), ("tied", {"a": 1, "b": 5, "c": 5}), ("twice", {"a": 9, "b": 6}),
        ("twice", {"a": 1}), ("tied", {"d": 5}), ("spread", {"d": 7, "e": 2}), ("spread ", {"f": 0}),
    ]  # fmt: skip
    best = kept(content, best_of_n=True)
    assert best == [("spread", ("d",)), ("tied", ("b",)), ("twice", ("b",)), ("spread ", ("f",))]


def test_its_first_name_is_taken() -> None:
    """The paper's first version calls it MLE with filtering."""
    given = {"model": "M", "data": "a.jsonl", "output": "run"}
    one, *others = (resolve(name, overrides=given) for name in ("fa", "mle-filtering", "mle_filtering"))
    assert one.info.name == "fa"
    assert others == [one, one]


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.world
def test_the_gold_reward_rises(tmp_path: Path) -> None:
    from trueup.demo import Policy
    from trueup.estimates import mean
    from trueup.feedback.records import scores_of
    from trueup.world.generate import prompts
    from trueup.world.model import world_model_path

    asked = prompts(256, 1_000_003)
    before = scores_of(Policy(world_model_path()).judge(asked, seed=0))
    more: dict[str, Any]
    for number, (method, more) in enumerate((("fa", {}), ("rwr", {"beta": 0.5}))):
        values = {
            "model": "world", "data": ["world:rankings?count=1024"], "output": str(tmp_path / str(number)),
            "batch_size": 32, "steps": 40, "learning_rate": 1e-3, "save_every": 100,
        }  # fmt: skip
        run_here(method, values | more)
        after = scores_of(Policy(tmp_path / str(number) / "model").judge(asked, seed=0))
        gain = mean([new - old for new, old in zip(after, before, strict=True)])
        assert gain.value > 0.1 and gain.value > 4 * gain.error, (method, more)
