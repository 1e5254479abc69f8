"""What `trueup plan` says of memory and of time against what runs then take.

A Llama of 23 M random weights, made on the spot, is trained by DPO for five steps on pairs of random words, in
processes of their own. Measured is the most memory that a process had (ru_maxrss) until its last step beyond what it
had before the run began, all imports done. The finished model that it then reads again lies in a file, mapped, which
the system takes back where there is no room.

Time is that of a smaller Llama and 12 steps, forecast from three of them by one process and then taken by another, in
turns twice: of the steps, and of the whole run with all that is around them. It is time of the processor, of one
thread, so that what else the machine does counts for little.

    python benchmarks/plan/run.py memory     # writes result.json beside this file
    python benchmarks/plan/run.py time       # writes times.json
"""

import contextlib
import io
import json
import os
import random
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
SHAPE = {
    "vocab_size": 16384, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 1024,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "full, 1024 tokens": {"micro_batch_tokens": 1024, "batch_size": 8},
    "full, 4096 tokens": {"micro_batch_tokens": 4096, "batch_size": 30},
    "full, cached reference, 4096 tokens": {
        "micro_batch_tokens": 4096,
        "batch_size": 30,
        "reference.kind": "cached",
    },
    "LoRA, 1024 tokens": {"micro_batch_tokens": 1024, "batch_size": 8, "lora.rank": 16},
    "LoRA, 4096 tokens": {"micro_batch_tokens": 4096, "batch_size": 30, "lora.rank": 16},
}
SMALL = SHAPE | {"vocab_size": 4096, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 4}
ONLINE = {
    "source": "online",
    "annotator.kind": "function",
    "sampler.responses": 2,
    "sampler.max_new_tokens": 32,
}
TIMED: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("dpo", {}),
    "dpo, LoRA": ("dpo", {"lora.rank": 16}),
    "sft": ("sft", {}),
    "rloo, online": ("rloo", ONLINE),
}
TIMES, STEPS = 2, 12
REPEATS = 3
"""Of memory, which differs from process to process by what the C library has free; medians are compared."""


def write_data(folder: Path) -> None:
    chance = random.Random(0)

    def text(length: int) -> str:
        return "".join(chance.choice("abcdefghij ") for _ in range(length))

    rows = [
        {"prompt": text(100 + number % 50), "chosen": text(60 + number % 40), "rejected": text(80)}
        for number in range(30)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def timed_settings(folder: Path, name: str) -> tuple[str, dict[str, Any]]:
    method, more = TIMED[name]
    (folder / "reward.py").write_text("def short(prompt, response):\n    return -len(response)\n")
    values = settings(folder, more | {"steps": STEPS, "batch_size": 4})
    if method == "rloo":
        values |= {
            "data": [],
            "prompts": values["data"],
            "annotator.function": f"{folder / 'reward.py'}:short",
        }
    return method, values


def forecast(folder: Path, name: str) -> float:
    """Seconds of all steps, as `trueup plan` says."""
    from trueup.config.resolve import resolve
    from trueup.training import loop, plan

    loop.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]
    method, values = timed_settings(folder, name)
    (line,) = (one for one in plan.plan(resolve(method, overrides=values), 3) if one.startswith("time"))
    steps, seconds = re.findall(r"(\d+) steps of ([\d.e-]+) s", line)[0]
    return int(steps) * float(seconds)


def run_timed(folder: Path, name: str) -> list[float]:
    """Seconds of the steps, and of the run."""
    from trueup.config.resolve import resolve
    from trueup.training import api, loop

    loop.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment]
    method, values = timed_settings(folder, name)
    resolved, started = resolve(method, overrides=values), time.process_time()
    result = api.run(resolved, quiet=True)
    wall = time.process_time() - started
    return [sum(line["seconds"] for line in result.history if "loss" in line), wall]


def settings(folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": str(folder / "model"), "data": [str(folder / "pairs.jsonl")],
        "output": str(folder / f"run-{os.getpid()}"), "steps": 5, "device": "cpu", "threads": 1, "chat": False, **more,
    }  # fmt: skip


def planned(folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    """The lines of `trueup plan`, and its bytes."""
    from trueup.config.resolve import resolve
    from trueup.training import plan

    kept: list[plan.Memory] = []
    original = plan.memory_of

    def memory_of(*given: Any) -> plan.Memory:
        kept.append(original(*given))
        return kept[-1]

    plan.memory_of = memory_of
    lines = list(plan.plan(resolve("dpo", overrides=settings(folder, more)), 0))
    return {"bytes": kept[0].total(more["micro_batch_tokens"]), "lines": lines}


def taken(folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    from trueup.config.resolve import resolve
    from trueup.models import load, lora, prepare  # noqa: F401
    from trueup.training import api, session

    resolved, peaks = resolve("dpo", overrides=settings(folder, more)), []
    finish = session.Session._finish

    def trained(*given: Any) -> None:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        finish(*given)

    session.Session._finish = trained  # type: ignore[method-assign]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    api.run(resolved, quiet=True)
    return {"bytes": peaks[0] - pages * os.sysconf("SC_PAGE_SIZE")}


def child(what: str, folder: Path, more: Any) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRUEUP_CACHE": str(folder / "cache")}
    command = [sys.executable, __file__, what, str(folder), json.dumps(more)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_memory() -> None:
    from support.tiny_models import save_tiny_model

    found = {}
    for name, more in CASES.items():
        with TemporaryDirectory() as place:
            folder = Path(place)
            with contextlib.redirect_stderr(io.StringIO()):
                save_tiny_model(folder / "model", **SHAPE)
            write_data(folder)
            several = [(child("plan", folder, more), child("run", folder, more)) for _ in range(REPEATS)]
        plans, runs = ([one["bytes"] for one in each] for each in zip(*several, strict=True))
        off = median(plans) / median(runs) - 1
        found[name] = {
            "planned_mb": [round(one / 1e6, 1) for one in plans],
            "measured_mb": [round(one / 1e6, 1) for one in runs],
            "off": round(off, 3),
            "lines": several[0][0]["lines"],
        }
        print(
            f"{name}: planned {median(plans) / 1e6:.0f} MB, measured {median(runs) / 1e6:.0f} MB, off {off:+.1%}",
            flush=True,
        )
        (HERE / "result.json").write_text(json.dumps(found, indent=1) + "\n")


def measure_time() -> None:
    from support.tiny_models import save_tiny_model

    found: dict[str, Any] = {}
    for name in TIMED:
        rows = []
        for _ in range(TIMES):
            with TemporaryDirectory() as place:
                folder = Path(place)
                with contextlib.redirect_stderr(io.StringIO()):
                    save_tiny_model(folder / "model", **SMALL)
                write_data(folder)
                said = child("forecast", folder, name)
                steps, wall = child("timed", folder, name)
            rows.append({"forecast": round(said, 2), "steps": round(steps, 2), "run": round(wall, 2)})
            print(f"{name}: forecast {said:.1f} s, steps {steps:.1f} s ({said / steps - 1:+.0%}), run {wall:.1f} s")
        found[name] = rows
        (HERE / "times.json").write_text(json.dumps(found, indent=1) + "\n")


CHILDREN = {"plan": planned, "run": taken, "forecast": forecast, "timed": run_timed}

if __name__ == "__main__":
    what, *given = sys.argv[1:] or ["memory"]
    if given:
        print(json.dumps(CHILDREN[what](Path(given[0]), json.loads(given[1]))))
    else:
        {"memory": measure_memory, "time": measure_time}[what]()
