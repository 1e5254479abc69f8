"""A type checker knows every method; what else it knows of them is in combinations.py, which `make types` checks."""

import re
from pathlib import Path

from trueup.methods import METHODS

ROOT = Path(__file__).parents[2]


def test_a_type_checker_knows_every_method() -> None:
    stub = (ROOT / "src/trueup/methods/__init__.pyi").read_text()
    named = set(re.findall(r"^from trueup\.methods\.\w+ import \w+ as (\w+)$", stub, re.MULTILINE))
    others = {"METHODS", "Beta", "Method", "MethodInfo", "method"}
    assert named == {info.build.__name__ for info in METHODS.values()} | others
