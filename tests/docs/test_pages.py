"""What pages say of methods, settings, options, outputs and recipes is what the code has."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from support.online_runs import online, write_reward
from support.page_commands import options
from support.small_runs import metrics_of, run_here, settings, write_feedback

from trueup.cli.app import run
from trueup.config.resolve import Resolved, resolve
from trueup.display import collected, logger
from trueup.inspection.findings import KINDS
from trueup.methods import METHODS
from trueup.references.choices import TrustRegion
from trueup.settings.command_settings import InspectSettings
from trueup.settings.run_settings import RunSettings
from trueup.training import api

PAGES = Path(__file__).parents[2] / "docs" / "methods"
EVERYWHERE = {
    "step", "loss", "grad_norm", "learning_rate", "epoch", "reference/moved", "tokens", "tokens_per_second", "seconds",
}  # fmt: skip
"""What every run logs, so that a page need not name it."""

GATHERED = ("online/", "annotator/")
"""What every online run logs of its rounds, which docs/online.md names."""

every_method = pytest.mark.parametrize("name", METHODS)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


@pytest.mark.parametrize(
    "path",
    [path for inner in ("", "claims/", "layouts/") for path in PAGES.parent.glob(f"{inner}*.md")],
    ids=lambda path: path.stem,
)
def test_a_page_begins_with_what_it_is_for(path: Path) -> None:
    title, first = path.read_text().split("\n\n")[:2]
    assert re.fullmatch(r"# [^\n]+", title)
    assert re.match(r"`?[A-Za-z]", first) and re.search(r"[.:]$", first), first


def test_a_page_that_speaks_of_gpus_begins_with_what_was_run_on_one() -> None:
    root = PAGES.parents[1]
    pages = {path.name: path.read_text() for path in (root / "README.md", *PAGES.parent.glob("*.md"))}
    openings = {name: text.split("\n\n")[1] for name, text in pages.items() if "GPU" in text}
    assert len(openings) > 5
    assert [name for name, said in openings.items() if "GPU" not in said and "CPUs alone" not in said] == []
    assert len(pages["README.md"].splitlines()) < 200


def test_what_pages_call_beside_trueup_is_there() -> None:
    root = PAGES.parents[1]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *PAGES.parent.rglob("*.md")]
    text = "\n".join(path.read_text() for path in pages)
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "docs", "claims"} <= called <= targets
    programs = set(re.findall(r"\bpython ((?:benchmarks|docs|examples|tests)/\S+\.py)", text))
    assert len(programs) > 10
    assert [name for name in programs if not (root / name).is_file()] == []


def test_every_page_is_of_a_method() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(METHODS)


@every_method
def test_it_has_its_parts(name: str) -> None:
    """A title, a formula right below it, the paper, the command, and what departs from the paper."""
    info, text = METHODS[name], page(name)
    title, formula = text.split("\n\n")[:2]
    assert title.startswith("# ") and "\n" not in title
    assert all(line.startswith("    ") for line in formula.splitlines())
    assert re.search(r"\bL += |reference <-", formula)
    links = re.findall(r"https?://\S+", info.paper)
    assert all(link in text for link in links) and bool(links) == bool(info.paper)
    assert f"`trueup train {name}" in text
    assert "\nDeviations" in text


def defaults(fields: type[BaseModel]) -> dict[str, Any]:
    """Setting -> default, those of the reference by their whole names."""
    found: dict[str, Any] = {}
    for key, field in fields.model_fields.items():
        if key != "reference":
            found[key] = field.default
        elif isinstance(field.default, TrustRegion):
            found |= {"reference.alpha": field.default.alpha, "reference.every": field.default.every}
        else:
            found["reference.kind"] = field.default.kind
    return found


def table(name: str) -> dict[str, str]:
    """Setting -> what the page gives as its default. Settings may share a row, and then their defaults do too."""
    found: dict[str, str] = {}
    for line in page(name).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 3 or cells[0] == "setting" or set(cells[0]) <= set("-"):
            continue
        keys = re.findall(r"`([^`]+)`", cells[0])
        values = cells[1].split(", ") if cells[1].count(", ") == len(keys) - 1 else [cells[1]] * len(keys)
        assert not found.keys() & set(keys)
        found |= dict(zip(keys, values, strict=True))
    return found


def agrees(written: str, default: Any) -> bool:
    """Whether the cell of a table says the default; nothing, or a word that is no value, where there is none."""
    plain = written.strip("`")
    try:
        value = json.loads(plain)
    except ValueError:
        value = plain
    if default is None:
        return isinstance(value, str)
    if isinstance(value, bool) or isinstance(default, bool):
        return value is default
    return bool(value == default)


@every_method
def test_its_table_names_every_setting_with_its_default(name: str) -> None:
    expected, written = defaults(METHODS[name].settings), table(name)
    assert PydanticUndefined not in expected.values()
    assert written.keys() == expected.keys()
    assert {key: text for key, text in written.items() if not agrees(text, expected[key])} == {}


def named(name: str) -> set[str]:
    """The metrics a page names, those of the pages it refers to among them."""
    (said,) = re.findall(r"^Metrics: (.*?)(?:\n\n|\Z)", page(name), re.MULTILINE | re.DOTALL)
    found = {word for word in re.findall(r"`([^`]+)`", said) if "/" in word or word in {"kl", "loss", "drift"}}
    for other in re.findall(r"(?:those of|as) \[?([A-Z][\w-]*)", said):
        found |= named(other.lower())
    return found


def of_a_run(name: str) -> str:
    """How a method trains where nothing else is given, in the words that every page takes for it."""
    fields = {key: field.default for key, field in RunSettings.model_fields.items()}
    run = {**fields, "epochs": 1, **METHODS[name].defaults}
    share = run["warmup_ratio"]
    return (
        f"Defaults: learning rate {run['learning_rate']:g}, {run['schedule']}, "
        f"{f'warm-up over {share:g} of the steps' if share else 'no warm-up'}, batch size {run['batch_size']}, "
        f"{run['epochs']:g} epoch{'s' if run['epochs'] != 1 else ''}, gradients clipped at {run['max_grad_norm']:g}, "
        f"at most {run['max_length']} tokens."
    ).replace("e-0", "e-")


@pytest.mark.parametrize("name", [name for name, info in METHODS.items() if info.paper])
def test_it_says_how_a_run_is_trained_and_where_that_is_from(name: str) -> None:
    """What a run does where nothing is given, then its source: another page, a recipe, or that it is not known."""
    (said,) = re.findall(r"^Defaults: .*?(?=\n\n)", page(name), re.MULTILINE | re.DOTALL)
    words = " ".join(said.split())
    assert words.startswith(of_a_run(name))
    source = words.removeprefix(of_a_run(name))
    assert re.search(r"paper|authors|documentation", source)
    for link in re.findall(r"\]\(([^)]+)\)", source):
        assert (PAGES / link).is_file(), link


@every_method
def test_its_metrics_are_those_it_logs(name: str, tiny_model: Path, tmp_path: Path) -> None:
    more = {"epochs": None, "steps": 2, "batch_size": 8}
    if "offline" in METHODS[name].sources:
        values = settings(name, tiny_model, write_feedback(tmp_path), tmp_path / "run", **more)
    else:
        write_reward(tmp_path)
        more |= {"sampler.responses": 1} if METHODS[name].opponent else {}
        values = online(tiny_model, tmp_path, tmp_path / "run", **more)
    run_here(name, values)
    logged = {key for line in metrics_of(tmp_path / "run") for key in line if not key.startswith(GATHERED)}
    assert named(name) - EVERYWHERE == logged - EVERYWHERE
    assert named(name) <= logged


DOCS = Path(__file__).parents[2] / "docs"
OPTION_PAGES = ("online.md", "sampling.md", "annotators.md", "gathering.md")
SHOWN = {name: options((DOCS / name).read_text()) for name in OPTION_PAGES}
ANOTHER_PROGRAMS = {"--logprobs-mode", "--weight-transfer-config"}
WHOLE = [
    words
    for page in SHOWN.values()
    for words in page
    if words[0] in ("--annotator", "--sampler.engine", "--sampler.models", "--sampler.responses")
]


def alike(name: str) -> str:
    """An option without what may be written in two ways."""
    return name.removeprefix("--").removeprefix("no-").replace("_", "-")


def known(command: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """All options of a command, as its help shows them."""
    more = ["--source", "online", "--help-all"] if command[0] == "train" else ["--help-all"]
    assert run([*command, *more]) == 0
    return {alike(name) for name in re.findall(r"--[\w.-]+", capsys.readouterr().out)}


def test_each_is_an_option_of_some_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    commands = (["train", "kto"], ["train", "ulma"], ["sample"], ["annotate"])
    there = set().union(*(known(command, capsys) for command in commands))
    named = {word for page in SHOWN.values() for words in page for word in words if word.startswith("--")}
    assert len(named) > 20
    assert {name for name in named if alike(name) not in there} == ANOTHER_PROGRAMS


def test_commands_within_sentences_have_their_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`trueup COMMAND ...` in running text; blocks of commands are run."""
    monkeypatch.setenv("COLUMNS", "300")
    pages = "\n".join(path.read_text() for path in (DOCS.parent / "README.md", *DOCS.glob("*.md")))
    wanted: dict[tuple[str, ...], set[str]] = {}
    for command, rest in re.findall(r"`trueup ([a-z][a-z-]+)([^`]*)`", re.sub(r"\s+", " ", pages)):
        method = re.match(r" ([a-z][a-z-]+)", rest) if command == "train" else None
        called = (
            ("train", method[1] if method and method[1] in METHODS else "dpo") if command == "train" else (command,)
        )
        wanted.setdefault(called, set()).update(map(alike, re.findall(r"--[\w.-]+", rest)))
    assert len(wanted) > 8
    missing = {words: names - known([*words], capsys) for words, names in wanted.items() if names}
    assert {words: names for words, names in missing.items() if names - {"help", "help-all"}} == {}
    for words in wanted:
        assert run([*words, "--help"]) == 0, words


