"""Small online runs for tests: prompts, a reward of one's own that counts how often it is asked, and settings."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from support.small_runs import WORDS

REWARD = '''
from pathlib import Path

ASKED = Path(__file__).with_name("asked.txt")


def variety(prompt, response):
    """Different letters in the response, as a share of ten; between 0 and 1."""
    with ASKED.open("a") as file:
        file.write(repr((prompt, response)) + "\\n")
    return min(1.0, len(set(response)) / 10)
'''


def write_prompts(folder: Path, count: int = 12) -> Path:
    """A file of prompts."""
    chance = random.Random(5)
    rows = [{"prompt": f"say {chance.choice(WORDS)} {number}:"} for number in range(count)]
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_reward(folder: Path) -> str:
    """An annotator: a function that notes down what it is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "reward.py"
    file.write_text(REWARD)
    return f"{file}:variety"


def reward_calls(folder: Path) -> Counter[str]:
    """What the reward in a folder was asked, and how often."""
    file = folder / "asked.txt"
    return Counter(file.read_text().splitlines()) if file.exists() else Counter()


def online(model: Path, folder: Path, output: Path, **more: Any) -> dict[str, Any]:
    """Settings of an online run of 6 steps that takes a second."""
    prompts = folder / "prompts.jsonl"
    return {
        "model": str(model), "source": "online", "output": str(output), "batch_size": 4, "epochs": 2,
        "prompts": [str(prompts if prompts.exists() else write_prompts(folder))],
        "annotator.kind": "function", "annotator.function": f"{folder / 'reward.py'}:variety",
        "sampler.responses": 3, "sampler.max_new_tokens": 6, "learning_rate": 3e-3, "save_every": 2, "seed": 1, **more,
    }  # fmt: skip


def replay(model: Path, log: Path, output: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Settings that train on the log of a run with these settings."""
    gathering = ("prompts", "annotator", "source", "output", "reward_kl")
    kept = {name: value for name, value in values.items() if name.partition(".")[0] not in gathering}
    return {**kept, "source": "replay", "data": [str(log / "examples.jsonl")], "output": str(output)}
