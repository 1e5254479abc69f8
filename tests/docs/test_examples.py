"""The examples are what their comments say: each loads, and each number in those of papers has its source."""

import re
from pathlib import Path

import pytest
import yaml

from trueup.config.resolve import Resolved, resolve
from trueup.methods import METHODS

PAPERS = sorted((Path(__file__).parents[2] / "examples" / "papers").glob("*.yaml"))
every_paper = pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)

TOY = {"model": "MODEL", "output": "runs/x"}
DATA = {"data": "feedback.jsonl"}
ONLINE = {"prompts": "prompts.jsonl", "annotator": "world:gold"}
SETTING = re.compile(r"^ *(?:- )?[\w.]+: *(?P<value>[^#]*?) *(?:#(?P<comment>.*))?$")
SOURCE = re.compile(
    r"paper|authors|et al\.|code|documentation|script|README|Table|Section|Appendix", re.IGNORECASE
)


def loaded(path: Path) -> Resolved:
    given = yaml.safe_load(path.read_text())
    source = given.get("source", METHODS[given["method"]].defaults.get("source"))
    more = ONLINE if source == "online" else DATA
    return resolve(given["method"], config_file=path, overrides=TOY | more)


def test_every_method_with_a_paper_has_its_recipe() -> None:
    written = {yaml.safe_load(path.read_text())["method"] for path in PAPERS}
    assert written == {name for name, info in METHODS.items() if info.paper}


def test_settings_of_one_paper_have_their_own() -> None:
    several = {"rrhf-bp", "rrhf-dp", "rrhf-p", "rrhf-d", "wombat", "tr-kto", "tr-paired-kto"}
    several |= {"rrhf-op32", "rrhf-ip", "oaif-dpo", "oaif-ipo", "oaif-slic"}
    assert several <= {path.stem for path in PAPERS}


@every_paper
def test_a_paper_loads_and_says_how_it_is_run(path: Path) -> None:
    resolved = loaded(path)
    assert resolved.info.name == resolved.method
    assert not resolved.notes  # names of ours, all of which have an effect
    head = path.read_text().partition("\nmethod:")[0]
    assert f"trueup train {resolved.method} --config {path.name}" in head
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
            assert found["comment"] and SOURCE.search(found["comment"]), (
                f"{path.name} has no source for: {line}"
            )
    assert numbers


@every_paper
def test_all_that_is_written_arrives(path: Path) -> None:
    """What is written is what the run is given: a wrong name or place would leave the default."""
    resolved = loaded(path)
    given = yaml.safe_load(path.read_text())
    assert given.pop("method") == resolved.method
    values = resolved.settings.model_dump(mode="json") | resolved.method_settings.model_dump(mode="json")
    for name, value in given.items():
        if isinstance(value, dict):
            assert value.items() <= values[name].items(), name
        else:
            assert values[name] == value, name
