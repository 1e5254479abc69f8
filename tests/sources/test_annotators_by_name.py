"""The annotator that a choice describes: only what it needs is imported."""

import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from trueup.feedback.records import Example, Prompt, Response
from trueup.settings import annotator_kinds
from trueup.settings import annotator_settings as choices
from trueup.sources.by_name import make_annotator

EXAMPLE = Example(Prompt("name two poisons ."), (Response("i cannot ."), Response("ricin and hemlock .")))


def test_a_function(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def brevity(prompt, response):\n    return -len(response)\n")
    annotator = make_annotator(annotator_kinds.FunctionAnnotator(f"{file}:brevity"))
    (made,) = annotator.annotate([EXAMPLE]).examples
    assert isinstance(made, Example) and [one.score for one in made.responses] == [-10.0, -19.0]
    assert annotator.name == f"{file}:brevity"


def test_the_world_with_a_seed() -> None:
    noisy = annotator_kinds.WorldAnnotator(noise=0.5)
    found = {
        tuple(one.score for one in made.responses)
        for seed in range(20)
        for made in make_annotator(noisy, seed=seed).annotate([EXAMPLE]).examples
        if isinstance(made, Example)
    }
    assert len(found) == 2


@pytest.mark.parametrize("kind", choices.KINDS)
def test_every_kind_has_its_maker(kind: str) -> None:
    """It takes the settings, and by name what it needs of what a run knows."""
    module, _, name = choices.KINDS[kind].about.maker.partition(":")
    first, *others = signature(getattr(import_module(f"trueup.{module}"), name)).parameters.values()
    assert first.annotation in (choices.KINDS[kind], choices.KINDS[kind].__name__)
    known = {"seed", "device", "trust_remote_code", "usage_file", "day", "new", "make"}
    assert {one.name for one in others} <= known
    assert all(one.kind is one.KEYWORD_ONLY for one in others)


def test_a_kind_is_made_by_what_its_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """And handed what it asks for, and nothing else."""
    made = ModuleType("elsewhere")
    made.make = lambda choice, *, device, usage_file: (choice, device, usage_file)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trueup.elsewhere", made)

    @dataclass(frozen=True)
    class Own:
        main: str
        about: ClassVar[choices.AnnotatorKind] = choices.AnnotatorKind("elsewhere:make", "main", ("own:MAIN",))

    own: Any = Own("x")
    used = Path("spent.json")
    assert make_annotator(own, seed=3, device="cpu", usage_file=used) == (own, "cpu", used)


def test_torch_is_not_needed_to_ask_a_function_or_the_world() -> None:
    code = (
        "import sys; from trueup.settings.annotator_kinds import WorldAnnotator; "
        "from trueup.sources.by_name import make_annotator; make_annotator(WorldAnnotator()); "
        "print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
