"""How much faster is a DPO step of a model whose state is sequential when prompts are computed once?

Times one step (reference forward, policy forward and backward) of random models on one thread, with the library's cache
of a prompt copied for its responses (`forked`) and with a padded row for every response (`padded`), in turn.

    python benchmarks/shared_prompt/copied_cache.py --output benchmarks/shared_prompt/copied_cache.json
"""

import json
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from run import DATA, VOCABULARY, groups
from transformers import AutoConfig, AutoModelForCausalLM

from trueup.batch.rows import Pairs
from trueup.batch.stream import collate_batch
from trueup.models.causal import CausalModel
from trueup.objectives.dpo import dpo

COMMON: dict[str, Any] = dict(
    vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
DELTA = dict(linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=32, linear_value_head_dim=32)
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": dict(COMMON, head_dim=64, **DELTA),
    "falcon_h1": dict(
        COMMON, head_dim=64, mamba_d_ssm=256, mamba_n_heads=8, mamba_d_head=32, mamba_n_groups=1, mamba_d_state=32
    ),
    "gpt_oss": dict(COMMON, head_dim=64, num_local_experts=4, num_experts_per_tok=2),
    "bloom": dict(vocab_size=VOCABULARY, hidden_size=256, n_layer=4, n_head=4),
}  # fmt: skip
LAYOUTS = ("forked", "padded")


def main(
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds; each runs both ways once.")] = 3,
) -> None:
    """Time both ways on long prompts, and on rankings of eight."""
    torch.set_num_threads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for family, sizes in FAMILIES.items():
        torch.manual_seed(0)
        network: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).train()
        model = CausalModel(network)
        for number, kind in enumerate(DATA):
            if kind not in ("long prompts, K=2", "rankings, K=8"):
                continue
            batch = collate_batch(groups(kind, number), Pairs.collate)
            seconds: dict[str, list[float]] = {way: [] for way in LAYOUTS}
            norms: dict[str, float] = {}
            for _ in range(rounds):
                for way in LAYOUTS:
                    model.set_attention(way)
                    network.zero_grad()
                    began = time.process_time()
                    with torch.no_grad():
                        reference = model.log_probs(batch.stream)
                    dpo(model.log_probs(batch.stream), reference, batch.index).per_example.sum().backward()
                    seconds[way].append(time.process_time() - began)
                    grads = [one.grad.norm() for one in model.trainable().values() if one.grad is not None]
                    norms[way] = float(torch.stack(grads).norm())
            assert abs(norms["forked"] / norms["padded"] - 1) < 1e-3, norms
            results.setdefault(family, {})[kind] = {way: statistics.median(times) for way, times in seconds.items()}
            print(family, kind, {way: round(statistics.median(times), 2) for way, times in seconds.items()})
    if output is not None:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        record = {
            "command": f"python benchmarks/shared_prompt/copied_cache.py --rounds {rounds}",
            "commit": commit, "torch": torch.__version__, "processor": platform.processor() or platform.machine(),
            "threads": 1, "median_cpu_seconds": results,
        }  # fmt: skip
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
