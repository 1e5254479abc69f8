"""What a step of DPO computes, and where its time goes: operations, and the share of products of matrices.

The model and the rows of `against_trl.py`, in float32 and with bfloat16 products, in turns, each in a process of its
own. Of the last step torch's profiler tells the time by kernel.

    python benchmarks/step_flops.py --data hh.jsonl.gz      # writes step_flops.json beside this file
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import against_trl
import typer

STEPS = 7
KINDS = {
    "products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm"),
    "copies": (
        "aten::copy_",
        "aten::cat",
        "aten::index_select",
        "aten::scatter_add_",
        "aten::fill_",
        "aten::clone",
    ),
}


def run(folder: Path, precision: str) -> None:
    """Steps, each when it is told to; the last two are counted and profiled."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import trueup
    from trueup.training import loop

    train_step = loop.train_step
    with against_trl.turns() as turn:

        def taken(*args: Any, step: int, **kwargs: Any) -> dict[str, float]:
            values: dict[str, float] = {}

            def work() -> tuple[float, float]:
                values.update(train_step(*args, step=step, **kwargs))
                return values["loss"], values["grad_norm"]

            if step == STEPS - 1:
                with FlopCounterMode(display=False) as counted:
                    work()
                Path(folder, f"{precision}.flops").write_text(str(counted.get_total_flops()))
            elif step == STEPS:
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
                    work()
                kernels = {one.key: one.self_cpu_time_total for one in seen.key_averages()}
                Path(folder, f"{precision}.json").write_text(json.dumps(kernels))
            else:
                turn(work)
            return values

        loop.train_step = taken  # type: ignore[assignment]
        trueup.train(
            "dpo", model=str(folder / "model"), data=str(folder / "rows.jsonl"), output=str(folder / precision),
            steps=STEPS, batch_size=against_trl.PAIRS, learning_rate=1e-6, schedule="constant", threads=1,
            save_every=10**6, precision=precision,
        )  # fmt: skip


def main(
    data: Annotated[list[Path] | None, typer.Option(help="HH rows, gzipped JSON lines.")] = None,
    child: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Count and time."""
    if child:
        return run(folder, child)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        against_trl.make_model(place / "model")
        given = against_trl.rows(data or [], against_trl.PAIRS, 0)
        (place / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given))
        precisions = ("fp32", "bf16")
        both = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", way, "--folder", place],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            for way in precisions
        ]  # fmt: skip
        steps: list[list[dict[str, float]]] = [[], []]
        for _ in range(STEPS - 2):
            for one, told in zip(both, steps, strict=True):
                assert one.stdin is not None and one.stdout is not None
                one.stdin.write("go\n")
                one.stdin.flush()
                told.append(json.loads(one.stdout.readline()))
        for one in both:
            one.communicate()
        record: dict[str, Any] = {
            "command": "python benchmarks/step_flops.py " + " ".join(f"--data {path.name}" for path in data or []),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "processor": against_trl.processor(), "date": time.strftime("%Y-%m-%d"), "precisions": {},
        }  # fmt: skip
        for way, told in zip(precisions, steps, strict=True):
            kernels: dict[str, float] = json.loads((place / f"{way}.json").read_text())
            total = sum(kernels.values())
            shares = {kind: sum(kernels.get(key, 0) for key in keys) / total for kind, keys in KINDS.items()}
            record["precisions"][way] = {
                "cpu": [one["cpu"] for one in told], "median": statistics.median(one["cpu"] for one in told[1:]),
                "peak": told[-1]["peak"], "flops": int((place / f"{way}.flops").read_text()),
                "shares": shares | {"the rest": 1 - sum(shares.values())},
            }  # fmt: skip
    Path(__file__).with_name("step_flops.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    typer.run(main)
