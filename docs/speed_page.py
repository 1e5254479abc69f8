"""Write docs/speed.md from the result files of benchmarks/: `python docs/speed_page.py > docs/speed.md`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks"


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def of(name: str, found: dict[str, Any]) -> str:
    """Where figures are from."""
    processor = found.get("processor") or found.get("device") or "a processor of two cores"
    return f"`{found['command']}`, {processor}, commit {found['commit'][:9]} ([figures](../benchmarks/{name}))"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(one)} |" for one in lines)


def beside(reached: float, goal: float) -> str:
    """A goal, and by how much it is missed."""
    return f"{goal:g}, reached" if reached >= goal else f"{goal:g}, missed by {1 - reached / goal:.0%}"


def against_trl() -> str:
    found = result("against_trl.json")
    goals = {"as shipped": 16.0, "tuned": 12.0}
    rows = [
        [
            str(one["threads"]), one["allocator of trl"], f"{one['trueup']['cpu']:.2f}", f"{one['trl']['cpu']:.2f}",
            f"{one['ratio']['cpu']:.1f} ({one['range']['cpu'][0]:.1f} to {one['range']['cpu'][1]:.1f})",
            beside(one["ratio"]["cpu"], goals[one["allocator of trl"]]),
            f"{one['trueup']['peak'] / 2**20:,.0f}", f"{one['trl']['peak'] / 2**20:,.0f}",
            beside(one["memory ratio"], 8.0),
        ]
        for one in found["results"]
    ]  # fmt: skip
    apart = max(one["largest difference"]["grad_norm"] for one in found["results"])
    prompts, responses = found["tokens"]["prompt"], found["tokens"]["chosen"] + found["tokens"]["rejected"]
    heads = ["threads", "allocator of TRL", "trueup, CPU s", "TRL, CPU s", "times (range)", "goal"]
    heads += ["trueup, MiB", "TRL, MiB", "goal of memory"]
    return (
        f"A step of 16 pairs ({prompts:,} tokens of prompts, {responses:,} of responses), a random Llama of 15.6 M "
        "weights, vocabulary 16,000, float32, a live reference, in turns, step by step. Norms of gradients agree to "
        f"{apart:.0e}. {of('against_trl.json', found)}.\n\n{table(heads, rows)}"
    )


def step() -> str:
    found = result("step_flops.json")
    several, heads = found["precisions"], ["", "CPU s", "products", "copies", "the rest", "peak, MiB"]
    rows = [
        [
            way,
            f"{one['median']:.2f}",
            *(f"{share:.0%}" for share in one["shares"].values()),
            f"{one['peak'] / 2**20:,.0f}",
        ]
        for way, one in several.items()
    ]
    ahead = several["fp32"]["median"] / several["bf16"]["median"]
    share = 100 * several["fp32"]["shares"]["products"]
    return (
        f"The step of the table above, by itself: {several['fp32']['flops'] / 1e9:,.0f} G operations in products of "
        f"matrices. They take {share:.0f} % of its time in float32 (goal {beside(share, 60)}). With bfloat16, on "
        f"a processor that has AMX, it is {ahead:.2f} times as fast (goal {beside(ahead, 1.6)}): products are several "
        f"times as fast, what lies between them is not. {of('step_flops.json', found)}.\n\n{table(heads, rows)}"
    )


def shared_prompts() -> str:
    found = result("shared_prompt/result.json")
    rows = []
    for kind, seconds in found["median_cpu_seconds"].items():
        products = found["operations_in_products"][kind]
        beside_stream = [
            f"{seconds[way] / seconds['stream']:.2f} x of {products[way] / products['stream']:.2f}"
            for way in ("padded", "naive")
        ]
        goal = beside(seconds["padded"] / seconds["stream"], 4.0) if "K=8" in kind else ""
        rows.append([kind, f"{seconds['stream']:.2f}", *beside_stream, goal])
    heads = ["data", "stream, CPU s", "padded rows", "padded rows, all logits", "goal"]
    return (
        "In time, *of* what they take of operations in products of matrices: where those are all of a step, no way to "
        f"share prompts saves more. {of('shared_prompt/result.json', found)}.\n\n{table(heads, rows)}"
    )


def copied_cache() -> str:
    found = result("shared_prompt/copied_cache.json")
    rows = [
        [family, kind, f"{one['forked']:.2f}", f"{one['padded']:.2f}", f"{one['padded'] / one['forked']:.2f} x"]
        for family, kinds in found["median_cpu_seconds"].items()
        for kind, one in kinds.items()
    ]  # fmt: skip
    heads = ["family", "data", "copied cache, CPU s", "padded rows, CPU s", "times"]
    return (
        "Models whose state is sequential, or whose attention is not ours to compute, of four layers: "
        f"{of('shared_prompt/copied_cache.json', found)}.\n\n{table(heads, rows)}"
    )


def left_out() -> str:
    found = result("left_out.json")
    before, refilled = found["preparing"], found["refilling"]
    saved = [f"{share:.0%} with {size} sequences together" for size, share in refilled["saved"].items()]
    return (
        f"What would not pay ({of('left_out.json', found)}):\n\n"
        f"- Preparing the next step's batch while the last one runs. Laying out 64 pairs of {before['tokens']:,} "
        f"tokens takes {before['layout, ms']:.1f} ms,\n  planning their segments {before['segments, ms']:.1f} ms.\n"
        f"- Letting rows into a batch of sequences as others are done. It saves steps, of "
        f"{refilled['ms a step']:.1f} ms each beside\n  {refilled['ms a token']:.2f} ms a token: "
        f"{' and '.join(saved)}, less what joining caches takes. Larger batches save more.\n"
        "- A frozen reference in the CPU's memory: `--reference.kind cached` holds none at all, and computes as much."
    )


def pieces() -> str:
    found = result("attention_and_head.json")
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in found["rows"]:
        cells = rows.setdefault((one["kernel"], one["lengths"], f"{one['tokens']:,}"), [])
        cells += [f"{one['ms']:.0f}", f"{one['error']:.0e}"] if "ms" in one else ["refused", ""]
    heads = ["", "lengths", "tokens", "fp32, ms", "error", "bf16, ms", "error"]
    ordered = sorted(rows.items(), key=lambda row: row[0][1])
    return (
        "One layer's attention over a stream, and the log-probabilities of tokens, forward and backward: `dense` and "
        "*all logits* are\nthe plain forms, whose float32 the errors are against, relative, of results or gradients. "
        "`varlen` and `flex` are for GPUs and run here in plain\noperations. "
        f"{of('attention_and_head.json', found)}.\n\n{table(heads, [[*key, *cells] for key, cells in ordered])}"
    )


def sampling() -> str:
    found = result("generation.json")
    rows = [
        [way, f"{one['median_cpu_seconds']:.1f}", f"{one['tokens_per_cpu_second']:,}"]
        for way, one in found["ways"].items()
    ]
    ahead = found["ways"]["trueup"]["tokens_per_cpu_second"] / found["ways"]["generate"]["tokens_per_cpu_second"]
    return (
        f"{found['responses']} responses to each of {found['prompts']} prompts, a model of "
        f"{found['parameters']:,} "
        f"weights; {ahead:.1f} times `generate`. {of('generation.json', found)}.\n\n"
        f"{table(['', 'CPU s', 'tokens a CPU s'], rows)}"
    )


def startup() -> str:
    found = result("startup.json")
    rows = [
        [
            name,
            f"{found[name]['seconds']:.2f}",
            f"{found[name]['times']:.2f}",
            f"{found[name]['tokenized']:,}",
        ]
        for name in ("first run", "second run")
    ]
    return (
        f"Importing torch and transformers' Llama takes {found['imports']:.2f} CPU seconds; the "
        f"goal is {found['goal']} "
        f"times that, up to the first step. {of('startup.json', found)}.\n\n"
        f"{table(['', 'CPU s', 'times', 'groups tokenized'], rows)}"
    )


def gpu() -> str:
    if not (RESULTS / "gpu.json").exists():
        return NO_GPU
    found = result("gpu.json")
    heads = ["size", "lengths", "way", "attention", "pairs a second", "MFU", "memory, GB", "missed"]
    rows = [
        [
            one["size"], one["lengths"], one["way"], one.get("attention", ""), f"{one.get('pairs a second', 0):.1f}",
            f"{one['MFU']:.0%}" if one.get("MFU") else "", f"{(one.get('memory') or 0) / 1e9:.1f}",
            str(one["missed"] or ""),
        ]
        for one in found["steps"]
    ]  # fmt: skip
    wrong = [one["backend"] for one in found["checks"] if one.get("right") is False]
    return f"Wrong: {', '.join(wrong) or 'nothing'}. {of('gpu.json', found)}.\n\n{table(heads, rows)}"


NO_GPU = """**Nothing of this has ever run on a GPU**: there was none. `python -m benchmarks.gpu` checks every backend
there and makes the tables, from a bare checkout and without network; on a CPU the same program is a test
(`tests/models/test_gpu_program.py`). What a CPU can check of a GPU's path is: the segments of `varlen` and their
gradients against the dense mask, `flex` in plain operations, which backend is taken on which device, and what happens
when a kernel is missing or wrong ([decision 18](decisions/0018-segments-on-gpus.md)). Goals for one H200 in bfloat16,
none of them shown: 2.5 times TRL's pairs a second on HH-like lengths, 3 on TL;DR-like, 1.5 on UltraFeedback-like, in
half the memory; 16 pairs a
second and 50 % of the peak for 8B on UltraFeedback-like lengths, 260 and 40 % for 1B on HH-like."""

TEXT = """# Speed

