"""How much faster is a DPO step when every prompt is computed once?

Times one step (reference forward, policy forward and backward) of a random Llama-like model on one thread, three ways:

    stream    trueup: prompt once, no padding, log-probabilities of response tokens only
    padded    the same head, but a padded row for every response
    naive     a padded row for every response, all logits, log_softmax: what a first implementation does

The three are run in turn, round after round, and the median of each is reported; they compute the same loss.
Operations in products of matrices are counted: they bound what sharing can save.

    python benchmarks/shared_prompt/run.py --output benchmarks/shared_prompt/result.json
"""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from trueup.batch.rows import LogProbs, Pairs
from trueup.batch.stream import Batch, collate_batch
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.feedback.records import PairRelation
from trueup.models.attention.padded import inputs
from trueup.models.causal import CausalModel
from trueup.objectives.dpo import dpo

VOCABULARY = 16_000
DATA = {
    "HH-like, K=2": (4, 2, (64, 192), (32, 128)),
    "long prompts, K=2": (4, 2, (300, 500), (60, 120)),
    "long responses, K=2": (4, 2, (100, 260), (150, 350)),
    "rankings, K=8": (2, 8, (200, 300), (40, 100)),
}
"""Groups, responses of each, range of prompt lengths, range of response lengths."""


def groups(kind: str, seed: int) -> list[TokenGroup[PairRelation]]:
    """Random tokens of the lengths of one kind; consecutive responses are pairs."""
    count, responses, prompt_range, response_range = DATA[kind]
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> np.ndarray:
        return random.integers(3, VOCABULARY, random.integers(low, high + 1), dtype=np.int32)

    relation = PairRelation(tuple((k, k + 1, 1.0) for k in range(0, responses, 2)))
    made = []
    for _ in range(count):
        rows = [ids(*response_range) for _ in range(responses)]
        made.append(
            TokenGroup(ids(*prompt_range), tuple(TokenRow(row, np.ones(len(row), bool)) for row in rows), relation)
        )
    return made


def main(
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds; each runs every way once.")] = 7,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
) -> None:
    """Time the three ways on every kind of data."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    model = CausalModel(network, autocast=torch.bfloat16 if precision == "bf16" else None)
    results, operations = {}, {}
    for number, kind in enumerate(DATA):
        batch = collate_batch(groups(kind, number), Pairs.collate)

        def step(log_probs: Callable[[], LogProbs], batch: Batch[Pairs] = batch) -> float:
            network.zero_grad()
            with torch.no_grad():
                reference = log_probs()
            loss = dpo(log_probs(), reference, batch.index).per_example.sum()
            loss.backward()
            return loss.item()

        def streamed(layout: str, batch: Batch[Pairs] = batch) -> LogProbs:
            model.set_attention(layout)
            return model.log_probs(batch.stream)

        def naive(batch: Batch[Pairs] = batch) -> LogProbs:
            rows, target_S = inputs(batch.stream), batch.stream.target_S
            with (
                model.plain(),
                torch.autocast("cpu", dtype=model.autocast, enabled=model.autocast is not None),
            ):
                output = network(**rows.keywords, use_cache=False)
            log_prob_SV = output.logits.flatten(0, 1).index_select(0, rows.source_S).float().log_softmax(-1)
            return LogProbs(log_prob_SV.gather(-1, target_S[:, None])[:, 0], batch.stream.length_N)

        variants: dict[str, Callable[[], LogProbs]] = {
            "stream": lambda streamed=streamed: streamed("grouped"),
            "padded": lambda streamed=streamed: streamed("padded"),
            "naive": naive,
        }
        seconds: dict[str, list[float]] = {variant: [] for variant in variants}
        losses, products = dict[str, float](), dict[str, int]()
        for variant, log_probs in variants.items():  # which also warms up
            with FlopCounterMode(display=False) as counter:
                losses[variant] = step(log_probs)
            products[variant] = counter.get_total_flops()
        assert max(losses.values()) - min(losses.values()) < 1e-3, losses
        for _ in range(rounds):
            for variant, log_probs in variants.items():
                began = time.process_time()
                step(log_probs)
                seconds[variant].append(time.process_time() - began)
        medians = {variant: statistics.median(times) for variant, times in seconds.items()}
        results[kind], operations[kind] = medians, products
        print(
            f"{kind:22} stream {medians['stream']:.2f} s   padded {medians['padded'] / medians['stream']:.2f}x"
            f"   naive {medians['naive'] / medians['stream']:.2f}x"
        )
    if output is not None:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        record = {
            "command": f"python benchmarks/shared_prompt/run.py --rounds {rounds} --precision {precision}",
            "commit": commit, "torch": torch.__version__, "processor": platform.processor() or platform.machine(),
            "threads": 1, "parameters": sum(p.numel() for p in network.parameters()),
            "median_cpu_seconds": results, "operations_in_products": operations,
        }  # fmt: skip
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
