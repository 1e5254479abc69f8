"""The annotator that a choice describes: only what it needs is imported."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trueup.errors import InputError
from trueup.feedback.records import Example, Prompt, Response
from trueup.settings import annotator_settings as choices
from trueup.sources.annotator import make_annotator

EXAMPLE = Example(Prompt("name two poisons ."), (Response("i cannot ."), Response("ricin and hemlock .")))


def test_a_function(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def brevity(prompt, response):\n    return -len(response)\n")
    annotator = make_annotator(choices.FunctionAnnotator(f"{file}:brevity"))
    (made,) = annotator.annotate([EXAMPLE]).examples
    assert isinstance(made, Example) and [one.score for one in made.responses] == [-10.0, -19.0]
    assert annotator.name == f"{file}:brevity"


def test_the_world_with_a_seed() -> None:
    noisy = choices.WorldAnnotator(noise=0.5)
    found = {
        tuple(one.score for one in made.responses)
        for seed in range(20)
        for made in make_annotator(noisy, seed=seed).annotate([EXAMPLE]).examples
        if isinstance(made, Example)
    }
    assert len(found) == 2


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        make_annotator(choices.FunctionAnnotator(f"{tmp_path}/rewards.py:brevity"))


@pytest.mark.parametrize(
    ("choice", "module", "function", "passed"),
    [
        (
            choices.LocalAnnotator("m"),
            "local",
            "load_local_annotator",
            {"device", "trust_remote_code"},
        ),
        (
            choices.RewardAnnotator("m"),
            "model_scores",
            "load_reward_annotator",
            {"device", "trust_remote_code"},
        ),
        (
            choices.LikelihoodAnnotator("m"),
            "model_scores",
            "load_likelihood_annotator",
            {"device", "trust_remote_code"},
        ),
        (
            choices.EndpointAnnotator("http://localhost:1/v1", "m"),
            "endpoint",
            "load_endpoint_annotator",
            {"spent"},
        ),
    ],
)
def test_every_other_kind_has_its_loader(
    choice: choices.AnnotatorChoice,
    module: str,
    function: str,
    passed: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what the user said: the device, whether code may run, and where it is kept what was spent."""
    heard: list[Any] = []

    def load(given: Any, **options: Any) -> str:
        heard.append((given, options))
        return "annotator"

    stand_in = ModuleType(module)
    setattr(stand_in, function, load)
    monkeypatch.setitem(sys.modules, f"trueup.annotators.{module}", stand_in)
    options = {"device": "cpu", "trust_remote_code": False, "spent": Path("spent.json")}
    assert make_annotator(choice, **options) == "annotator"  # type: ignore[arg-type, comparison-overlap]
    assert heard == [(choice, {name: options[name] for name in passed})]


def test_the_loaders_are_there() -> None:
    from trueup.annotators.endpoint import load_endpoint_annotator
    from trueup.annotators.local import load_local_annotator
    from trueup.annotators.model_scores import load_likelihood_annotator, load_reward_annotator

    loaders = (
        load_endpoint_annotator,
        load_likelihood_annotator,
        load_local_annotator,
        load_reward_annotator,
    )
    assert all(map(callable, loaders))


def test_torch_is_not_needed_to_ask_a_function_or_the_world() -> None:
    code = (
        "import sys; from trueup.settings.annotator_settings import WorldAnnotator; "
        "from trueup.sources.annotator import make_annotator; make_annotator(WorldAnnotator()); "
        "print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
