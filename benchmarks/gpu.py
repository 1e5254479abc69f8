"""Is everything that a GPU computes right, and how fast is it? One command, from a bare checkout, without network.

    python -m benchmarks.gpu --output benchmarks/gpu.json

First each attention backend against padded rows in float32, in value and gradient, in float32 and bfloat16, twice, for
the same bits; then steps of DPO with the reference's log-probabilities at hand (forward, backward) on models of random
weights, as a stream, as padded rows with the same head and as padded rows with all logits; then responses sampled in
this process, with steps replayed and not, beside `generate`. It needs torch, transformers and safetensors.
`--device cpu --quick` goes through all of it with a tiny model. The command ends with 1 where something is not right.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from trueup.batch.rows import LogProbs, Pairs
from trueup.batch.stream import Batch, collate_batch
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import is_out_of_memory
from trueup.feedback.records import PairRelation
from trueup.models import captured
from trueup.models.attention import UnsupportedAttention, backend, names, padded
from trueup.models.causal import CausalModel
from trueup.models.selfcheck import check_attention
from trueup.objectives.dpo import dpo
from trueup.sampling.decoding import Decoder, generate
from trueup.settings.gathering_settings import SamplerSettings

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Products in bfloat16 a second, without sparsity, by a part of the GPU's name."""
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 256},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151_936},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128_256},
    "8B": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip
LENGTHS = {
    "HH": (125, 60, 2), "TL;DR": (380, 35, 2), "UltraFeedback": (120, 290, 2), "rankings of 8": (250, 70, 8),
}  # fmt: skip
"""Median tokens of a prompt and of a response, and responses; lengths are drawn from half to one and a half of them."""
GOALS = {
    ("8B", "UltraFeedback"): {"pairs a second": 16, "MFU": 0.50}, ("1B", "HH"): {"pairs a second": 260, "MFU": 0.40},
}  # fmt: skip


