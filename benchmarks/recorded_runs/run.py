"""What small runs of every method leave behind, to the bit: weights, metrics and round logs, before and after a change.

    python benchmarks/recorded_runs/run.py record before.json     # on the old code
    python benchmarks/recorded_runs/run.py record after.json      # on the new code, on the same machine
    python benchmarks/recorded_runs/run.py compare before.json after.json

Every run goes through the command line, in a process of its own on one thread: every method; every weight and LoRA;
frozen, cached, adapter-off, soft and hard references; files, online rounds and their replay; killed and resumed.
`record --source FOLDER` records another checkout of trueup. Of each run it keeps the SHA-256 of the final weights, of
each metric's values over all steps but for timings, and of the round logs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMINGS = {"seconds", "tokens_per_second"}
WORDS = ("red", "blue", "green", "seven", "cat", "dog", "tree", "stone")

Settings = Mapping[str, Any]

SOFT = {"reference.kind": "trust-region", "reference.alpha": 0.6, "reference.every": 2}
HARD = {"reference.kind": "trust-region", "reference.alpha": 1.0, "reference.every": 4}
CACHED, FROZEN = {"reference.kind": "cached"}, {"reference.kind": "frozen"}
LORA = {"lora.rank": 3, "lora.dropout": 0.1}
HELD_OUT = {"eval_fraction": 0.2, "eval_every": 4}
SCALE = {"scale": "range", "score_low": 0.0, "score_high": 1.0}

OFFLINE: dict[str, tuple[str, str, Settings]] = {
    "sft": ("sft", "demonstrations", HELD_OUT),
    "sft-chat-lora": ("sft", "chats", {**LORA, "turns": "all"}),
    "fa": ("fa", "rankings", {}),
    "rwr": ("rwr", "points", HELD_OUT),
    "ca-lora": ("ca", "points", LORA),
    "rrhf": ("rrhf", "rankings", {}),
    "rrhf-padded": ("rrhf", "rankings", {"normalize": "padded"}),
    "dpo-frozen": ("dpo", "pairs", {**FROZEN, **HELD_OUT}),
    "dpo-cached": ("dpo", "pairs", CACHED),
    "dpo-adapter-off": ("dpo", "chat-pairs", {**LORA, "reference.kind": "adapter-off"}),
    "dpo-small-micro-batches": ("dpo", "pairs", {"micro_batch_tokens": 64}),
    "robust-dpo": ("robust-dpo", "pairs", {}),
    "ipo-cached-lora": ("ipo", "pairs", {**CACHED, **LORA}),
    "slic-soft": ("slic", "pairs", SOFT),
    "slic-hf": ("slic-hf", "pairs", {}),
    "tr-dpo-soft-lora": ("tr-dpo", "pairs", {**SOFT, **LORA}),
    "tr-dpo-hard": ("tr-dpo", "pairs", HARD),
    "tr-ipo-hard": ("tr-ipo", "pairs", HARD),
    "kto": ("kto", "points", HELD_OUT),
    "tr-kto-soft": ("tr-kto", "points", SOFT),
    "paired-kto-hard-lora": ("paired-kto", "pairs", {**HARD, **LORA}),
    "pointwise-dpo": ("pointwise-dpo", "points", {}),
    "ulma": ("ulma", "mixed", HELD_OUT),
    "ulma-group-means-soft": ("ulma", "mixed", {"group_means": True, **SOFT}),
    "unlikelihood": ("unlikelihood", "points", {}),
    "reward-model": ("reward-model", "pairs", HELD_OUT),
    "reward-model-lora": ("reward-model", "pairs", LORA),
}
"""By name: the method, the kind of feedback, settings."""

ONLINE: dict[str, tuple[str, Settings]] = {
    "online-dpo": ("oaif", {"objective": "dpo"}),
    "online-ipo-hard": ("oaif", {"objective": "ipo", **HARD}),
    "online-slic-lora": ("oaif", {"objective": "slic", "beta": 0.5, **LORA}),
    "online-rrhf-resync": ("rrhf", {"sampler.resync": 3, "reward_kl": 0.1}),
    "online-rrhf-diverse": (
        "rrhf",
        {"round_prompts": 0, "round_passes": 2, "sampler.decode": "diverse-beam"},
    ),
    "online-rrhf-beam": ("rrhf", {"sampler.decode": "beam"}),
    "online-kto": ("kto", {"desirable_from": 0.5}),
    "online-ulma-soft": ("ulma", {**SCALE, "demonstration_from": 0.9, **SOFT}),
    "online-fa": ("fa", {"reward_mean": 0.5, "reward_std": 0.2}),
    "online-ppo": ("ppo", {"round_prompts": 8, "round_passes": 2, "kl_target": 1.0, "sampler.responses": 1}),
    "online-ppo-lora-soft": ("ppo", {"sampler.responses": 2, **LORA, **SOFT}),
    "online-reinforce": ("reinforce", {"sampler.responses": 1}),
    "online-rloo": ("rloo", {"missing_end_penalty": 0.1}),
}
KILLED = ("dpo-cached", "tr-dpo-hard", "tr-kto-soft", "paired-kto-hard-lora", "online-ppo", "online-ipo-hard")
"""Runs that are made a second time, killed after their first checkpoint, and resumed."""
REPLAYED = ("online-dpo", "online-rrhf-resync", "online-ppo-lora-soft")
"""Online runs whose log is trained on a second time."""

REWARD = '''
def variety(prompt, response):
    """Different letters in the response, as a share of ten; between 0 and 1."""
    return min(1.0, len(set(response)) / 10)
'''
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{% if message.role == 'assistant' %}{% generation %}"
    "{{ message.content }}</s>{% endgeneration %}{% else %}{{ message.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="What small runs leave behind, to the bit.")
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run them all and write a record")
    record.add_argument("output", type=Path)
    record.add_argument("--source", type=Path, help="folder of another checkout, whose code is run")
    record.add_argument("--only", nargs="+", help="names of runs")
    compare = commands.add_parser("compare", help="say what differs between two records; exits with 1 if anything does")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        lines = differences(*(json.loads(path.read_text()) for path in (given.before, given.after)))
        print("\n".join(lines) or "the same bits")
        sys.exit(bool(lines))
    if given.source:
        sys.path.insert(0, str(given.source / "src"))
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRUEUP_CACHE"] = str(Path(folder, "cache"))
        os.chdir(folder)  # settings name files, and a record must not depend on where they lie
        output = given.output if given.output.is_absolute() else Path(os.environ["PWD"], given.output)
        output.write_text(json.dumps(record_all(given.only), indent=1) + "\n")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for every run that is in one record only, or of which something differs."""
    lines = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            lines.append(f"{name}: only {'after' if one is None else 'before'}")
            continue
        for part in ("weights", "rounds"):
            if one[part] != other[part]:
                lines.append(f"{name}: {part} differ")
        metrics = one["metrics"].keys() | other["metrics"].keys()
        moved = sorted(key for key in metrics if one["metrics"].get(key) != other["metrics"].get(key))
        if moved:
            lines.append(f"{name}: metrics differ: {', '.join(moved)}")
    return lines


