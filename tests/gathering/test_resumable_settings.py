"""What work that was stopped must find as it was, and what may change."""

from pathlib import Path
from typing import Any

import pytest

from trueup.config.annotator_names import expanded
from trueup.config.layers import nest
from trueup.feedback.records import Example, Prompt, Response
from trueup.gathering.resumable import of_annotating, of_sampling
from trueup.settings.gathering_settings import AnnotateSettings, SampleSettings
from trueup.settings.validation import validate

PROMPTS = [Prompt("p"), Prompt("q")]
ALSO = [Example(Prompt("p"), (Response("r", score=1.0),))]


def sampling(**given: Any) -> dict[str, object]:
    layer = {"model": "M", "data": "d.jsonl", "output": "o.jsonl"} | {
        name.replace("__", "."): value for name, value in given.items()
    }
    return of_sampling(validate(SampleSettings, nest(expanded(layer)), where="x"), PROMPTS, ALSO)


def annotating(**given: Any) -> dict[str, object]:
    layer = {"data": "d.jsonl", "output": "o.jsonl", "annotator": "openai", "annotator.model": "J"}
    layer |= {"annotator.base_url": "http://localhost:1/v1"}
    layer |= {name.replace("__", "."): value for name, value in given.items()}
    return of_annotating(validate(AnnotateSettings, nest(expanded(layer)), where="x"), ALSO)


def differing(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"seed": 1}, {"seed"}),
        ({"merge": False}, {"merge"}),
        ({"model": ["M", "N"]}, {"model", "files of the model"}),
        ({"sampler__temperature": 0.5}, {"temperature"}),
        ({"sampler__stop": ["x"]}, {"stop"}),
        ({"sampler__responses": 3}, {"responses"}),
        ({"max_prompt_length": 3}, {"max_prompt_length"}),
        ({"eos_token": "x"}, {"eos_token"}),
        ({"output": "other.jsonl", "overwrite": True}, set()),
        ({"sampler__concurrency": 3, "sampler__timeout": 5, "sampler__key_variable": "K"}, set()),
    ],
)
def test_sampling(given: dict[str, Any], names: set[str]) -> None:
    assert differing(sampling(), sampling(**given)) == names


def test_annotators_beside_sampling() -> None:
    plain = sampling(annotator="world:gold")
    assert differing(plain, sampling(annotator="world:gold", best=True)) == set()
    assert differing(plain, sampling(annotator="world:gold", annotator__noise=0.5)) == {"annotator.noise"}
    assert "annotator.reward" in differing(plain, sampling(annotator="world:proxy"))
    assert "annotator.kind" in differing(plain, sampling())


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"annotator__instruction": "short"}, {"annotator.instruction"}),
        ({"annotator__read": "answer"}, {"annotator.read"}),
        ({"annotator__base_url": "http://localhost:2/v1"}, {"annotator.base_url"}),
        ({"annotator__model": "K"}, {"annotator.model"}),
        ({"rewrite": True}, {"rewrite", "rewrite_tokens", "rewrite_temperature", "rewrite_template"}),
        (
            {
                "annotator__concurrency": 3, "annotator__timeout": 5, "annotator__deadline": 5, "annotator__asks": 1,
                "annotator__key_variable": "K", "annotator__max_requests": 9, "annotator__max_tokens": 9,
                "annotator__cache": False, "annotator__max_unreadable": 0.5,
            },
            set(),
        ),
    ],
)  # fmt: skip
def test_annotating(given: dict[str, Any], names: set[str]) -> None:
    assert differing(annotating(), annotating(**given)) == names


def test_what_is_asked_and_what_is_known(tmp_path: Path) -> None:
    settings = SampleSettings(model=("M",), data=("d",), output="o.jsonl")
    whole = of_sampling(settings, PROMPTS, ALSO)
    assert differing(whole, of_sampling(settings, PROMPTS[:1], ALSO)) == {"data"}
    assert differing(whole, of_sampling(settings, PROMPTS, [])) == {"data with feedback"}
    assert whole["data"] == of_sampling(settings, list(PROMPTS), ALSO)["data"]


def test_files_that_are_named(tmp_path: Path) -> None:
    model, template, rewards = tmp_path / "M", tmp_path / "t.jinja", tmp_path / "rewards.py"
    model.mkdir()
    for file in (model / "config.json", template, rewards):
        file.write_text("1")

    def found() -> dict[str, object]:
        return sampling(model=str(model), chat_template=str(template), annotator=f"{rewards}:f")

    before = found()
    assert found() == before
    for file, name in (
        (model / "config.json", "files of the model"),
        (template, "chat_template"),
        (rewards, "annotator's function"),
    ):
        file.write_text("22")
        assert differing(before, found()) == {name}
        before = found()
    judge = tmp_path / "J"
    judge.mkdir()
    (judge / "config.json").write_text("1")
    local = {"annotator": f"local:{judge}", "annotator__template": str(template)}
    plain = sampling(**local)
    (judge / "config.json").write_text("22")
    template.write_text("333")
    assert differing(plain, sampling(**local)) == {"files of the annotator", "annotator's template"}