Seconds and memory of a step beside other ways to compute it, with the goals and by how much they are missed;
on CPUs, nothing of it on a GPU. Written by
`python docs/speed_page.py > docs/speed.md` from the result files.

## Beside TRL 1.16's DPOTrainer

{against_trl}

## Where the time of a step goes

{step}

## Prompts shared, and not

{shared_prompts}

{copied_cache}

## Attention and head by themselves

{pieces}

## Sampling in process

{sampling}

## To the first step

{startup}

## GPUs

{gpu}

## What is counted

Timing is a benchmark and never a test. What does not depend on a clock is a test: operations of a step against the
formula of the shared prompt, and of a head that keeps its logits (`tests/models/test_flops.py`); tensors that a pass
holds (`tests/training/test_plan.py`); that a step waits for its device once (`tests/training/test_step.py`).

## Where the time goes

In float32 products are two thirds of a step, so that they bound what is left to gain: a step that did nothing else
would be 1.5 times as fast, and just reach the goals beside TRL. Not there: what lies between products fused for CPUs
without `--compile`. On a GPU sampling replays a recorded step, in buffers of one size, for models whose layers cache
every token: what is replayed is compared first with logits that are known. On a CPU the same steps, not recorded, are
tested to write what others write, and to wait for nothing (`tests/sampling/test_decoding.py`).

{left_out}
"""

if __name__ == "__main__":
    parts = [against_trl, step, shared_prompts, copied_cache, pieces, sampling, startup, gpu, left_out]
    print(TEXT.format(**{one.__name__: one() for one in parts}), end="")
