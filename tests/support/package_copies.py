"""A copy of the package that a test changes, and programs that run with it in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.small_runs import in_child

SOURCE = Path(__file__).parents[2] / "src"
COMMANDS = """
import json, sys
from trueup.cli.app import run
codes = []
for words in json.loads(sys.argv[1]):
    codes.append(run(words))
    print("=====", file=sys.stderr)
sys.exit(max(codes))
"""


def copied(folder: Path) -> Path:
    """A folder to import the package from, to be changed."""
    return Path(shutil.copytree(SOURCE, folder / "src"))  # with what is compiled, which its times tell apart


def run_python(copy: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a child that has the libraries of this process imported, but not the package."""

    def body() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "trueup"]:
            del sys.modules[name]
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.argv[1:] = map(str, arguments)
        with (copy / "said").open("w") as sys.stdout:
            exec(code, {})

    status = in_child(body, copy / "errors")
    said, errors = (copy / "said").read_text(), (copy / "errors").read_text()
    return subprocess.CompletedProcess([code, *arguments], status, said, errors)


def run_commands(copy: Path, *commands: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other in one process; `=====` follows each."""
    return run_python(copy, COMMANDS, json.dumps(commands, default=str))
