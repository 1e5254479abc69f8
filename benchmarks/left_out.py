"""What two ways to save time could gain at most on this machine, which is why they are not there.

Preparing the next step's batch while the last one runs: how long it takes to lay out and plan 64 pairs. Letting new
rows into a batch of sequences as others are done: CPU seconds, steps and tokens at several sizes of a batch, and
what the steps that it saves would take.

    python benchmarks/left_out.py MODEL --output benchmarks/left_out.json
"""

import argparse
import json
import runpy
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from trueup.batch.rows import Pairs
from trueup.models.attention import varlen
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.sampling import decoding
from trueup.settings.gathering_settings import SamplerSettings
from trueup.sources.source import Batching

HERE = Path(__file__).parent
SIZES = (64, 256)
ROUNDS = 3


def milliseconds(work: Callable[[], Any], rounds: int = 20) -> float:
    work()
    began = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - began) / rounds * 1e3


def preparing() -> dict[str, float]:
    program = runpy.run_path(str(HERE / "shared_prompt" / "run.py"))
    program["DATA"]["pairs"] = (64, 2, (100, 260), (150, 350))
    batching, groups = Batching(Pairs.collate, 16_384), program["groups"]("pairs", 0)
    streams = [batch.stream for batch in batching.step(groups)]
    return {
        "tokens": sum(one.num_tokens for one in streams),
        "layout, ms": milliseconds(lambda: batching.step(groups)),
        "segments, ms": milliseconds(lambda: [varlen.inputs(one) for one in streams]),
    }


def refilling(path: str) -> dict[str, Any]:
    """Seconds are a s + b t in steps and tokens; with refilled rows a batch takes t / size steps."""
    loaded = load(path, device=torch.device("cpu"))
    texts = runpy.run_path(str(HERE / "sampling" / "run.py"))["stories"]() * 4
    prompts = [loaded.tokenizer(text).input_ids for text in texts]
    found: dict[int, tuple[float, int, int]] = {}
    advance = decoding.CachedBatch.advance
    settings = SamplerSettings(max_new_tokens=256)
    with CausalModel(loaded.network).plain() as network:
        for size in SIZES:
            decoder, seconds, written = decoding.Decoder(network, loaded.end_ids, None, size), [], []
            with mock.patch.object(decoding.CachedBatch, "advance", autospec=True, side_effect=advance) as steps:
                for _ in range(ROUNDS):
                    began = time.process_time()
                    generator = torch.Generator().manual_seed(0)
                    written = decoding.draw(decoder, prompts, settings=settings, generator=generator)
                    seconds.append(time.process_time() - began)
            tokens = sum(len(one.written) for one in written)
            found[size] = (float(np.median(seconds)), steps.call_count // ROUNDS, tokens)
    a, b = np.linalg.solve([found[size][1:] for size in SIZES], [found[size][0] for size in SIZES])
    saved = {}
    for size, (_, steps, tokens) in found.items():
        of_batch, full = steps * size / len(prompts), tokens / len(prompts)
        saved[size] = a * (of_batch - full) / (a * of_batch + b * full * size)
    return {"ms a step": a * 1e3, "ms a token": b * 1e3, "saved": saved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="Folder of a model in Hugging Face format.")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    made = {
        "command": f"python benchmarks/left_out.py {Path(given.model).name}", "commit": commit,
        "preparing": preparing(), "refilling": refilling(given.model),
    }  # fmt: skip
    print(json.dumps(made, indent=1))
    if given.output:
        given.output.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
