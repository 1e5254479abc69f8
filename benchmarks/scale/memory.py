"""How much memory each of two processes takes to read a model and to shard it, reading its slices or all of it.

`trueup train dpo` with a frozen reference on a random Llama of 113 million weights, one step; the most so far,
`VmHWM` of /proc/self/status, of the process that takes more. What a step takes in one, two and three of them stands
beside what `run.py` forecasts.

    python benchmarks/scale/memory.py     # writes memory.json beside this file
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from run import Shape, held  # type: ignore[import-not-found]

PHASES = ("imported", "read", "sharded", "stepped", "done")
CASES = [(dtype, how, 2) for dtype in ("bfloat16", "float32") for how in ("slices", "whole")]
SHAPE = Shape("", 14, 768, 2048, 12, 12, 16_384 // 2)  # its embeddings are its head too
TOKENS = 1024
"""More than a step has, which is next to nothing beside the weights."""


def peak() -> float:
    """MB."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def make(folder: Path, dtype: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trueup.world.model import make_tokenizer

    tokenizer: Any = make_tokenizer()
    config = LlamaConfig(
        vocab_size=16_384, hidden_size=768, intermediate_size=2048, num_hidden_layers=14, num_attention_heads=12,
        num_key_value_heads=12, max_position_embeddings=512, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def child(folder: Path, how: str) -> None:
    """One process: what it took by the end of each phase."""
    import torch

    from trueup.config.resolve import resolve
    from trueup.models import load
    from trueup.parallel import processes
    from trueup.training import api, loop, setup

    torch.set_num_threads(1)
    taken: dict[str, float] = {"imported": peak()}

    def marked(made: Any, phase: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            taken.setdefault(phase, peak())  # before it: what came before has ended
            return made(*args, **kwargs)

        return call

    if how == "whole":
        load.unread = lambda network, base: False
    place: Any
    marks = (setup, "shard_model", "read"), (loop, "train_step", "sharded"), (loop, "save_run", "stepped")
    for place, name, phase in marks:
        setattr(place, name, marked(getattr(place, name), phase))
    values = {
        "model": str(folder / "model"), "data": "world:pairs?count=8", "output": str(folder / how), "steps": 1,
        "batch_size": 2, "device": "cpu",
    }  # fmt: skip
    with processes.joined():
        api.run(resolve("dpo", overrides=values), quiet=True)
        taken["done"] = peak()
        (folder / f"{how}-{processes.rank()}.json").write_text(json.dumps(taken))


def main() -> None:
    if len(sys.argv) == 3:
        return child(Path(sys.argv[1]), sys.argv[2])
    found: dict[str, Any] = {}
    for dtype, how, count in (*CASES, ("float32", "slices", 1), ("float32", "slices", 3)):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name) / "model", dtype)
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            command += [str(count), __file__, name, how]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            ranks = [json.loads((Path(name) / f"{how}-{rank}.json").read_text()) for rank in range(count)]
        most = {phase: round(max(one.get(phase, 0) for one in ranks)) for phase in PHASES}
        if how == "slices" and dtype == "float32":
            most |= {
                "step": most["stepped"] - most["imported"],
                "forecast": round(held(SHAPE, count, TOKENS, wide=4) / 1e6),
            }
        found[f"{dtype}, {how}, {count}"] = most
        print(f"{dtype}, {how}, {count}: {most}", flush=True)
    Path(__file__).with_name("memory.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
