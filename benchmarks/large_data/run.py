"""Peak memory and time to the first step of a run on many short pairs: `python benchmarks/large_data/run.py`.

The pairs are random words, written to a temporary folder; the model is a small one with random weights. Each run is a
process of its own that starts with an empty cache, or with the one that the run before it left.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ("red", "green", "blue", "seven", "cat", "dog", "tree", "stone")


def write_pairs(path: Path, count: int) -> None:
    """Pairs of about 40 tokens, each with a prompt of its own."""
    chance = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            texts = [" ".join(chance.choices(WORDS, k=length)) for length in (8, 10, 9)]
            row = {"prompt": f"{number}: {texts[0]}?", "chosen": f" {texts[1]}", "rejected": f" {texts[2]}"}
            file.write(json.dumps(row) + "\n")


def seconds(model: str, data: Path, folder: Path, lazy: str) -> float:
    """From the start of a process to the end of its run, which has one step."""
    command = [sys.executable, "-m", "trueup", "train", "dpo", "--model", model, "--data", str(data)]
    options = {"output": folder, "steps": 1, "batch_size": 16, "lazy": lazy}
    began = time.perf_counter()
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    env = {**os.environ, "TRUEUP_CACHE": str(folder.parent / "cache")}
    subprocess.run([*command, *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - began, 1)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a small model")
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--lazy", default="true", choices=("true", "false"))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / "pairs.jsonl"
        write_pairs(data, given.pairs)
        found = {
            "pairs": given.pairs,
            "lazy": given.lazy,
            "first_run_seconds": seconds(given.model, data, folder / "first", given.lazy),
            "second_run_seconds": seconds(given.model, data, folder / "second", given.lazy),
            "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        }
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