@pytest.mark.parametrize("words", WHOLE, ids=" ".join)
def test_a_run_takes_them(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Resolved] = []
    monkeypatch.setattr(api, "run", taken.append)
    asked = [] if words[0] == "--annotator" else ["--annotator", "world:gold"]
    given = ["--model", "M", "--prompts", "prompts.jsonl", "--output", str(tmp_path / "run")]
    assert run(["train", "kto", "--source", "online", *given, *asked, *words]) == 0, capsys.readouterr().err
    assert len(taken) == 1


def test_what_torchrun_starts_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Resolved] = []
    monkeypatch.setattr(api, "run", taken.append)
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("{model: M, data: pairs.jsonl, output: runs/scale}")
    shown = re.findall(r"-m trueup (train \S+(?: --\S+ \S+)*)", (DOCS / "scale.md").read_text())
    for command in shown:
        assert run([*command.split(), "--config", "run.yaml"]) == 0
    assert len(taken) == len(shown) > 2


def test_there_are_some_of_each() -> None:
    kinds = {words[1].partition(":")[0] for words in WHOLE if words[0] == "--annotator"}
    assert {"local", "openai", "reward", "likelihood", "world"} <= kinds
    assert len(WHOLE) > len(kinds) + 3


PAGE = (Path(__file__).parents[2] / "docs/inspect.md").read_text()
(ROWS,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^`trueup (.*)` prints$", PAGE, re.MULTILINE)
(OUTPUT,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(ROWS)
    return tmp_path


def test_the_output_is_what_the_command_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND.split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip("\n").split("\n")]
    assert printed == OUTPUT.strip("\n").split("\n")


def test_every_kind_of_problem_is_in_the_table() -> None:
    rows = [
        f"| `{name}` | {kind.severity} | {kind.what.replace('{}', '...')} | {kind.remedy} |"
        for name, kind in KINDS.items()
    ]
    assert re.findall(r"^\| `[a-z-]+` \| (?:error|warning|note) \|.*$", PAGE, re.MULTILINE) == rows


def test_every_key_is_in_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND.split(), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    section = PAGE.partition("## For programs")[2]
    documented = re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", section, re.MULTILINE)
    assert [key for key, _ in documented] == list(printed)
    meant = dict(documented)
    for key, value in printed.items():
        inner = value[0] if isinstance(value, list) and value else value
        for name in inner if isinstance(inner, dict) else ():
            assert f"`{name}`" in meant[key]


def test_every_option_is_in_the_table() -> None:
    options = {f"--{name.replace('_', '-')}" for name in InspectSettings.model_fields} - {"--data"} | {"--json"}
    table = PAGE.partition("## Options")[2].partition("## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    assert named == options


PAPERS = sorted((Path(__file__).parents[2] / "examples" / "papers").glob("*.yaml"))
every_paper = pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)

TOY = {"model": "MODEL", "output": "runs/x"}
DATA = {"data": "feedback.jsonl"}
ONLINE = {"prompts": "prompts.jsonl", "annotator": "world:gold"}
SETTING = re.compile(r"^ *(?:- )?[\w.]+: *(?P<value>[^#]*?) *(?:#(?P<comment>.*))?$")
SOURCE = re.compile(r"paper|authors|et al\.|code|documentation|script|README|Table|Section|Appendix", re.IGNORECASE)


def loaded(path: Path) -> Resolved:
    given = yaml.safe_load(path.read_text())
    source = given.get("source", METHODS[given["method"]].defaults.get("source"))
    more = ONLINE if source == "online" else DATA
    return resolve(given["method"], config_file=path, overrides=TOY | more)


def test_every_method_with_a_paper_has_its_recipe() -> None:
    written = {yaml.safe_load(path.read_text())["method"] for path in PAPERS}
    assert written == {name for name, info in METHODS.items() if info.paper}


def test_the_page_of_recipes_is_current() -> None:
    root = PAGES.parents[1]
    made = subprocess.run([sys.executable, root / "docs/recipes_page.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (root / "docs/recipes.md").read_text()
    assert all(f"[{path.stem}]" in made.stdout for path in PAPERS)


def test_settings_of_one_paper_have_their_own() -> None:
    several = {"rrhf-bp", "rrhf-dp", "rrhf-p", "rrhf-d", "wombat", "tr-kto", "tr-paired-kto"}
    several |= {"rrhf-op32", "rrhf-ip", "oaif-dpo", "oaif-ipo", "oaif-slic", "rpo", "length-normalised-dpo"}
    assert several <= {path.stem for path in PAPERS}


@every_paper
def test_a_paper_loads_and_says_how_it_is_run(path: Path) -> None:
    with collected(logger) as said:
        resolved = loaded(path)
    assert not said  # names of ours, all of which have an effect
    head = path.read_text().partition("\nmethod:")[0]
    assert f"trueup train {resolved.info.name} --config {path.name}" in head
    assert "https://" in head


@every_paper
def test_every_number_of_a_paper_has_its_source(path: Path) -> None:
    numbers = 0
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        found = SETTING.match(line)
        assert found is not None, line
        if re.search(r"\d", found["value"]):
            numbers += 1
            assert found["comment"] and SOURCE.search(found["comment"]), f"{path.name} has no source for: {line}"
    assert numbers


@every_paper
def test_all_that_is_written_arrives(path: Path) -> None:
    """What is written is what the run is given: a wrong name or place would leave the default."""
    resolved = loaded(path)
    given = yaml.safe_load(path.read_text())
    assert given.pop("method") == resolved.info.name
    values = resolved.settings.model_dump(mode="json") | resolved.method_settings.model_dump(mode="json")
    for name, value in given.items():
        if isinstance(value, dict):
            assert value.items() <= values[name].items(), name
        else:
            assert values[name] == value, name
