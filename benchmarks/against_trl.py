"""How long does a DPO step take, and how much memory, beside TRL's DPOTrainer on the same model and rows?

Both train in processes of their own, with a live reference, AdamW and clipping, and take turns step by step: A B A B.
The figure of a step is its CPU time, that of a pair of steps their ratio. Losses and norms of gradients of every step
are compared, so that both are known to do the same work.

    python benchmarks/against_trl.py --data hh.jsonl.gz --output benchmarks/against_trl.json

Without `--data` the rows are random tokens of such lengths. `--quick` takes fewer steps and ends with 1 where a goal is
missed. With `--online` it is a step of online DPO: two responses are sampled to each prompt, a function judges them,
and the pairs are learned from; TRL's OnlineDPOTrainer without vLLM takes turns with `trueup train oaif`.
"""

import contextlib
import gzip
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

VOCABULARY, PAIRS = 16_000, 16
TUNED = {
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Of glibc's allocator, so that it does not give memory back between operations."""
GOALS = {"shipped": 16.0, "tuned": 12.0, "memory": 8.0}
ONLINE_GOAL, NEW_TOKENS = 2.0, 64
"""And the most tokens of a sampled response; a random model hardly ever ends one before."""
JUDGE = "def judge(prompt, response):\n    return float(sum(map(ord, response)) % 1009)\n"


def rows(data: list[Path], count: int, seed: int) -> list[dict[str, str]]:
    """Pairs as texts of words `w17`, each of which is one token."""
    random = np.random.default_rng(seed)
    if not data:
        ranges = {"prompt": (64, 192), "chosen": (32, 128), "rejected": (32, 128)}
        lengths = [{key: int(random.integers(*span)) for key, span in ranges.items()} for _ in range(count)]
        return [{key: words(random.integers(3, VOCABULARY, length)) for key, length in one.items()} for one in lengths]
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    given = [json.loads(line) for path in data for line in gzip.decompress(path.read_bytes()).splitlines()]
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(
        (one["chosen"] for one in given), trainers.BpeTrainer(vocab_size=VOCABULARY - 3, show_progress=False)
    )
    found: list[dict[str, str]] = []
    for number in random.permutation(len(given)):
        chosen, rejected = given[number]["chosen"], given[number]["rejected"]
        cut = chosen.rfind("\n\nAssistant:") + len("\n\nAssistant:")
        texts = {"prompt": chosen[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}
        ids = {key: np.array(tokenizer.encode(text).ids) + 3 for key, text in texts.items()}
        if chosen[:cut] == rejected[:cut] and all(map(len, ids.values())) and sum(map(len, ids.values())) < 1_000:
            found.append({key: words(value) for key, value in ids.items()})
        if len(found) == count:
            break
    return found


def words(ids: "np.ndarray[Any, Any]") -> str:
    """`w17 w4 `: TRL tokenizes prompt and response as one text, so that each ends in a space."""
    return "".join(f"w{token} " for token in ids)


def make_model(folder: Path) -> None:
    """A random Llama of 16 million weights, and a tokenizer whose tokens are words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
        pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2} | {f"w{n}": n for n in range(3, VOCABULARY)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


@contextlib.contextmanager
def turns() -> Any:
    """Waits for its turn, and says what a step took."""

    def said(**told: float) -> None:
        sys.__stdout__.write(json.dumps(told) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]

    def step(work: Callable[[], tuple[float, float]]) -> None:
        sys.stdin.readline()
        cpu, wall = time.process_time(), time.perf_counter()
        loss, norm = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        said(
            cpu=time.process_time() - cpu,
            wall=time.perf_counter() - wall,
            loss=loss,
            grad_norm=norm,
            peak=peak,
        )

    with contextlib.redirect_stdout(sys.stderr):
        yield step


@contextlib.contextmanager
def ends() -> Any:
    """Says at the end of each step what it took since the end of the one before, and waits for the next turn."""
    sys.stdin.readline()
    began = time.process_time(), time.perf_counter()

    def ended(**told: float) -> None:
        nonlocal began
        cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sys.__stdout__.write(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, **told}) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]
        sys.stdin.readline()
        began = time.process_time(), time.perf_counter()

    with contextlib.redirect_stdout(sys.stderr):
        yield ended


def run_trueup_online(folder: Path, steps: int, threads: int) -> None:
    """Rounds of `trueup train oaif`, of a step each."""
    import trueup
    from trueup.training import loop

    train_step = loop.train_step
    with ends() as ended:

        def taken(*args: Any, **kwargs: Any) -> dict[str, float]:
            values = train_step(*args, **kwargs)
            ended(loss=values["loss"])
            return values

        loop.train_step = taken  # type: ignore[assignment]
        trueup.train(
            "oaif", model=str(folder / "model"), prompts=str(folder / "rows.jsonl"), output=str(folder / "ours"),
            annotator=f"{folder / 'reward.py'}:judge", steps=steps, batch_size=PAIRS, learning_rate=1e-6,
            schedule="constant", threads=threads, save_every=10**6,
            **{"sampler.responses": 2, "sampler.temperature": 1.0, "sampler.max_new_tokens": NEW_TOKENS},
        )  # fmt: skip


def run_trl_online(folder: Path, steps: int, threads: int) -> None:
    """Steps of TRL's OnlineDPOTrainer."""
    import runpy

    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    torch.set_num_threads(threads)
    score = runpy.run_path(str(folder / "reward.py"))["judge"]

    def judge(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [score(*both) for both in zip(prompts, completions, strict=True)]

    with ends() as ended:

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                ended()

        config = OnlineDPOConfig(
            output_dir=str(folder / "trl"), max_steps=steps, per_device_train_batch_size=PAIRS, learning_rate=1e-6,
            lr_scheduler_type="constant", beta=0.1, max_length=2048, max_new_tokens=NEW_TOKENS, temperature=1.0,
            logging_steps=1, save_strategy="no", report_to="none", bf16=False, use_cpu=True,
            gradient_checkpointing=False, disable_tqdm=True, seed=0,
        )  # fmt: skip
        OnlineDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
            ref_model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
            reward_funcs=judge,
            args=config,
            train_dataset=load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train"),
            processing_class=AutoTokenizer.from_pretrained(folder / "model"),
            callbacks=[Callback()],
        ).train()


def run_trueup(folder: Path, steps: int, threads: int) -> None:
    """Steps of `trueup train dpo`."""
    import trueup
    from trueup.training import loop

    train_step = loop.train_step
    with turns() as turn:

        def taken(*args: Any, **kwargs: Any) -> dict[str, float]:
            values: dict[str, float] = {}

            def work() -> tuple[float, float]:
                values.update(train_step(*args, **kwargs))
                return values["loss"], values["grad_norm"]

            turn(work)
            return values

        loop.train_step = taken  # type: ignore[assignment]
        trueup.train(
            "dpo", model=str(folder / "model"), data=str(folder / "rows.jsonl"), output=str(folder / "ours"),
            steps=steps, batch_size=PAIRS, learning_rate=1e-6, schedule="constant", threads=threads, save_every=10**6,
        )  # fmt: skip


def run_trl(folder: Path, steps: int, threads: int) -> None:
    """Steps of TRL's DPOTrainer."""
    import torch
    from datasets import load_dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(threads)
    with turns():

        class Callback(TrainerCallback):  # type: ignore[misc]
            """Takes a step when it is told to: what lies between two of its calls is timed."""

            began: tuple[float, float]

            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                sys.stdin.readline()
                self.began = time.process_time(), time.perf_counter()

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                self.took = time.process_time() - self.began[0], time.perf_counter() - self.began[1]

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if "loss" in (logs or {}):
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                    told = dict(
                        cpu=self.took[0], wall=self.took[1], loss=float(logs["loss"]),
                        grad_norm=float(logs["grad_norm"]), peak=peak,
                    )  # fmt: skip
                    sys.__stdout__.write(json.dumps(told) + "\n")  # type: ignore[union-attr]
                    sys.__stdout__.flush()  # type: ignore[union-attr]

        config = DPOConfig(
            output_dir=str(folder / "trl"), max_steps=steps, per_device_train_batch_size=PAIRS, learning_rate=1e-6,
            lr_scheduler_type="constant", beta=0.1, max_length=None, logging_steps=1, save_strategy="no",
            report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False, disable_tqdm=True,
            seed=0, model_init_kwargs={"dtype": "float32"},
        )  # fmt: skip
        DPOTrainer(
            model=str(folder / "model"),
            args=config,
            train_dataset=load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train"),
            processing_class=AutoTokenizer.from_pretrained(folder / "model"),
            callbacks=[Callback()],
        ).train()


class Child:
    """One of the two in a process of its own."""

    def __init__(self, kind: str, folder: Path, steps: int, threads: int, environment: dict[str, str]) -> None:
        self.kind, self.log = kind, folder / f"{kind}.log"
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", kind, "--folder", folder, "--steps", str(steps), "--threads",
             str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True,
            env={**os.environ, **environment, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind} ended early:\n{self.log.read_text()[-3000:]}")
        found: dict[str, float] = json.loads(line)
        return found


RUNS = {"trueup": run_trueup, "trl": run_trl, "trueup online": run_trueup_online, "trl online": run_trl_online}


def compare(given: list[dict[str, str]], steps: int, threads: int, tuned: bool, online: bool = False) -> dict[str, Any]:
    """Figures of both; the first step of each is left out of times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        (folder / "reward.py").write_text(JUDGE)
        kept = [{"prompt": one["prompt"]} for one in given] if online else given
        (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
        environment = TUNED if tuned else {}
        kinds = [f"{one} online" if online else one for one in ("trueup", "trl")]
        both = [Child(kind, folder, steps, threads, environment if "trl" in kind else {}) for kind in kinds]
        taken = [[child.step() for child in both] for _ in range(steps)]
        for child in both:
            child.process.communicate()
    for ours, theirs in [] if online else taken:
        assert abs(ours["loss"] / theirs["loss"] - 1) < 1e-5, (ours, theirs)
        assert abs(ours["grad_norm"] / theirs["grad_norm"] - 1) < 1e-4, (ours, theirs)
    timed = taken[1:]
    median = {
        kind: {key: statistics.median(pair[k][key] for pair in timed) for key in ("cpu", "wall")}
        | {"peak": taken[-1][k]["peak"]}
        for k, kind in enumerate(("trueup", "trl"))
    }  # fmt: skip
    ratios = {key: [pair[1][key] / pair[0][key] for pair in timed] for key in ("cpu", "wall")}
    return {
        "threads": threads, "allocator of trl": "tuned" if tuned else "as shipped", **median,
        "ratio": {key: statistics.median(found) for key, found in ratios.items()},
        "range": {key: [min(found), max(found)] for key, found in ratios.items()},
        "memory ratio": median["trl"]["peak"] / median["trueup"]["peak"],
        "largest difference": {
            key: max(abs(a[key] / b[key] - 1) for a, b in taken) for key in ("loss", "grad_norm") if not online
        },
    }  # fmt: skip


def main(
    data: Annotated[list[Path] | None, typer.Option(help="HH rows, gzipped JSON lines.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of each.")] = 6,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps, one thread.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Online DPO: sampled, judged and learned from.")] = False,
    seed: int = 0,
    child: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path, typer.Option(hidden=True)] = Path(),
    threads: Annotated[int, typer.Option(hidden=True)] = 1,
) -> None:
    """Time both."""
    if child:
        return RUNS[child](folder, steps, threads)
    given = rows(data or [], PAIRS, seed)
    lengths = {key: [len(one[key].split()) for one in given] for key in ("prompt", "chosen", "rejected")}
    results = []
    for count, tuned in [(1, False), (1, True)] + ([] if quick else [(2, False), (2, True)]):
        found = compare(given, 3 if quick else steps, count, tuned, online)
        results.append(found)
        print(
            f"{count} threads, allocator {found['allocator of trl']}: trueup {found['trueup']['cpu']:.2f} s, "
            f"trl {found['trl']['cpu']:.2f} s, {found['ratio']['cpu']:.1f} times; "
            f"memory {found['trueup']['peak'] / 2**20:.0f} and {found['trl']['peak'] / 2**20:.0f} MiB",
            flush=True,
        )
    record = {
        "command": "python benchmarks/against_trl.py "
        + " ".join(
            [*(f"--data {path.name}" for path in data or []), *["--online"] * online,
             "--quick" if quick else f"--steps {steps}"]
        ),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(), "processor": processor(), "seed": seed,
        "tokens": {key: sum(found) for key, found in lengths.items()}, "results": results,
        **({"new tokens": NEW_TOKENS} if online else {}),
    }  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(record, indent=1) + "\n")
    one = {found["allocator of trl"]: found for found in results if found["threads"] == 1}
    reached = {
        "shipped": one["as shipped"]["ratio"]["cpu"], "tuned": one["tuned"]["ratio"]["cpu"],
        "memory": one["tuned"]["memory ratio"],
    }  # fmt: skip
    goals = {"shipped": ONLINE_GOAL, "tuned": ONLINE_GOAL} if online else GOALS
    missed = [f"{key} {reached[key]:.1f} of {goal:.0f}" for key, goal in goals.items() if reached[key] < goal]
    print("goals missed: " + "; ".join(missed) if missed else "every goal is reached")
    sys.exit(bool(missed) if quick else 0)


def processor() -> str:
    """Name of the processor, as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    typer.run(main)
