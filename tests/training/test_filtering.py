"""Filtering alignment trains on exactly the responses that its rule keeps, counted here by other means."""

import json
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import run_here
from support.tiny_models import char_tokenizer

from trueup.config.resolve import resolve
from trueup.display import collected
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.models.load import load
from trueup.training.data import Parts, read_data

Row = dict[str, Any]
TOKENIZER = char_tokenizer()


def rows(count: int, seed: int) -> list[Row]:
    """Prompts with two to four responses that name themselves and have scores of a lopsided distribution."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        responses = [f" r{number}.{place}" for place in range(chance.randint(2, 4))]
        scores = [round(chance.expovariate(1.0), 3) for _ in responses]
        made.append({"prompt": f"p{number}", "responses": responses, "scores": scores})
    return made


def write(path: Path, content: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def trained_on(model: Path, files: list[Path], output: Path, **more: Any) -> tuple[Any, list[str]]:
    """The source of an FA run on these files, and what is said of the data."""
    import torch

    given = {"model": str(model), "data": [str(file) for file in files], "output": str(output), **more}
    resolved = resolve("fa", overrides=given)
    method = METHODS["fa"].build(**dict(resolved.method_settings))
    loaded = load(str(model), device=torch.device("cpu"))
    unused: Any = None
    with collected() as lines:
        parts = Parts(resolved.settings, method, unused, loaded, unused, unused)
        source = read_data(resolved.settings, method).source(parts)
    return source, list(lines)


def texts(groups: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Prompt and responses of each group, without beginning and end."""

    def text(ids: Any) -> str:
        return str(TOKENIZER.decode(ids.tolist(), skip_special_tokens=True))

    return [(text(group.prompt), tuple(text(row.ids) for row in group.responses)) for group in groups]


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0])
def test_exactly_the_responses_above_the_threshold_are_kept(
    threshold: float, tiny_model: Path, tmp_path: Path
) -> None:
    content = rows(60, seed=0)
    source, _ = trained_on(
        tiny_model, [write(tmp_path / "a.jsonl", content)], tmp_path / "run", threshold=threshold
    )
    values = [score for row in content for score in row["scores"]]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    expected = []
    for row in content:
        pairs = zip(row["responses"], row["scores"], strict=True)
        kept = tuple(text for text, score in pairs if (score - mean) / deviation > threshold)
        if kept:
            expected.append((row["prompt"], kept))
    assert texts(source.groups) == expected
    assert 0 < sum(len(kept) for _, kept in expected) < len(values)


def test_what_equals_the_threshold_is_left_out(tiny_model: Path, tmp_path: Path) -> None:
    """0, 1 and 2: the middle one is the mean, exactly."""
    file = write(
        tmp_path / "a.jsonl", [{"prompt": "p", "responses": [" a", " b", " c"], "scores": [0, 1, 2]}]
    )
    source, _ = trained_on(tiny_model, [file], tmp_path / "run")
    assert texts(source.groups) == [("p", (" c",))]
    source, _ = trained_on(
        tiny_model, [file], tmp_path / "run", reward_mean=0.0, reward_std=1.0, threshold=1.0
    )
    assert texts(source.groups) == [("p", (" c",))]


def test_the_standard_deviation_is_unbiased(tiny_model: Path, tmp_path: Path) -> None:
    """Of 0, 1 and 2 it is 1, so that 2 is not above 1; the biased one is 0.82."""
    file = write(
        tmp_path / "a.jsonl", [{"prompt": "p", "responses": [" a", " b", " c"], "scores": [0, 1, 2]}]
    )
    with pytest.raises(InputError, match="no response is above the threshold"):
        trained_on(tiny_model, [file], tmp_path / "run", threshold=1.0)
    source, _ = trained_on(tiny_model, [file], tmp_path / "run", threshold=0.99)
    assert texts(source.groups) == [("p", (" c",))]


def test_a_threshold_that_nothing_reaches_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", rows(10, seed=1))
    with pytest.raises(InputError, match="no response is above the threshold"):
        trained_on(tiny_model, [file], tmp_path / "run", threshold=50.0)