def record_all(only: list[str] | None) -> dict[str, Any]:
    """Make every run, or those named, and what each left behind."""
    import torch
    import transformers  # noqa: F401  # before the runs are forked, so that each need not import them

    torch.set_num_threads(1)
    write_model(Path("model"))
    write_data(Path())
    made: dict[str, Any] = {}

    def keep(name: str, folder: Path) -> None:
        made[name] = left_behind(folder)
        print(name, made[name]["weights"][:16], flush=True)

    def wanted(name: str) -> bool:
        return not only or name in only

    for name in filter(wanted, (*OFFLINE, *ONLINE)):
        run(name, Path(name))
        keep(name, Path(name))
    for name in KILLED:
        if wanted(f"{name}-killed"):
            run(name, Path(f"{name}-killed"), kill=True)
            keep(f"{name}-killed", Path(f"{name}-killed"))
    for name in REPLAYED:
        if wanted(f"{name}-replayed"):
            if not Path(name).exists():
                run(name, Path(name))
            run(name, Path(f"{name}-replayed"), log=Path(name))
            keep(f"{name}-replayed", Path(f"{name}-replayed"))
    return made


def run(name: str, output: Path, *, kill: bool = False, log: Path | None = None) -> None:
    """Make one run by the command line.

    Args:
        kill: end the process once it has written its first checkpoint, and resume.
        log: folder of the online run whose rounds are trained on again.
    """
    settings: dict[str, Any] = {
        "model": "model", "output": output, "batch_size": 4, "epochs": 2, "learning_rate": 3e-3, "save_every": 2,
        "seed": 1, "device": "cpu",
    }  # fmt: skip
    if name in OFFLINE:
        method, kind, more = OFFLINE[name]
        settings |= {"data": f"{kind}.jsonl", **more}
    else:
        method, more = ONLINE[name]
        gathering = {
            "source": "online", "prompts": "prompts.jsonl", "annotator": "reward.py:variety", "sampler.responses": 3,
            "sampler.max_new_tokens": 6,
        }  # fmt: skip
        settings |= {**gathering, **more}
        if log is not None:
            gathered = {"annotator", "prompts", "reward_kl"}
            settings = {key: value for key, value in settings.items() if key not in gathered}
            settings |= {"source": "replay", "data": log / "examples.jsonl"}
    settings["output"] = settings.pop("output")  # the last: it names the file of what the run says
    arguments = [f"--{key}={_text(value)}" for key, value in settings.items()]
    process = _process("train", method, *arguments, kill=kill)
    if kill:
        process.join()
        process = _process("train", method, f"--resume={output}")
    process.join()
    if process.exitcode:
        print(Path(f"{output}.txt").read_text(), file=sys.stderr)
        sys.exit(f"{name}: the run failed with {process.exitcode}")


