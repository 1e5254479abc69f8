"""Peak memory and CPU time up to the first step of a run on many short pairs: `python benchmarks/large_data/run.py`.

The pairs are random words, written to a temporary folder; the model is a small one with random weights. Each run is a
process of its own that starts with an empty cache, or with the one that the run before it left.
"""

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

WORDS = ("red", "green", "blue", "seven", "cat", "dog", "tree", "stone")


def write_pairs(path: Path, count: int) -> None:
    """Pairs of about 40 tokens, each with a prompt of its own, in a file of the kind that its name says."""
    chance = random.Random(0)

    def pair(number: int) -> dict[str, str]:
        texts = [" ".join(chance.choices(WORDS, k=length)) for length in (8, 10, 9)]
        return {"prompt": f"{number}: {texts[0]}?", "chosen": f" {texts[1]}", "rejected": f" {texts[2]}"}

    schema = pa.schema(dict.fromkeys(("prompt", "chosen", "rejected"), pa.string()))
    if path.suffix in (".parquet", ".csv"):
        writer = parquet.ParquetWriter if path.suffix == ".parquet" else csv.CSVWriter
        with writer(path, schema) as table:
            for start in range(0, count, 10_000):
                rows = [pair(number) for number in range(start, min(count, start + 10_000))]
                table.write_table(pa.Table.from_pylist(rows, schema))
        return
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        for number in range(count):
            file.write(json.dumps(pair(number)) + "\n")


def seconds(model: str, data: Path, folder: Path, lazy: str) -> float:
    """CPU time of a process from its start to the end of its run, which has one step."""
    command = [sys.executable, "-m", "trueup", "train", "dpo", "--model", model, "--data", str(data)]
    options = {"output": folder, "steps": 1, "batch_size": 16, "lazy": lazy}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    env = {**os.environ, "TRUEUP_CACHE": str(folder.parent / "cache")}
    before = used()
    subprocess.run([*command, *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
    return round(used() - before, 1)


def used() -> float:
    """CPU seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a small model")
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--kind", default="jsonl", choices=("jsonl", "jsonl.gz", "parquet", "csv"))
    parser.add_argument("--lazy", default="true", choices=("true", "false"))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / f"pairs.{given.kind}"
        write_pairs(data, given.pairs)
        found = {
            "command": f"python {' '.join(sys.argv)}",
            "kind": given.kind,
            "pairs": given.pairs,
            "lazy": given.lazy,
            "first_run_cpu_seconds": seconds(given.model, data, folder / "first", given.lazy),
            "second_run_cpu_seconds": seconds(given.model, data, folder / "second", given.lazy),
            "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        }
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