def test_held_out_responses_are_measured_by_the_scale_of_training(tiny_model: Path, tmp_path: Path) -> None:
    """By their own mean of 10 one of three would be above 0; by that of training, which is 1, all are above 2."""
    file = write(
        tmp_path / "a.jsonl", [{"prompt": "p", "responses": [" a", " b", " c"], "scores": [0, 1, 2]}]
    )
    held = write(
        tmp_path / "b.jsonl", [{"prompt": "q", "responses": [" d", " e", " f"], "scores": [3, 4, 23]}]
    )
    more: Any = {"eval_data": [str(held)], "threshold": 0.5}
    source, _ = trained_on(tiny_model, [file], tmp_path / "run", **more)
    assert texts(source.groups) == [("p", (" c",))]
    assert texts(source.held_out_groups) == [("q", (" d", " e", " f"))]
    more["threshold"] = 2.5
    with pytest.raises(InputError, match="no response is above the threshold"):
        trained_on(tiny_model, [file], tmp_path / "run", **more)


def test_the_best_of_each_prompt_over_two_files(tiny_model: Path, tmp_path: Path) -> None:
    """Equal prompts of both files are one, ties go to the first, and a duplicate counts with the mean of its scores."""
    first = write(
        tmp_path / "a.jsonl",
        [
            {"prompt": "spread", "responses": [" a", " b"], "scores": [1, 3]},
            {"prompt": "tied", "responses": [" a", " b", " c"], "scores": [1, 5, 5]},
            {"prompt": "twice", "responses": [" a", " b"], "scores": [9, 6]},
        ],
    )
    second = write(
        tmp_path / "b.jsonl",
        [
            {"prompt": "twice", "responses": [" a"], "scores": [1]},
            {"prompt": "tied", "responses": [" d"], "scores": [5]},
            {"prompt": "spread", "responses": [" d", " e"], "scores": [7, 2]},
            {"prompt": "spread ", "responses": [" f"], "scores": [0]},
        ],
    )
    source, lines = trained_on(tiny_model, [first, second], tmp_path / "run", best_of_n=True)
    assert texts(source.groups) == [
        ("spread", (" d",)), ("tied", (" b",)), ("twice", (" b",)), ("spread ", (" f",)),
    ]  # fmt: skip
    said = "merged by prompt: 7 examples gave 4; 1 duplicate response removed, 1 of them judged differently"
    assert any(line.startswith(said) for line in lines)


def test_the_best_of_many_is_the_best(tiny_model: Path, tmp_path: Path) -> None:
    content = rows(40, seed=2)
    halves = [
        [
            {**row, "responses": row["responses"][part::2], "scores": row["scores"][part::2]}
            for row in (content if part else content[::-1])
        ]
        for part in (0, 1)
    ]
    files = [write(tmp_path / f"{part}.jsonl", half) for part, half in enumerate(halves)]
    source, _ = trained_on(tiny_model, files, tmp_path / "run", best_of_n=True)
    expected = {row["prompt"]: max(zip(row["scores"], row["responses"], strict=True))[1] for row in content}
    assert {prompt: kept for prompt, (kept,) in texts(source.groups)} == expected
    assert len(source.groups) == 40


def test_a_run_by_its_first_name_is_the_same_run(tiny_model: Path, tmp_path: Path) -> None:
    """The paper's first version calls it MLE with filtering."""
    file = write(tmp_path / "a.jsonl", rows(8, seed=3))
    common = {
        "model": str(tiny_model),
        "data": [str(file)],
        "batch_size": 4,
        "steps": 2,
        "learning_rate": 1e-3,
    }
    for name in ("fa", "mle-filtering", "mle_filtering"):
        run_here(name, {**common, "output": str(tmp_path / name)})
    records = [(tmp_path / name / "run.yaml").read_text() for name in ("fa", "mle-filtering")]
    assert records[1].replace("mle-filtering", "fa") == records[0]
    assert "method: fa\n" in records[1]


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.parametrize(
    ("method", "more"), [("fa", {}), ("fa", {"best_of_n": True}), ("rwr", {"beta": 0.5})]
)
def test_the_gold_reward_rises(method: str, more: dict[str, Any], tmp_path: Path) -> None:
    from trueup.demo.world_policy import Policy
    from trueup.evaluate.estimates import mean
    from trueup.world.generate import prompts
    from trueup.world.model import world_model_path

    values = {
        "model": "world", "data": ["world:rankings?count=1024"], "output": str(tmp_path / "run"),
        "batch_size": 32, "steps": 96, "learning_rate": 1e-3,
    }  # fmt: skip
    run_here(method, values | more)
    asked = prompts(512, 1_000_003)
    before = Policy(world_model_path()).judge(asked, seed=0)
    after = Policy(tmp_path / "run/model").judge(asked, seed=0)
    gain = mean([new - old for new, old in zip(after.rewards, before.rewards, strict=True)])
    print(method, more, before.gold, after.gold)
    assert gain.value > 0.1 and gain.value > 4 * gain.error
