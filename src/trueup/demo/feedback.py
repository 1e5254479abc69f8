"""Feedback for the demo: the start model's own answers, judged by the world's annotator, and an expert's answers."""

from __future__ import annotations

from pathlib import Path

import torch

from trueup.demo.plan import DEMONSTRATIONS, NOISE, PROMPTS, RESPONSES
from trueup.demo.policy import Policy
from trueup.feedback.canonical import write_examples
from trueup.world.generate import examples, prompts


def write_feedback(folder: Path, start: Policy, seed: int = 1) -> dict[str, Path]:
    """Write one canonical JSONL file for each kind of feedback.

    `rankings` scores four answers of the model to each prompt, `points` gives one of them a thumb,
    `demonstrations` are the expert's.
    """
    generator = torch.Generator().manual_seed(seed)
    asked = [prompt for prompt in prompts(PROMPTS, seed) for _ in range(RESPONSES)]
    answers = start.answer(asked, generator)
    written: dict[str, list[str]] = {}
    for prompt, answer in zip(asked, answers, strict=True):
        written.setdefault(prompt, []).append(answer)

    made = {
        "rankings": examples(
            "rankings", count=PROMPTS, seed=seed, responses=RESPONSES, noise=NOISE,
            writer=lambda prompt, k, chance: tuple(chance.sample(written[prompt], k)),
        ),
        "points": examples(
            "points", count=PROMPTS, seed=seed, noise=NOISE,
            writer=lambda prompt, k, chance: tuple(chance.sample(written[prompt], k)),
        ),
        "demonstrations": examples("demonstrations", count=DEMONSTRATIONS, seed=seed + 1),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{kind}.jsonl" for kind in made}
    for kind, content in made.items():
        write_examples(paths[kind], content)
    return paths
