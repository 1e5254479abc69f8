"""A command that needs an extra of the package, run in an environment that has that extra alone (`make extras`).

python extras.py labelling
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = "train sft --model world --data world:demonstrations?count=8 --batch-size 4 --steps 2 --output run"
COMMANDS = {
    "data": "inspect rows.parquet",
    "labelling": "label candidates.jsonl --output people.jsonl",
    "quantize": f"{TRAIN} --lora.rank 4 --quantize nf4",
    "tensorboard": f"{TRAIN} --report_to tensorboard",
    "trackio": f"{TRAIN} --report_to trackio",
    "wandb": f"{TRAIN} --report_to wandb",
}


def main(extra: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "candidates.jsonl").write_text(
            '{"prompt": "2 + 2 =", "responses": [{"content": "4"}, {"content": "5"}]}\n'
        )
        if extra == "data":
            from pyarrow import csv, parquet

            (folder / "rows.csv").write_text("prompt,chosen,rejected\nName a fruit., A pear., No.\n")
            parquet.write_table(csv.read_csv(folder / "rows.csv"), folder / "rows.parquet")
        environment = {**os.environ, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "trueup", *COMMANDS[extra].split()]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if extra == "labelling" and re.search(r"http://127\.0\.0\.1:\d+/", line):
                process.send_signal(signal.SIGINT)
        if process.wait() or "is left out" in said:
            raise SystemExit(f"{extra}: exit code {process.returncode}\n{said}")
        print(f"{extra}: trueup {COMMANDS[extra]}")


if __name__ == "__main__":
    main(sys.argv[1])