def groups(kind: str, vocabulary: int, tokens: int, seed: int = 0) -> list[TokenGroup[PairRelation]]:
    """Random tokens, as many groups as `tokens` have room for; consecutive responses are pairs."""
    prompt, response, count = LENGTHS[kind]
    random = np.random.default_rng(seed)

    def ids(median: int) -> Any:
        return random.integers(3, vocabulary, random.integers(median // 2, median * 3 // 2 + 1), dtype=np.int32)

    relation = PairRelation(tuple((k, k + 1, 1.0) for k in range(0, count, 2)))
    made: list[TokenGroup[PairRelation]] = []
    while True:
        rows = [ids(response) for _ in range(count)]
        group = TokenGroup(ids(prompt), tuple(TokenRow(row, np.ones(len(row), bool)) for row in rows), relation)
        tokens -= group.num_tokens
        if made and tokens < 0:
            return made
        made.append(group)


def network(size: str, device: torch.device) -> Any:
    torch.manual_seed(0)
    with device:
        return LlamaForCausalLM(
            LlamaConfig(**SIZES[size], max_position_embeddings=4096, tie_word_embeddings=size != "8B")
        )


def naive(model: CausalModel, batch: Batch[Pairs]) -> LogProbs:
    """Padded rows, all logits, log_softmax."""
    rows, target_S = padded.inputs(batch.stream), batch.stream.target_S
    kind, dtype = model.device.type, model.autocast
    with model.plain() as library, torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
        logits = library(**rows.keywords, use_cache=False).logits
    log_prob_SV = logits.flatten(0, 1).index_select(0, rows.source_S).float().log_softmax(-1)
    return LogProbs(log_prob_SV.gather(-1, target_S[:, None])[:, 0], batch.stream.length_N)


def gradients(model: CausalModel, values_S: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    (torch.linspace(-1, 1, len(values_S), device=values_S.device) * values_S).sum().backward()
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def right(device: torch.device, tokens: int) -> Iterator[dict[str, Any]]:
    """Each backend beside padded rows in float32. In bfloat16 it may be off by twice what the library is off."""
    model = CausalModel(network("tiny", device), attention="padded")
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(3)  # far from uniform
    several = [group for kind in LENGTHS for group in groups(kind, 256, tokens)]
    batch = collate_batch(several, Pairs.collate).to(device)
    expected = model.log_probs(batch.stream).token_S
    slope = gradients(model, expected)

    def off(values: torch.Tensor) -> tuple[float, float]:
        found = gradients(model, values)
        return float((values - expected).abs().max().detach()), float((found - slope).norm() / slope.norm())

    for precision, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        model.autocast = dtype
        library = off(naive(model, batch).token_S)
        limit = (1e-4, 1e-5) if dtype is None else tuple(2 * one for one in library)
        yield {"backend": "library", "precision": precision, "value": library[0], "gradient": library[1]}
        for name in names():
            told: dict[str, Any] = {"backend": name, "precision": precision}
            try:
                model.set_attention(name)
                value, gradient = off(model.log_probs(batch.stream).token_S)
                first, again = (gradients(model, model.log_probs(batch.stream).token_S) for _ in range(2))
                with torch.no_grad():
                    margin = model.log_probs(batch.stream).token_S
                told |= {
                    "value": value, "gradient": gradient, "same bits again": bool(torch.equal(first, again)),
                    "step 0 exact": bool(torch.equal(margin, model.log_probs(batch.stream).token_S)),
                }  # fmt: skip
                told["right"] = value <= limit[0] and gradient <= limit[1] and told["step 0 exact"]
            except (UnsupportedAttention, RuntimeError, ValueError, ImportError) as error:
                # In float32 the kernel is refused; anything else is a fault.
                fits = isinstance(error, UnsupportedAttention) and (backend(name).half and dtype is None)
                told |= {"refused": str(error).splitlines()[0], "right": bool(fits)}
            yield told
    model.autocast = torch.bfloat16 if device.type == "cuda" else None
    chosen = check_attention(model, several, None)
    yield {"chosen": chosen.attention, "message": chosen.message}


def flops(model: CausalModel, batch: Batch[Pairs]) -> float:
    """Of a stream, forward and backward: 3 F, F = 2 N (P + S) + 2 V d S + 4 A L (P^2 / 2 + P S + sum R^2 / 2)."""
    config = model.inner.config
    wide, layers, head = config.hidden_size, config.num_hidden_layers, config.vocab_size * config.hidden_size
    body = sum(one.numel() for name, one in model.inner.named_parameters() if ".layers." in name and one.ndim == 2)
    total = 0.0
    for span in batch.stream.spans:
        prompt, rows = span.prompt[1] - span.prompt[0], [stop - start for start, stop in span.responses]
        pairs = prompt**2 / 2 + prompt * sum(rows) + sum(row**2 for row in rows) / 2
        total += 2 * body * (prompt + sum(rows)) + 2 * head * sum(rows) + 4 * wide * layers * pairs
    return 3 * total


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median of a GPU's own time or of a CPU's, of one call; the first warms up."""
    found: list[float] = []
    for _ in range(rounds + 1):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        else:
            began = time.process_time()
            work()
            found.append(time.process_time() - began)
    return statistics.median(found[1:])


def steps(size: str, device: torch.device, tokens: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Forward and backward passes of one micro-batch, three ways; of what does not fit half as many tokens."""
    dtype = torch.bfloat16 if device.type == "cuda" else None
    model = CausalModel(network(size, device), autocast=dtype)
    peak = next((value for name, value in PEAK.items() if name in device_name(device)), None)
    for kind in LENGTHS:
        made = groups(kind, SIZES[size]["vocab_size"], tokens)
        model.set_attention(check_attention(model, made[:2], None).attention)
        chosen = model.attention
        for way in ("stream", "padded", "all logits"):
            left, took = made, 0.0
            while left and not took:
                batch = collate_batch(left, Pairs.collate).to(device)
                model.set_attention("padded" if way == "padded" else chosen)
                with torch.no_grad():
                    reference = model.log_probs(batch.stream)

                def step(batch: Any = batch, reference: Any = reference, way: str = way) -> None:
                    model.zero_grad()
                    policy = naive(model, batch) if way == "all logits" else model.log_probs(batch.stream)
                    dpo(policy, reference, batch.index).per_example.sum().backward()

                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                try:
                    took = seconds(step, device, rounds)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                if not took:
                    left = left[: len(left) // 2]
            if not took:
                yield {"size": size, "lengths": kind, "way": way, "missed": "memory, with one group"}
                continue
            told = {
                "size": size, "lengths": kind, "way": way, "attention": model.attention, "groups": len(left),
                "tokens": batch.stream.num_tokens, "seconds": took, "pairs a second": len(batch.index.chosen_P) / took,
                "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
                "MFU": flops(model, batch) / took / peak if peak else None,
            }  # fmt: skip
            goals = GOALS.get((size, kind), {}) if way == "stream" else {}
            told["missed"] = {
                key: f"{told[key]:.3g} of {goal}" for key, goal in goals.items() if (told[key] or 0) < goal
            }
            yield told


def sampled(size: str, device: torch.device, tokens: int, rounds: int, new: int) -> Iterator[dict[str, Any]]:
    """Responses that all have their full length, three ways; that two of them are the same is a check."""
    model = CausalModel(network(size, device))
    if device.type == "cuda" and size != "tiny":
        model.to(torch.bfloat16)
    prompts = [[int(one) for one in group.prompt] for group in groups("HH", SIZES[size]["vocab_size"], tokens)]
    keys, written = [[b"%d" % place] for place in range(len(prompts))], dict[str, Any]()
    for way in ("replayed", "launched", "generate"):

        def work(way: str = way) -> None:
            if way == "generate":
                ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(one[::-1]) for one in prompts], True, 0).flip(1)
                there = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in prompts], True, 0).flip(1)
                given = {"attention_mask": there.long().to(device), "min_new_tokens": new, "max_new_tokens": new}
                plain.generate(ids.to(device), do_sample=True, top_k=0, pad_token_id=0, **given)
                return
            recorders = captured.RECORDERS if way == "replayed" else {}
            with mock.patch.object(captured, "RECORDERS", recorders):
                written[way] = generate(
                    Decoder(plain, []), prompts, 1, settings=SamplerSettings(), rooms=[new] * len(prompts), keys=keys
                )

        with torch.no_grad(), model.without_dropout(), model.plain() as plain:
            took = seconds(work, device, rounds)
        yield {
            "size": size, "way": way, "responses": len(prompts), "seconds": took,
            "tokens a second": len(prompts) * new / took,
        }  # fmt: skip
    refused = sorted(one.__name__ for one in captured.REFUSED)
    same = written["replayed"] == written["launched"]
    # In bfloat16 kernels of other sizes round otherwise, so that what is drawn may differ.
    exact = next(model.parameters()).dtype == torch.float32
    yield {"size": size, "same responses": same, "refused": refused, "right": not refused and (same or not exact)}


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def main(arguments: list[str] | None = None) -> int:
    """Check, then time; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tiny model, few tokens")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    sizes, tokens, rounds = (["tiny"], 500, 1) if given.quick else (["0.5B", "1B", "8B"], 8192, 5)
    checks = list(right(device, tokens // 4))
    for one in checks:
        print(json.dumps(one), flush=True)
    table: list[dict[str, Any]] = []
    sampling: list[dict[str, Any]] = []
    for size in sizes:
        for one in steps(size, device, tokens, rounds):
            print(json.dumps(one), flush=True)
            table.append(one)
    for size in ["tiny", *sizes[:2]] if not given.quick else sizes:
        for one in sampled(size, device, tokens * 2, rounds, 20 if given.quick else 256):
            print(json.dumps(one), flush=True)
            (checks if "right" in one else sampling).append(one)
    wrong = [one for one in checks if one.get("right") is False]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    record = {
        "command": f"python -m benchmarks.gpu --device {given.device}{' --quick' * given.quick}",
        "commit": head.stdout.strip(), "device": device_name(device), "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__, "seed": 0, "lengths": LENGTHS,
        "checks": checks, "steps": table, "sampled": sampling,
    }  # fmt: skip
    if given.output:
        given.output.write_text(json.dumps(record, indent=1) + "\n")
    print("wrong: " + json.dumps(wrong) if wrong else "all checks hold")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
