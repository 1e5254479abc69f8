"""The modules of the package, and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import trueup

SOURCE = Path(trueup.__file__).parent


def name_of(path: Path, root: Path = SOURCE) -> str:
    """`models.lora` for `models/lora.py`; empty for the package's own `__init__`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a module imports, in functions too, but not for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def inside(imported: str, modules: dict[str, Path]) -> str | None:
    """The module of trueup that an import names, if it is one."""
    if not imported.startswith("trueup."):
        return None
    parts = imported.split(".")[1:]
    while parts and ".".join(parts) not in modules:
        parts.pop()  # `batch.rows.Pairs` is a name in the module `batch.rows`
    return ".".join(parts) or None
