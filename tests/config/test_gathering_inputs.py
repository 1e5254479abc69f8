"""Prompts, samplers' models and annotators are looked at before torch is imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from trueup.config.run_checks import check_inputs
from trueup.errors import InputError
from trueup.settings.annotator_settings import (
    AnnotatorChoice,
    EndpointAnnotator,
    FunctionAnnotator,
    LikelihoodAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)
from trueup.settings.run_settings import RunSettings


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """An online run whose inputs are there."""
    return {
        "model": "world",
        "output": str(tmp_path / "run"),
        "source": "online",
        "prompts": ["world:prompts?count=8"],
        "annotator": WorldAnnotator(),
    }


@pytest.fixture
def reward_model(model: Path) -> Path:
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (model / "config.json").write_text(json.dumps(config))
    return model


def check(given: dict[str, Any], **changed: Any) -> None:
    check_inputs(RunSettings(**{**given, **changed}))


def refuses(given: dict[str, Any], message: str, **changed: Any) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        check(given, **changed)
    assert "\n" not in str(refusal.value)


def test_whole_ones(given: dict[str, Any], model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ prompt }}")
    (tmp_path / "rewards.py").write_text("")
    (tmp_path / "p.jsonl").write_text("{}\n")
    known: list[AnnotatorChoice] = [
        LocalAnnotator(str(model)),
        LocalAnnotator("world", template=str(tmp_path / "mine.jinja")),
        EndpointAnnotator("http://localhost/v1", "J", template="summary"),
        LikelihoodAnnotator(str(model)),
        FunctionAnnotator(f"{tmp_path / 'rewards.py'}:brevity"),
        WorldAnnotator("proxy"),
    ]
    for annotator in known:
        check(
            given,
            annotator=annotator,
            prompts=[str(tmp_path / "p.jsonl")],
            sampler={"models": [str(model), "world"]},
        )


class TestAnnotator:
    def test_a_reward_model(self, given: dict[str, Any], reward_model: Path) -> None:
        check(given, annotator=RewardAnnotator(str(reward_model)))
        for annotator in (LocalAnnotator(str(reward_model)), LikelihoodAnnotator(str(reward_model))):
            message = rf"^annotator\.kind {annotator.kind} needs a causal language model, and .* give reward:.*model$"
            refuses(given, message, annotator=annotator)

    def test_a_language_model_is_none(self, given: dict[str, Any], model: Path) -> None:
        message = (
            r"model is a language model, no reward model \(a sequence classifier with one output\); give "
            r"likelihood:\S+model to score by its log-likelihood, or make one by trueup train reward-model$"
        )
        for config in (
            {"model_type": "llama"},
            {"architectures": ["LlamaForCausalLM"]},
            {"architectures": 3},
        ):
            (model / "config.json").write_text(json.dumps(config))
            refuses(given, message, annotator=RewardAnnotator(str(model)))

    def test_an_adapter_says_what_it_is(
        self, given: dict[str, Any], model: Path, tmp_path: Path, weights: bytes
    ) -> None:
        folder = tmp_path / "adapter"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(weights)
        settings = {"base_model_name_or_path": str(model), "task_type": "SEQ_CLS"}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        check(given, annotator=RewardAnnotator(str(folder)))
        (folder / "adapter_config.json").write_text(json.dumps(settings | {"task_type": "CAUSAL_LM"}))
        refuses(given, "is a language model, no reward model", annotator=RewardAnnotator(str(folder)))

    def test_folders_that_are_not_there(self, given: dict[str, Any], model: Path) -> None:
        refuses(
            given,
            r"^reward model rm is not a folder; give a reward model's FOLDER",
            annotator=RewardAnnotator("rm"),
        )
        message = (
            r"^annotator\.kind local: model org/judge is not a folder; if it is a hub id, download it first"
        )
        refuses(given, message, annotator=LocalAnnotator("org/judge"))
        (model / "model.safetensors").unlink()
        message = r"^annotator\.kind likelihood: \S+ has no weights"
        refuses(given, message, annotator=LikelihoodAnnotator(str(model)))
        refuses(given, "the world has no reward model of its own", annotator=RewardAnnotator("world"))

    def test_the_folder_of_a_run(self, given: dict[str, Any], reward_model: Path) -> None:
        message = r"so it is no model's folder; did you mean \S+/model\?$"
        refuses(given, message, annotator=RewardAnnotator(str(reward_model.parent)))

    @pytest.mark.parametrize("name", ["helpfullness", "mine.jinja"])
    def test_a_template_that_is_not_there(self, given: dict[str, Any], name: str) -> None:
        close = r"; did you mean helpfulness\?" if name.startswith("help") else ""
        message = (
            rf"^{name}: no such file; give one of helpfulness, harmlessness, summary, or a file .*{close}$"
        )
        refuses(given, message, annotator=EndpointAnnotator("http://localhost/v1", "J", template=name))
        refuses(given, message, annotator=LocalAnnotator("world", template=name))

    def test_a_function(self, given: dict[str, Any], tmp_path: Path) -> None:
        message = r"^none\.py: no such file; give a file with the function, as FILE\.py:FUNCTION"
        refuses(given, message, annotator=FunctionAnnotator("none.py:f"))
        refuses(given, r"^annotator\.function 'none' names no function", annotator=FunctionAnnotator("none"))


class TestSampling:
    def test_prompts_that_are_not_there(self, given: dict[str, Any], tmp_path: Path) -> None:
        message = r"^none\.jsonl: no such file; give a file with prompts or feedback, hub:OWNER/NAME, or world:prompts$"
        refuses(given, message, prompts="none.jsonl")
        refuses(given, message, prompts=["world:prompts", "none.jsonl"], source="offline")
        refuses(given, "is a folder; name a file", prompts=str(tmp_path))

    def test_models(self, given: dict[str, Any], reward_model: Path) -> None:
        refuses(given, r"^sampler\.models: model none is not a folder", sampler={"models": "none"})
        message = r"^sampler\.models: \S+model is a reward model, and writes nothing; leave it out$"
        refuses(given, message, sampler={"models": str(reward_model)})

    def test_a_replay_needs_none_of_it(self, given: dict[str, Any], tmp_path: Path) -> None:
        data = tmp_path / "examples.jsonl"
        data.write_text("{}\n")
        gone = {"prompts": "none.jsonl", "annotator": RewardAnnotator("rm"), "sampler": {"models": "none"}}
        check(given, source="replay", data=str(data), **gone)
        refuses(given, "no such file", source="replay", data="none.jsonl", **gone)
