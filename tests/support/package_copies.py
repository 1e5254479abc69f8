"""A copy of the package that a test changes, and programs that run with it in an interpreter of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=copy)


def run_commands(copy: Path, *commands: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other in one process, that the libraries be imported once; `=====` follows each."""
    return run_python(copy, COMMANDS, json.dumps(commands, default=str))
