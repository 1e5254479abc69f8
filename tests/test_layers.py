"""Imports go one way: a part may use what stands above it here, never what stands below."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.source_tree import MODULES, imports, inside

import trueup

LAYERS = (
    ("errors", "words"),
    ("parallel",),
    ("display", "estimates", "files", "model_hub", "python_objects", "record_cache", "stop", "trial"),
    ("metrics",),
    ("feedback", "endpoints", "settings", "model_folder"),
    ("batch",),
    ("objectives", "models"),
    ("references", "sampling", "annotators"),
    ("world",),
    ("sources",),
    ("methods",),
    ("config",),
    ("report",),
    ("training",),
    ("inspection",),
    ("gathering",),
    ("evaluate",),
    ("labelling",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Lowest first. Parts of one layer do not know each other."""

PLACE = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def part_of(module: str) -> str:
    return module.partition(".")[0]


def faults(module: str, source: str, modules: dict[str, Path] = MODULES) -> list[str]:
    """Imports of a module that go the wrong way."""
    found = []
    for imported in imports(ast.parse(source)):
        other = inside(imported, modules)
        if other is None:
            continue
        up = PLACE[part_of(other)] - PLACE[part_of(module)]
        if up > 0 or (up == 0 and other.split(".")[0] != module.split(".")[0]):
            found.append(f"{module} imports {imported}")
    return found


def test_every_module_has_a_place_and_every_place_is_taken() -> None:
    assert {part_of(module) for module in MODULES if module} == set(PLACE)


def test_imports_go_one_way() -> None:
    """The package's own `__init__` imports all of it, and holds the version that all of it may read."""
    found = [fault for module in MODULES if module for fault in faults(module, MODULES[module].read_text())]
    assert not found


WRONG = {
    "objectives.dpo": "from trueup.models.causal import CausalModel",
    "models.load": "def read():\n    from trueup.objectives import dpo",
    "references.build": "import trueup.training.loop",
    "settings.run_settings": "from trueup.config import trl_names",
    "feedback.read": "if True:\n    from trueup.batch.rows import Pairs",
}


@pytest.mark.parametrize("module", WRONG)
def test_an_import_the_wrong_way_is_found(module: str) -> None:
    assert len(faults(module, WRONG[module])) == 1
    assert not faults(module, f"if TYPE_CHECKING:\n    {WRONG[module].splitlines()[-1].strip()}")


def third_parties(package: str) -> set[str]:
    """What a package imports from outside trueup and the standard library."""
    names = {
        imported.split(".")[0]
        for module, path in MODULES.items()
        if module.split(".")[0] == package
        for imported in imports(ast.parse(path.read_text()))
    }
    return names - set(sys.stdlib_module_names) - {"trueup"}


def test_feedback_is_text_only() -> None:
    """By the layers it sees nothing of trueup but the errors, so what it imports itself is all there is.
    What reads Parquet and the hub is imported only when one is met; a test of the reader holds it to that."""
    assert third_parties("feedback") == {"datasets", "pyarrow"}


def test_objectives_see_tensors_and_batches_only() -> None:
    assert third_parties("objectives") == {"torch"}
    seen = {
        part_of(other)
        for module, path in MODULES.items()
        if module.split(".")[0] == "objectives"
        for imported in imports(ast.parse(path.read_text()))
        if (other := inside(imported, MODULES))
    }
    assert seen <= {"batch", "objectives"}


@pytest.mark.parametrize(
    "package",
    ["methods", "config", "references", "training", "sources", "sampling", "annotators", "gathering"],
)
def test_only_models_and_the_world_know_the_model_library(package: str) -> None:
    """A change of transformers or peft concerns one place."""
    assert not third_parties(package) & {"transformers", "peft", "tokenizers"}


def test_every_module_can_be_imported() -> None:
    found = {module.name for module in pkgutil.walk_packages(trueup.__path__, "trueup.")}
    named = {f"trueup.{name}" for name in MODULES if name}
    assert not named - found  # a folder without __init__.py would be left out of the package
    for name in sorted(named):
        importlib.import_module(name)


def test_settings_are_settled_without_torch() -> None:
    """What refuses a wrong combination loads none of the heavy libraries; nor does feedback, or the world's text."""
    light = ["methods", "config.resolve", "config.run_checks", "training.api", "cli.app"]
    light += [f"world.{name}" for name in ("language", "people", "generate")]
    light += [name for name in MODULES if name.startswith("feedback.")]
    heavy = {"torch", "transformers", "tokenizers", "peft", "numpy", "pyarrow", "datasets", "huggingface_hub"}
    code = f"import sys, {', '.join(f'trueup.{name}' for name in light)}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