def _process(*arguments: str, kill: bool = False) -> multiprocessing.process.BaseProcess:
    """The command line in a process of its own.

    Args:
        kill: it gets SIGKILL once its first checkpoint has its name.
    """
    rename = os.rename

    def rename_and_die(old: Path, new: Path) -> None:
        rename(old, new)
        if Path(new).name.startswith("step-"):
            os.kill(os.getpid(), signal.SIGKILL)

    def body() -> None:
        import torch

        from trueup.cli.app import run as command

        torch.set_num_threads(1)
        if kill:
            os.rename = rename_and_die  # type: ignore[assignment]
        with open(f"{arguments[-1].rpartition('=')[2]}.txt", "a") as said:
            sys.stderr = said
            code = command(arguments)
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    return process


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def left_behind(folder: Path) -> dict[str, Any]:
    """Hashes of what a finished run left in its folder."""
    import torch
    from safetensors.torch import load_file

    weights = hashlib.sha256()
    for file in sorted((folder / "model").glob("*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    values: dict[str, list[Any]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key in row.keys() - TIMINGS:
            values.setdefault(key, []).append([row.get("step"), row[key]])
    return {
        "weights": weights.hexdigest(),
        "metrics": {key: _hash(json.dumps(series).encode()) for key, series in sorted(values.items())},
        "rounds": {
            name: _hash((folder / name).read_bytes())
            for name in ("examples.jsonl", "rounds.jsonl")
            if (folder / name).exists()
        },
    }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_model(folder: Path) -> None:
    """A Llama of two layers, 32 wide, with random weights, and a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<user>", "<assistant>"]
    characters = [chr(code) for code in range(32, 127)]
    backend = Tokenizer(
        models.BPE({token: number for number, token in enumerate([*special, *characters])}, [], unk_token="<unk>")
    )
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=TEMPLATE,
    )  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(special) + len(characters), hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_data(folder: Path) -> None:
    """Feedback of every kind on 24 prompts, prompts alone, and a reward function."""
    chance = random.Random(0)
    rows: dict[str, list[dict[str, Any]]] = {}
    for number in range(24):
        word, other = chance.sample(WORDS, 2)
        prompt = f"say {word} {number}:"
        good, bad, worse = f" {word}", f" {other}", f" {other} {other}"
        liked = number % 2 == 0
        chat = [{"role": "user", "content": f"say {other}"}, {"role": "assistant", "content": other}]
        chat.append({"role": "user", "content": f"say {word}"})
        mixed: dict[str, Any] = {"content": good, "demonstration": True} if liked else {"content": bad, "label": 0.0}
        for kind, row in {
            "pairs": {"prompt": prompt, "chosen": good, "rejected": bad},
            "rankings": {"prompt": prompt, "responses": [bad, good, worse], "scores": [0.5, 1.0, 0.0]},
            "demonstrations": {"prompt": prompt, "completion": good},
            "points": {"prompt": prompt, "completion": good if liked else bad, "label": liked},
            "mixed": {"prompt": prompt, "responses": [mixed]},
            "chats": {"messages": [*chat, {"role": "assistant", "content": word}]},
            "chat-pairs": {
                "prompt": chat,
                "chosen": [{"role": "assistant", "content": word}],
                "rejected": [{"role": "assistant", "content": other}],
            },
        }.items():
            rows.setdefault(kind, []).append(row)
    rows["prompts"] = [{"prompt": f"say {chance.choice(WORDS)} {number}:"} for number in range(12)]
    for kind, content in rows.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (folder / "reward.py").write_text(REWARD)


if __name__ == "__main__":
    main()
