"""Judge more feedback than one machine reads, by Ray Data: `trueup annotate` over blocks of rows on all its nodes.

pip install 'trueup[ray,data]'
python examples/ray_annotate.py candidates/ judged/ --annotator openai --annotator.base_url http://localhost:8000/v1 ...

Reads the Parquet files of a folder, and writes JSON lines as `trueup annotate` does, a file a block. What follows the
two folders goes to `trueup annotate`. A block that fails ends the job with its message; verdicts of an endpoint are in
the cache of the node that asked for them, so that they are not paid for again there.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

ROWS = 4096
"""Of a block: what is done again if a node is lost."""


def judged(block: Any, *, options: list[str]) -> Any:
    """A table of rows of feedback -> a table of their lines as `trueup annotate` writes them."""
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name, "block.jsonl"), Path(name, "judged.jsonl")
        given.write_text("".join(json.dumps(row, default=str) + "\n" for row in block.to_pylist()))
        command = [sys.executable, "-m", "trueup", "annotate", str(given), *options, "--output", str(made)]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(process.stderr.strip().splitlines()[-1])
        return pa.table({"line": made.read_text().splitlines()})


def write(block: Any, *, folder: str) -> Any:
    """Keep a block's lines, under a name that its content decides, so that one that is done again replaces itself."""
    lines = block["line"].to_pylist()
    name = f"{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:12]}.jsonl"
    Path(folder, name).write_text("".join(f"{line}\n" for line in lines))
    return pa.table({"file": [name], "examples": [len(lines)]})


def main(source: str, target: str, *options: str) -> None:
    import ray

    Path(target).mkdir(parents=True, exist_ok=True)
    rows = ray.data.read_parquet(source)
    lines = rows.map_batches(partial(judged, options=list(options)), batch_size=ROWS, batch_format="pyarrow")
    files = lines.map_batches(partial(write, folder=target), batch_size=None, batch_format="pyarrow")
    print(f"{sum(row['examples'] for row in files.take_all())} examples judged, in {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
