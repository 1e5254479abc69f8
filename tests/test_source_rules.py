"""Rules of the source that no other tool checks."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import trueup
from trueup.methods import METHODS

SOURCE = Path(trueup.__file__).parent
FILES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
LINES = 400

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def no_pickle(tree: ast.AST) -> Iterator[ast.AST]:
    """Whatever can run code when it is read."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.split(".")[0] in PICKLES for name in names):
            yield node
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save", "np.load"):
            yield node


def no_trust(tree: ast.AST) -> Iterator[ast.AST]:
    """Code from a model's folder runs only when the user's own setting says so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            value = node.value
            if isinstance(value, ast.Constant) and value.value is not False:
                yield value


def no_loss_type(tree: ast.AST) -> Iterator[ast.AST]:
    """A method is one loss; a parameter that chooses among losses is several methods in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg == "loss_type":
            yield node


def no_method_names(tree: ast.AST) -> Iterator[ast.AST]:
    """Nothing is done differently because a method has a certain name."""
    for node in ast.walk(tree):
        compared: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        inner = [deep for value in compared for deep in ast.walk(value)]
        if any(isinstance(value, ast.Constant) and value.value in METHODS for value in inner):
            yield node


RULES: dict[Callable[[ast.AST], Iterator[ast.AST]], tuple[str, ...]] = {
    no_pickle: ("import pickle", "from joblib import load", "torch.load(path)"),
    no_trust: ("load(path, trust_remote_code=True)",),
    no_loss_type: ("def dpo(policy, *, loss_type): ...",),
    no_method_names: (
        "if method == 'dpo': ...",
        "x = info.name in ('sft', 'rrhf')",
        "match name:\n    case 'ulma': ...",
    ),
}
ALLOWED: dict[Callable[[ast.AST], Iterator[ast.AST]], tuple[str, ...]] = {no_method_names: ("methods",)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Callable[[ast.AST], Iterator[ast.AST]]) -> None:
    assert all(list(rule(ast.parse(example))) for example in RULES[rule])  # the rule sees what it forbids
    broken = [
        f"{name}:{node.lineno}"  # type: ignore[attr-defined]
        for name, path in FILES.items()
        if Path(name).parts[0] not in ALLOWED.get(rule, ())
        for node in rule(ast.parse(path.read_text()))
    ]
    assert not broken


def test_trust_is_never_passed_unnamed() -> None:
    """`**options` could carry it past the rule above: every place that loads names it, from the setting."""
    text = "".join(path.read_text() for path in FILES.values())
    assert text.count("trust_remote_code=") == text.count("trust_remote_code=trust_remote_code") + text.count(
        "trust_remote_code=settings.trust_remote_code"
    )


def test_files_are_short() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: lines for name, lines in long.items() if lines > LINES} == {}


def test_files_are_ascii() -> None:
    assert [name for name, path in FILES.items() if not path.read_bytes().isascii()] == []
