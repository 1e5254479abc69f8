"""Runs in several processes, started as users start them; and this file as the program that they are.

python -m torch.distributed.run --nproc-per-node 2 several_processes.py runs.json
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SECONDS = 120


def environment(**more: str) -> dict[str, str]:
    """Of a program that computes in one thread and finds trueup."""
    import trueup

    path = os.pathsep.join([str(Path(trueup.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def launch(count: int, *program: str, **more: str) -> subprocess.Popen[str]:
    """Start a program in several processes on this machine."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "127.0.0.1:0", "--nproc-per-node", str(count), *program),
    ]
    return subprocess.Popen(
        command, env=environment(**more), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run_all(folder: Path, count: int, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Train one run after the other in the same processes; what they said.

    Args:
        runs: method and settings of each.
    """
    file = folder / f"runs{count}.json"
    file.write_text(json.dumps(list(runs)))
    process = launch(count, __file__, str(file))
    said, _ = process.communicate(timeout=SECONDS * 2)
    assert process.returncode == 0, said[-4000:]
    return said


if __name__ == "__main__":
    from trueup.config.resolve import resolve
    from trueup.parallel.processes import joined
    from trueup.training import api

    with joined():
        for method, settings in json.loads(Path(sys.argv[1]).read_text()):
            api.run(resolve(method, overrides=settings), quiet=True)
