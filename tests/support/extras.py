"""A command that needs an extra of the package, run in an environment that has that extra alone (`make extras`).
python extras.py labelling"""

import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = "train sft --model world --data world:demonstrations?count=8 --batch-size 4 --steps 2 --output run"
RECIPE = Path(__file__).parents[2] / "examples/ray_annotate.py"
SCORED = "annotate candidates.jsonl --output judged.jsonl --annotator"
COMMANDS = {
    "data": "inspect rows.parquet", "gpu": f"{TRAIN} --precision bf16", "judge": f"{SCORED} rewards.py:brevity",
    "labelling": "label candidates.jsonl --output people.jsonl",
    "quantize": f"{TRAIN} --lora.rank 4 --quantize nf4",
    "ray": "candidates judged --annotator rewards.py:brevity", "report": TRAIN,
    "tensorboard": f"{TRAIN} --report_to tensorboard", "trackio": f"{TRAIN} --report_to trackio", "vllm": TRAIN,
    "wandb": f"{TRAIN} --report_to wandb",
}  # fmt: skip


def main(extra: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "candidates.jsonl").write_text(
            '{"prompt": "2 + 2 =", "responses": [{"content": "4"}, {"content": "5"}]}\n'
        )
        (folder / "rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")
        if extra == "data":
            from pyarrow import csv, parquet

            (folder / "rows.csv").write_text("prompt,chosen,rejected\nName a fruit., A pear., No.\n")
            parquet.write_table(csv.read_csv(folder / "rows.csv"), folder / "rows.parquet")
        if extra == "ray":
            from pyarrow import json, parquet

            (folder / "candidates").mkdir()
            parquet.write_table(json.read_json(folder / "candidates.jsonl"), folder / "candidates/0.parquet")
        if extra == "vllm":
            importlib.import_module("vllm")
        environment = {**os.environ, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
        program = [str(RECIPE)] if extra == "ray" else ["-m", "trueup"]
        command = [sys.executable, *program, *COMMANDS[extra].split()]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if extra == "labelling" and re.search(r"http://127\.0\.0\.1:\d+/", line):
                process.send_signal(signal.SIGINT)
        if process.wait() or re.search("is left out|was not written", said):
            raise SystemExit(f"{extra}: exit code {process.returncode}\n{said}")
        print(f"{extra}: {' '.join(command[1:])}")


if __name__ == "__main__":
    main(sys.argv[1])
