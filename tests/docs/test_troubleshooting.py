"""Every warning that the program gives has its place on the page of remedies."""

import ast
import re
from pathlib import Path

import pytest

from trueup.training.watch import REMEDIES

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs/troubleshooting.md").read_text().replace("**", "").replace("`", "").split())


def warnings() -> list[str]:
    """The longest fixed piece of each warning; those made of values alone are told of elsewhere."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            # `logger.warning`, and what is put into a list of warnings to be told later.
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and (node.func.attr == "warning" or ast.unparse(node.func) == "warnings.append")
            ):
                said = node.args[0]
                parts = said.values if isinstance(said, ast.JoinedStr) else [said]
                fixed = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
                pieces = [piece.strip() for text in fixed for piece in re.split(r"[;:,.`]| \(|\)", text)]
                longest = max(pieces, key=len, default="")
                if len(longest) > 11:
                    found.append(longest)
    return [*found, "does not fit this model"]  # told by whoever asked for an attention


@pytest.mark.parametrize("piece", warnings())
def test_a_warning_has_its_paragraph(piece: str) -> None:
    assert piece in PAGE


@pytest.mark.parametrize("kind", REMEDIES)
def test_trouble_has_its_section(kind: str) -> None:
    assert f"### {kind} " in PAGE
