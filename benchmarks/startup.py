"""How long does it take from `trueup train` to the first step, beside importing what a model needs?

CPU seconds of processes of their own on one thread, the least of three: `import torch` and a Llama of transformers; a
DPO run of 2,000 pairs of the built-in world up to its first step, with no cache, and again. Groups that are tokenized.

    python benchmarks/startup.py --output benchmarks/startup.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOAL = 1.5
IMPORTS = """
import json, time, torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
print(json.dumps({"seconds": time.process_time()}))
"""


def first_step(folder: str) -> None:
    """A run that ends where its first step would begin."""
    from trueup.batch.encode import Encoder
    from trueup.config.resolve import resolve
    from trueup.training import api, loop

    encoded, encode = [0], Encoder.encode

    def counted(self: Any, *given: Any) -> Any:
        encoded[0] += 1
        return encode(self, *given)

    def told(*_: Any, **__: Any) -> Any:
        print(json.dumps({"seconds": time.process_time(), "tokenized": encoded[0]}), flush=True)
        os._exit(0)

    Encoder.encode = counted  # type: ignore[method-assign]
    loop.train_step = told
    values = {"model": "world", "data": "world:pairs?count=2000", "output": folder, "steps": 4, "threads": 1}
    api.run(resolve("dpo", overrides=values), quiet=True)


def child(*arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Time all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        return first_step(given.run)
    with tempfile.TemporaryDirectory() as name:

        def run(number: int, cache: str) -> dict[str, Any]:
            return child(__file__, "--run", f"{name}/{number}", XDG_CACHE_HOME=f"{name}/{cache}")

        run(0, "cache")  # which trains the world's model, and keeps it
        tokens = next(Path(name, "cache").rglob("tokens.sqlite"))
        imports = min(child("-c", IMPORTS)["seconds"] for _ in range(3))
        first, again = [], []
        for number in (1, 3, 5):
            tokens.unlink()
            first.append(run(number, "cache"))
            again.append(run(number + 1, "cache"))
    record: dict[str, Any] = {
        "command": "python benchmarks/startup.py", "python": platform.python_version(), "imports": imports,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "goal": GOAL,
    }  # fmt: skip
    for key, several in (("first run", first), ("second run", again)):
        record[key] = min(several, key=lambda one: float(one["seconds"]))
        record[key]["times"] = record[key]["seconds"] / imports
        print(key, record[key])
    assert record["second run"]["tokenized"] == 0
    if given.output:
        given.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
