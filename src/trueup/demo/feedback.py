"""Feedback for the demo: the start model's own answers, judged by the world's annotator, and an expert's answers."""

from __future__ import annotations

from pathlib import Path

import torch

from trueup.demo.plan import DEMONSTRATIONS, NOISE, PROMPTS, RESPONSES
from trueup.demo.policy import MAX_NEW_TOKENS, Policy
from trueup.feedback.canonical import write_examples
from trueup.world.generate import examples, prompts
from trueup.world.measure import written_by


def write_feedback(folder: Path, start: Policy, seed: int = 1) -> dict[str, Path]:
    """Write one canonical JSONL file for each kind of feedback.

    `rankings` scores four answers of the model to each prompt, `points` gives each of four a thumb,
    `demonstrations` are the expert's.
    """
    with start.model.plain() as network:
        writer = written_by(
            network,
            start.loaded.tokenizer,
            prompts(PROMPTS, seed),
            RESPONSES,
            max_new_tokens=MAX_NEW_TOKENS,
            generator=torch.Generator().manual_seed(seed),
        )
    made = {
        "rankings": examples(
            "rankings", count=PROMPTS, seed=seed, responses=RESPONSES, noise=NOISE, writer=writer
        ),
        "points": examples(
            "points", count=PROMPTS, seed=seed, responses=RESPONSES, noise=NOISE, writer=writer
        ),
        "demonstrations": examples("demonstrations", count=DEMONSTRATIONS, seed=seed + 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{kind}.jsonl" for kind in made}
    for kind, content in made.items():
        write_examples(paths[kind], content)
    return paths
