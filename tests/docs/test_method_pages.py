"""Every method has a page, and what it says of settings and metrics is what the method has and logs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from support.online_runs import online, write_reward
from support.small_runs import metrics_of, run_here, settings, write_feedback

from trueup.methods import METHODS
from trueup.references.choices import TrustRegion
from trueup.settings.run_settings import RunSettings

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
    found = {word for word in re.findall(r"`([^`]+)`", said) if "/" in word or word in {"kl", "loss"}}
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
        values = online(tiny_model, tmp_path, tmp_path / "run", **more)
    run_here(name, values)
    logged = {key for line in metrics_of(tmp_path / "run") for key in line if not key.startswith(GATHERED)}
    assert named(name) - EVERYWHERE == logged - EVERYWHERE
    assert named(name) <= logged
