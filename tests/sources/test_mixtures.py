"""Mixtures: weights and limits of sources, as they are given and as they are learned from."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused

from trueup.feedback.views import apply, pairs
from trueup.inspection.inspection import collect
from trueup.settings.data_settings import Part, part_of
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import examples_named, mixed


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a.jsonl with ten pairs and b.jsonl with twenty."""
    monkeypatch.chdir(tmp_path)
    for name, number in (("a", 10), ("b", 20)):
        rows = [{"prompt": f"{name}{n}", "chosen": "y", "rejected": "n"} for n in range(number)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def settings_of(data: object) -> RunSettings:
    return RunSettings.model_validate({"model": "m", "output": "o", "data": data})


def taken(*names: str, seed: int = 0) -> list[Any]:
    """The prompts of a pass."""
    read = examples_named(names)
    groups = apply(pairs, read.examples).groups
    files = [group.origin.file for group in groups if group.origin]
    return [group.prompt.content for group in mixed(groups, files, read.weights, seed)]


def test_a_source_is_a_mapping_or_a_text() -> None:
    assert settings_of("a.jsonl").data == ("a.jsonl",)
    assert settings_of({"path": "a.jsonl"}).data == ("a.jsonl",)
    data = ["a.jsonl", {"path": "world:pairs?count=9", "weight": 0.5}, {"path": "b.jsonl", "limit": 3, "weight": 2}]
    assert settings_of(data).data == ("a.jsonl", "world:pairs?count=9&weight=0.5", "b.jsonl?weight=2&limit=3")
    assert [part_of(name) for name in settings_of(data).data] == [
        Part("a.jsonl"),
        Part("world:pairs?count=9", 0.5),
        Part("b.jsonl", 2.0, 3),
    ]
    assert part_of("hub:o/n?weight=2&split=test") == Part("hub:o/n?split=test", 2.0)


WRONG: dict[str, tuple[Mapping[str, object], str]] = {
    "key": ({"path": "a", "wieght": 1}, "unknown key 'wieght'; did you mean weight?"),
    "no path": ({"weight": 1}, "needs a path"),
    "zero": ({"path": "a", "weight": 0}, "weight must be a number above 0"),
    "infinite": ({"path": "a", "weight": float("inf")}, "weight must be a number above 0"),
    "word": ({"path": "a", "weight": "much"}, "weight must be a number above 0"),
    "limit": ({"path": "a", "limit": 0}, "limit a whole number of at least 1"),
    "half": ({"path": "a", "limit": 1.5}, "limit a whole number of at least 1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_source_that_is_wrong_is_refused(kind: str) -> None:
    given, message = WRONG[kind]
    with pytest.raises(ValueError, match="data") as raised:
        settings_of([given])
    assert message in str(raised.value)


def test_what_is_held_out_has_a_limit_and_no_weight() -> None:
    def held_out(*given: object) -> RunSettings:
        return RunSettings.model_validate({"model": "m", "output": "o", "data": "a.jsonl", "eval_data": given})

    assert held_out({"path": "b.jsonl", "limit": 3}).eval_data == ("b.jsonl?limit=3",)
    for given in ({"path": "b.jsonl", "weight": 2}, "b.jsonl?weight=2"):
        with pytest.raises(ValueError, match=r"eval_data\n.*weight in 'b.jsonl.weight=2', .*measured once"):
            held_out(given)
    with pytest.raises(ValueError, match="limit a whole number of at least 1"):
        held_out("b.jsonl?limit=0")


def test_weights_say_how_often_an_example_stands_in_a_pass() -> None:
    assert taken("a.jsonl", "b.jsonl") == [f"a{n}" for n in range(10)] + [f"b{n}" for n in range(20)]
    times = Counter(taken("a.jsonl?weight=2.3", "b.jsonl?weight=0.5"))
    assert sorted(times[f"a{n}"] for n in range(10)) == [2] * 7 + [3] * 3
    assert sorted(times[f"b{n}"] for n in range(20)) == [0] * 10 + [1] * 10
    assert taken("b.jsonl?weight=0.5") == taken("b.jsonl?weight=0.5") != taken("b.jsonl?weight=0.5", seed=1)


def test_a_limit_takes_the_first_examples() -> None:
    assert taken("b.jsonl?limit=2", "a.jsonl?limit=99&weight=2")[:4] == ["b0", "b1", "a0", "a0"]
    assert len(taken("world:pairs?count=30&limit=4&weight=3")) == 12


def test_the_share_of_each_source_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    taken("a.jsonl?weight=2", "b.jsonl?limit=5")
    assert "b.jsonl: the first 5 of 20 examples taken" in caplog.messages
    assert "a.jsonl: 20 of the 25 groups of a pass, 80.0%, from 10 (weight 2)" in caplog.messages
    assert "b.jsonl: 5 of the 25 groups of a pass, 20.0%, from 5 (weight 1)" in caplog.messages


def test_a_mixture_that_cannot_be_is_refused() -> None:
    with refused("a.jsonl stands twice in a mixture"):
        taken("a.jsonl?weight=2", "a.jsonl")
    with refused("a.jsonl: the weight 0.01 leaves none of 10 groups"):
        taken("a.jsonl?weight=0.01", "b.jsonl")


def test_an_inspection_takes_the_part_that_a_run_takes() -> None:
    found = collect(["a.jsonl?weight=0.5", "b.jsonl?weight=2&limit=3", "world:pairs?count=9&limit=4"])
    assert found.unreadable == ()
    assert Counter(one.prompt.content[0] for one in found.examples[:13]) == {"a": 10, "b": 3}
    assert len(found.examples) == 17
