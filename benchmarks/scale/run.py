"""What a step takes on many GPUs: time, memory and cost, forecast without any, and checked on processes of a CPU.

A step is counted as trueup computes it: each prompt once for its K responses, the head over responses alone, shards
gathered for every forward and every backward pass of a micro-batch, gradients scattered in float32 after each.

    python benchmarks/scale/run.py measure --output benchmarks/scale/result.json    # several minutes of CPU time
    python benchmarks/scale/run.py table benchmarks/scale/result.json              # the tables of docs/scale.md

GPU rates are assumptions, printed with the forecast; nothing here has been run on one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GB = 1e9
STATES = 4 + 8 + 4 + 4
"""Bytes of a weight: master, moments, gradient, reference."""


@dataclass(frozen=True)
class Shape:
    """A decoder; `gated` feed-forward layers of three matrices, untied head."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def layer(self) -> int:
        """Weights of one layer."""
        return self.width * (2 * self.width + 2 * self.width * self.kv_heads // self.heads + 3 * self.inner)

    @property
    def root(self) -> int:
        """Weights of the embeddings and the head, which are gathered together."""
        return 2 * self.vocabulary * self.width

    @property
    def weights(self) -> int:
        return self.layers * self.layer + self.root


@dataclass(frozen=True)
class Lengths:
    """Tokens of a group: a prompt and K responses."""

    prompt: int
    response: int
    responses: int = 2

    @property
    def tokens(self) -> int:
        return self.prompt + self.responses * self.response


def forward(shape: Shape, of: Lengths) -> float:
    """Floating-point operations of the forward pass of a group: body, head on responses, attention."""
    written = of.responses * of.response
    pairs = of.prompt**2 / 2 + of.prompt * written + of.responses * of.response**2 / 2
    return (
        2 * shape.layers * shape.layer * of.tokens
        + 2 * shape.vocabulary * shape.width * written
        + 4 * shape.layers * shape.width * pairs
    )


def head(shape: Shape, of: Lengths) -> float:
    """Those of making the logits again in the backward pass."""
    return 2.0 * shape.vocabulary * shape.width * of.responses * of.response


def step(shape: Shape, of: Lengths, *, recompute: bool, live: bool) -> float:
    """Those of a step of a group: forward, twice that backward, the reference's forward, what is made again."""
    passes = 3 + recompute + live
    return passes * forward(shape, of) + head(shape, of)


@dataclass(frozen=True)
class Machine:
    """An H100 of 80 GB among eight, as its makers state it, and what is taken to be reached of that."""

    peak: float = 989e12
    utilization: float = 0.45
    memory: float = 80 * GB
    read: float = 3.35e12 * 0.7
    inside: float = 300 * GB
    """Bytes a second that a GPU receives in a collective of one node."""
    between: float = 8 * 50 * GB * 0.8
    """The same where nodes take part: eight links of 400 Gbit/s a node, of which each piece crosses one."""
    node: int = 8
    price: float = 2.5
    """Of an hour, in dollars."""


@dataclass(frozen=True)
class Plan:
    """A run to forecast."""

    shape: Shape
    gpus: int
    shard: int
    groups: int
    of: Lengths
    online: bool = False
    micro_tokens: int = 8192


def held(shape: Shape, shards: int, tokens: float, *, wide: int = 2) -> float:
    """Bytes of a process at most: its shards, what is gathered of them, and what a micro-batch keeps of each layer.

    Args:
        wide: bytes of a number that is computed with.
    """
    gathered = 2 * wide * shape.layer + (wide + 4) * shape.root if shards > 1 else 0
    of_tokens = wide * (shape.layers * shape.width + 8 * shape.width + 4 * shape.inner)
    return STATES * shape.weights / shards + gathered + tokens * of_tokens


def forecast(plan: Plan, gpu: Machine) -> dict[str, Any]:
    """Seconds of a step, bytes of a GPU, and what bounds it."""
    shape, of, shards = plan.shape, plan.of, plan.shard
    copies = plan.gpus // shards
    own = plan.groups / plan.gpus
    micro = max(1.0, own * of.tokens / plan.micro_tokens)
    compute = own * step(shape, of, recompute=True, live=True) / (gpu.peak * gpu.utilization)
    link = gpu.inside if shards <= gpu.node else gpu.between
    part = (shards - 1) / shards
    # The policy is gathered forward and backward, the reference forward, in bfloat16; gradients go in float32.
    moved = micro * part * shape.weights * (3 * 2 + 4)
    gathering = moved / link
    if copies > 1:  # sums of the shards of gradients between the copies, after every micro-batch
        gathering += micro * 2 * (copies - 1) / copies * 4 * shape.weights / shards / (gpu.between / gpu.node)
    learning = max(compute, gathering)
    tokens = min(own * of.tokens, plan.micro_tokens)
    sampling, copy = 0.0, 0.0
    if plan.online:  # each GPU decodes its prompts with a copy of its own, all responses at once
        copy = 2.0 * shape.weights
        each = max(copy / gpu.read, own * of.responses * copy / (gpu.peak * gpu.utilization))
        sampling = of.response * each + part * copy / link
    seconds = learning + sampling
    most = max(held(shape, shards, tokens), STATES * shape.weights / shards + copy)
    bound = "sampling" if sampling > learning else "links" if gathering > compute else "arithmetic"
    return {
        "seconds": seconds,
        "compute": compute,
        "links": gathering,
        "sampling": sampling,
        "gigabytes": most / GB,
        "bound": "memory" if most > gpu.memory else bound,
        "dollars": 1000 * seconds * plan.gpus * gpu.price / 3600,
    }


SHAPES = (
    Shape("8B", 32, 4096, 14336, 32, 8, 128_256),
    Shape("70B", 80, 8192, 28672, 64, 8, 128_256),
    Shape("405B", 126, 16384, 53248, 128, 8, 128_256),
)
LENGTHS = Lengths(512, 256)


def plans() -> list[Plan]:
    """Those of the table: whole shards, and shards of a node with copies where one copy fits in fewer."""
    made = []
    for shape, gpus, few in zip(SHAPES, (8, 64, 1024), (8, 32, 128), strict=True):
        for online in (False, True):
            made += [Plan(shape, gpus, shard, 16 * gpus, LENGTHS, online) for shard in sorted({gpus, few})]
    return made


SMALL = Shape("", 6, 256, 704, 4, 4, 103)
LARGER = Shape("", 8, 384, 1024, 6, 6, 103)
PROMPT, RESPONSE, GROUPS, STEPS = 180, 90, 6, 5


def worker(folder: str) -> None:
    """A run of several steps in this process; CPU seconds of each step go to a file."""
    from trueup.config.resolve import resolve
    from trueup.parallel import processes
    from trueup.training import api, loop

    original, seconds = loop.train_step, []

    def timed(*arguments: Any, **more: Any) -> Any:
        begun = time.process_time()
        made = original(*arguments, **more)
        seconds.append(time.process_time() - begun)
        return made

    loop.train_step = timed
    with processes.joined():
        api.run(resolve("dpo", overrides=json.loads(Path(folder, "run.json").read_text())), quiet=True)
        Path(folder, f"seconds{processes.rank()}.json").write_text(json.dumps(seconds))


def measured(shape: Shape, count: int) -> float:
    """CPU seconds of a step, of all processes together: the median of the steps after the first."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from support.tiny_models import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(
            Path(folder, "model"), hidden_size=shape.width, intermediate_size=shape.inner, vocab_size=103,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        )  # fmt: skip
        text = "the quick brown fox jumps over a lazy dog " * 9
        cut = [text[at:] for at in range(GROUPS * STEPS)]
        rows = [{"prompt": one[:PROMPT], "chosen": one[:RESPONSE], "rejected": one[1:][:RESPONSE]} for one in cut]
        Path(folder, "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = {
            "model": f"{folder}/model", "data": [f"{folder}/data.jsonl"], "output": f"{folder}/run",
            "batch_size": GROUPS, "steps": STEPS, "learning_rate": 1e-6, "save_every": 1000, "chat": False,
        }  # fmt: skip
        Path(folder, "run.json").write_text(json.dumps(run))
        command = [sys.executable]
        if count > 1:
            command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*command, __file__, "worker", folder], env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)
        each = [json.loads(file.read_text()) for file in Path(folder).glob("seconds*.json")]
        assert len(each) == count
        steps = sorted(sum(several) for several in zip(*(one[1:] for one in each), strict=True))
        return steps[len(steps) // 2]


def measure(output: Path) -> None:
    """One process on the smaller shape gives the rate; the larger one in one, two and three processes is forecast.

    What is moved between processes of one machine is not told apart from the arithmetic, as it takes less CPU time
    than two measurements differ by.
    """
    of = Lengths(PROMPT, RESPONSE)

    def work(shape: Shape) -> float:
        return GROUPS * step(shape, of, recompute=False, live=True)

    one = measured(SMALL, 1)
    rate = work(SMALL) / one
    several = {count: measured(LARGER, count) for count in (1, 2, 3)}
    result = {
        "command": "python benchmarks/scale/run.py measure",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "unit": "CPU seconds of a step, all processes together",
        "weights": {"small": SMALL.weights, "larger": LARGER.weights},
        "fitted": {"1 process, small": one, "operations a second": rate},
        "checks": {
            str(count): {"measured": seconds, "forecast": work(LARGER) / rate} for count, seconds in several.items()
        },
    }
    output.write_text(json.dumps(result, indent=1) + "\n")


def table(result: dict[str, Any]) -> str:
    """What docs/scale.md shows of it."""
    gpu = Machine()
    head = "model | GPUs | sharded over | | step | arithmetic | links | sampling | GB a GPU | bound by | $ of 1,000"
    lines = [f"| {head} |", "|---" * 11 + "|"]
    for plan in plans():
        found = forecast(plan, gpu)
        kind = "online" if plan.online else "offline"
        times = " | ".join(f"{found[name]:,.1f} s" for name in ("seconds", "compute", "links", "sampling"))
        lines.append(
            f"| {plan.shape.name} | {plan.gpus:,} | {plan.shard:,} | {kind} | {times} | {found['gigabytes']:.0f} | "
            f"{found['bound']} | {found['dollars']:,.0f} |"
        )
    lines += ["", "| processes | CPU seconds of a step | forecast |", "|---|---|---|"]
    for name, one in result["checks"].items():
        lines.append(f"| {name} | {one['measured']:.3g} | {one['forecast']:.3g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "table", "worker", "assumed"))
    parser.add_argument("file", nargs="?")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("result.json"))
    given = parser.parse_args()
    if given.what == "worker":
        worker(given.file)
    elif given.what == "measure":
        measure(given.output)
    elif given.what == "assumed":
        print(json.dumps(asdict(Machine()), indent=1))
    else:
        print(table(json.loads(Path(given.file).read_text())))
