"""Rules of the source that no other tool checks."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from support.source_tree import MODULES, imports, inside

import trueup
from trueup.methods import METHODS

SOURCE = Path(trueup.__file__).parent
FILES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs")
LINES = 400
Rule = Callable[[Sequence[ast.AST]], Iterator[ast.AST]]

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def walked(source: str) -> list[ast.AST]:
    """All nodes of a module, which every rule looks through."""
    return list(ast.walk(ast.parse(source)))


def no_pickle(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Whatever can run code when it is read."""
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.split(".")[0] in PICKLES for name in names):
            yield node
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save", "np.load"):
            yield node


def no_trust(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Code from a model's folder runs only when the user's own setting says so."""
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            value = node.value
            if isinstance(value, ast.Constant) and value.value is not False:
                yield value
        if isinstance(node, ast.Dict):  # `**{...}`
            for key, given in zip(node.keys, node.values, strict=True):
                named = isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                if named and isinstance(given, ast.Constant) and given.value is True:
                    yield given


def no_unpickling(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """What `no_pickle` sees, but for loads that are told to read tensors alone, and for writing."""
    safe = {
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        for word in node.keywords
        if (word.arg, getattr(word.value, "value", None)) in (("weights_only", True), ("allow_pickle", False))
    }
    for node in no_pickle(nodes):
        if node not in safe and not (isinstance(node, ast.Attribute) and node.attr == "save"):
            yield node


def no_loss_type(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """A method is one loss; a parameter that chooses among losses is several methods in one."""
    for node in nodes:
        if isinstance(node, ast.arg) and node.arg == "loss_type":
            yield node


def no_method_names(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Nothing is done differently because a method has a certain name."""
    for node in nodes:
        compared: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        inner = [deep for value in compared for deep in ast.walk(value)]
        if any(isinstance(value, ast.Constant) and value.value in METHODS for value in inner):
            yield node


RULES: dict[Rule, tuple[str, ...]] = {
    no_pickle: ("import pickle", "from joblib import load", "torch.load(path)"),
    no_trust: ("load(path, trust_remote_code=True)",),
    no_loss_type: ("def dpo(policy, *, loss_type): ...",),
    no_method_names: (
        "if method == 'dpo': ...",
        "x = info.name in ('sft', 'rrhf')",
        "match name:\n    case 'ulma': ...",
    ),
}
ALLOWED: dict[Rule, tuple[str, ...]] = {no_method_names: ("methods",)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule) -> None:
    assert all(list(rule(walked(example))) for example in RULES[rule])  # the rule sees what it forbids
    found = [place.removeprefix("src/trueup/") for place in broken()[rule] if place.startswith("src/trueup/")]
    assert [place for place in found if Path(place).parts[0] not in ALLOWED.get(rule, ())] == []


def test_trust_is_never_passed_unnamed() -> None:
    """`**options` could carry it past the rule above: every place that loads names it, from the setting, or says no."""
    nodes = [node for path in FILES.values() for node in walked(path.read_text())]
    named = [
        ast.unparse(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
    ]
    assert set(named) <= {"trust_remote_code", "settings.trust_remote_code", "False"}
    libraries = [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and ast.unparse(node.func.value).startswith("Auto")
    ]
    assert len(libraries) >= 3
    assert all("trust_remote_code" in [word.arg for word in node.keywords] for node in libraries)


def code() -> Iterator[tuple[str, str]]:
    """Every Python file of the repository, and every block of Python in a page: its place and its text."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: block.start()].count("\n") + 1
            yield f"{path.relative_to(ROOT)}:{line}", block.group(1)


@cache
def broken() -> dict[Rule, list[str]]:
    """By rule, where in `code()` it is broken: every file is read once."""
    rules: tuple[Rule, ...] = (*RULES, no_unpickling)
    found: dict[Rule, list[str]] = {rule: [] for rule in rules}
    for place, text in code():
        nodes = walked(text)
        for rule in rules:
            found[rule] += [f"{place}:{node.lineno}" for node in rule(nodes)]
    return found


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


@pytest.mark.parametrize("rule", [no_unpickling, no_trust], ids=lambda rule: rule.__name__)
def test_the_whole_repository_keeps(rule: Rule) -> None:
    """Tests, benchmarks, examples and pages are copied from, too."""
    for bad in (
        "import pickle" if rule is no_unpickling else "f(trust_remote_code=True)",
        "torch.load(path, weights_only=False)" if rule is no_unpickling else "f(**{'trust_remote_code': True})",
    ):
        assert list(rule(walked(bad)))
    assert not list(no_unpickling(walked("torch.load(path, weights_only=True); torch.save(x, path)")))
    assert {"benchmarks", "docs", "src", "tests"} <= {Path(name).parts[0] for name, _ in code()}
    assert broken()[rule] == []


UNSAFE = re.compile(
    r"trust[-_]remote[-_]code['\"]?\s*[=:]?\s*(true|True|yes|1)\b|--trust[-_]remote[-_]code\b(?!['\"`])"
    r"|!!python|\bpickle\.loads?\b|allow_pickle\s*=\s*True|weights_only\s*=\s*False"
)
"""In whatever is not Python: commands, settings, pages."""


@pytest.mark.parametrize(
    "text",
    [
        "trust_remote_code: true", "trueup train dpo --trust-remote-code", "AutoModel(x, trust_remote_code=True)",
        "a: !!python/object:os.system", "torch.load(f, weights_only=False)", "pickle.load(f)",
    ],
)  # fmt: skip
def test_no_page_shows_how_to_run_code_of_others(text: str) -> None:
    assert UNSAFE.search(text)
    written = [*pages(), ROOT / "Makefile"]
    for folder in FOLDERS:
        written += [path for suffix in ("yaml", "yml", "sh", "toml") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    assert any(path.suffix == ".yaml" for path in written)
    broken = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in written
        for found in UNSAFE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not broken


SMALL = 60
IMPORT_SHARE = 0.06
ALONE = {
    "methods.*": "one file a method",
    "objectives.*": "one file an objective, beside its method",
}
"""Modules, by pattern, that may be small with one user, and why; others belong into the file of their subject."""


def import_lines(source: str) -> int:
    """Lines of import statements, wherever they stand."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in found)


def test_files_are_short() -> None:
    long = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: lines for name, lines in long.items() if lines > LINES} == {}


def test_a_small_file_with_one_user_has_a_reason() -> None:
    """A file is a subject; what one other file alone needs is usually part of that one's."""
    sources = {name: path.read_text() for name, path in MODULES.items()}
    users: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        used = {inside(imported, MODULES) for imported in imports(ast.parse(source))}
        for other in used - {None, name}:
            users[str(other)].add(name)
    small = {
        name
        for name, path in MODULES.items()
        if len(users[name]) == 1 and path.name != "__init__.py" and len(sources[name].splitlines()) < SMALL
    }
    assert {name for name in small if not any(fnmatch(name, known) for known in ALONE)} == set()
    assert {known for known in ALONE if not any(fnmatch(name, known) for name in small)} == set()


def test_few_lines_are_imports() -> None:
    sources = [path.read_text() for path in FILES.values()]
    lines = sum(len(source.splitlines()) for source in sources)
    assert import_lines("import ast\nfrom os import (\n    path,\n)\nx = 1\n") == 4
    assert sum(map(import_lines, sources)) <= IMPORT_SHARE * lines


def test_evaluation_reports_and_labelling_are_small_with_their_pages() -> None:
    files = [path for room in ("evaluate", "report", "labelling") for path in (SOURCE / room).rglob("*.*")]
    kept = [path for path in files if path.suffix in (".py", ".html", ".css", ".js", ".jinja")]
    assert {path.suffix for path in kept} == {".py", ".html", ".css", ".js", ".jinja"}
    assert sum(len(path.read_text().splitlines()) for path in kept) < 3500


LITERARY = {
    "suits", "whole", "ways", "fence", "visible", "opinion", "spent", "asked", "drawn", "facts",
    "somebody", "nobody", "anew", "aloud",
}  # fmt: skip
"""Words for which the field has its own."""
NEVER = {"somebody", "nobody", "anew", "aloud"}
"""Those that no test has in its name, which is a sentence and may say that something is asked or drawn."""
OPTIONS = {"min_visible"}
"""Names that users write."""


def definitions(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """The functions and classes of a module."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def identifiers(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """What a module names: functions, classes, arguments, variables, attributes."""
    yield from definitions(nodes)
    for node in nodes:
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def parts(name: str) -> set[str]:
    """The words of a name, between underscores and in camel case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def test_names_are_those_of_the_field() -> None:
    assert parts("_asked_ids") | parts("WholeKey") | parts("FACTS") >= {"asked", "whole", "facts", "ids"}
    made = "def f(a, *, b): c = 1; self.d: int = 2\nclass E: pass\nimport g as h\n"
    assert set(identifiers(walked(made))) == {"f", "a", "b", "c", "d", "E", "h"}
    found = set()
    for folder in FOLDERS:  # in tests not the arguments, variables and attributes
        names = definitions if folder == "tests" else identifiers
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.relative_to(ROOT).with_suffix("").parts
            for one in (*names(walked(path.read_text())), *inner):
                if parts(one) & (NEVER if one.startswith("test_") else LITERARY) and one not in OPTIONS:
                    found.add(f"{path.relative_to(ROOT)}: {one}")
    assert found == set()


def test_no_two_modules_have_one_name() -> None:
    """But a method, or what of another kind is registered under a name, and its objective."""
    names: dict[str, list[str]] = {}
    for name in FILES:
        if Path(name).stem not in ("__init__", "__main__"):
            names.setdefault(Path(name).stem, []).append(str(Path(name).parent))
    twice = {name: folders for name, folders in names.items() if len(folders) > 1}
    assert {name: folders for name, folders in twice.items() if set(folders) != {"methods", "objectives"}} == {}


def test_files_are_ascii() -> None:
    assert [name for name, path in FILES.items() if not path.read_bytes().isascii()] == []
