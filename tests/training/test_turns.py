"""A run that learns every turn of its conversations."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused
from support.small_runs import losses, rows_of, run_here

from trueup.config.resolve import Resolved, resolve
from trueup.display import collected
from trueup.feedback.condition import Condition
from trueup.sources.by_name import examples_named
from trueup.training.data import ViewedFeedback, refuse_hidden, view_all


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Pairs after conversations that begin alike."""
    rows = [
        {
            "prompt": [turn("user", "hi"), turn("assistant", f"yes {n}"), turn("user", f"say {n}")],
            "chosen": [turn("assistant", f"{n}")],
            "rejected": [turn("assistant", "no")],
        }
        for n in range(16)
    ]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def values(model: Path, talks: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": str(model), "data": [str(talks)], "output": str(output), "batch_size": 4, "epochs": 4,
        "learning_rate": 3e-3, "eval_fraction": 0.25, **more,
    }  # fmt: skip


def test_a_run_learns_and_keeps_which_turns_it_learned(tiny_model: Path, talks: Path, tmp_path: Path) -> None:
    written = {}
    for turns in ("last", "all"):
        run_here("sft", values(tiny_model, talks, tmp_path / turns, turns=turns))
        first, *_, last = losses(tmp_path / turns)
        assert last < first
        written[turns] = (tmp_path / turns / "run.yaml").read_text()
    assert "turns: all" in written["all"]
    assert "turns: last" in written["last"]


def viewed(chosen: Resolved) -> ViewedFeedback:
    method = chosen.info.configure(chosen.method_settings)
    return view_all(chosen.settings, method, examples_named(chosen.settings.data).examples)


def test_training_and_evaluation_see_the_same_turns(tiny_model: Path, talks: Path, tmp_path: Path) -> None:
    chosen = resolve("dpo", overrides=values(tiny_model, talks, tmp_path / "run", turns="all"))
    with collected() as lines:
        examples = viewed(chosen)
    assert len(examples.training) == 12
    assert len(examples.held_out) == 4
    assert "turns all: earlier turns of the assistant are learned in 12 of 12 examples" in lines
    for group in (*examples.training, *examples.held_out):
        assert [message.content for message in group.prompt.content] == ["hi"]
        for response in group.responses:
            assert [message.role for message in response] == ["assistant", "user", "assistant"]
        assert group.responses[0][:2] == group.responses[1][:2]


def test_conversations_that_only_begin_alike_are_not_merged(tiny_model: Path, talks: Path, tmp_path: Path) -> None:
    """Merging comes first, by the whole prompt."""
    chosen = resolve("fa", overrides=values(tiny_model, talks, tmp_path / "run", turns="all"))
    rows = enumerate(rows_of(talks), 1)
    scored = [{"prompt": row["prompt"], "responses": ["a", "b"], "scores": [n, 0]} for n, row in rows]
    talks.write_text("".join(json.dumps(row) + "\n" for row in scored))
    examples = viewed(chosen)
    groups = (*examples.training, *examples.held_out)
    assert len({group.responses[0][0].content for group in groups}) == len(groups) > 1
    assert all(len({response[0].content for response in group.responses}) == 1 for group in groups)


def test_a_condition_after_the_last_message_and_earlier_turns_exclude_each_other(
    tiny_model: Path, talks: Path, tmp_path: Path
) -> None:
    end, start = (Condition(" {reward}", 1, place, reward=1.0) for place in ("end", "start"))
    every, last = (
        resolve("sft", overrides=values(tiny_model, talks, tmp_path / "run", turns=turns)).settings
        for turns in ("all", "last")
    )
    with refused(r"turns is all, but the model is asked with the condition ' 1\.0' after"):
        refuse_hidden(end, every)
    for condition, settings in ((end, last), (start, every), (None, every)):
        refuse_hidden(condition, settings)
