"""What `make release` builds holds all that the package needs; the versions agree."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import yaml
from support.extras import COMMANDS

from trueup import __version__

ROOT = Path(__file__).parents[2]
TRACKED = ("src/trueup", "docs", "examples", "benchmarks", "tests")


def test_wheel_and_sdist_hold_every_file(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files", *TRACKED], cwd=ROOT, capture_output=True, text=True, check=True)
    files = set(listed.stdout.splitlines())
    command = [sys.executable, "-m", "hatchling", "build", "--directory", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    with zipfile.ZipFile(tmp_path / f"trueup-{__version__}-py3-none-any.whl") as wheel:
        packed = {f"src/{name}" for name in wheel.namelist() if name.startswith("trueup/")}
    assert packed == {name for name in files if name.startswith("src/")}
    with tarfile.open(tmp_path / f"trueup-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert files <= names


def test_every_extra_is_tried_and_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"dev"}
    assert extras == COMMANDS.keys()
    (tried,) = re.findall(r"^EXTRAS \?= (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(tried.split()) == extras - {"vllm"}
    readme = (ROOT / "README.md").read_text()
    assert [name for name in extras if f"`{name}`" not in readme and f"[{name}]" not in readme] == []


def test_the_citation_is_of_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"\n## {__version__} - " in (ROOT / "CHANGELOG.md").read_text()
