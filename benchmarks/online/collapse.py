"""Over-optimisation that can be read: online DPO of a story model on a reward that counts words.

    python benchmarks/online/collapse.py --model FOLDER_OF_stories260K

The reward is the number of times "the" stands among the first words of a story's continuation. Without a brake the
policy collapses to that word; what a larger beta and a trust region do to it is the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import trueup
from trueup.batch.encode import Encoder, Limits
from trueup.evaluate.likelihoods import log_probs, sequence_kl
from trueup.feedback.records import Example, Prompt, Response
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load
from trueup.references.choices import Frozen, TrustRegion
from trueup.sampling.decoding import Decoder, draw
from trueup.settings.gathering_settings import SamplerSettings

REWARD = '''
def count(prompt, response):
    """How often the word "the" stands in the response."""
    return float(response.lower().split().count("the"))
'''
OPENINGS = [
    f"{opening} {name}" for opening in ("Once upon a time,", "One day,", "There was a", "In the morning,")
    for name in ("a little girl", "a big dog", "Tom and his mom", "the bird", "Lily", "a small boy", "Max", "Ben")
]  # fmt: skip
STEPS, BATCH, TOKENS = 40, 16, 48


def measured(folder: str, start: Loaded) -> dict[str, Any]:
    """Reward, variety and KL of what a model says, and a sample."""
    loaded = load(folder, device=torch.device("cpu"))
    model, first = CausalModel(loaded.network), CausalModel(start.network)
    prompts = [loaded.tokenizer(one).input_ids for one in OPENINGS]
    with model.plain() as network:
        samples = draw(
            Decoder(network, loaded.end_ids), prompts, settings=SamplerSettings(max_new_tokens=TOKENS),
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
    texts = [str(loaded.tokenizer.decode(one.ids, skip_special_tokens=True)) for one in samples]
    words = [word for text in texts for word in text.lower().split()]
    said = [
        Example(Prompt(prompt), (Response(text, tokens=one.written),))
        for prompt, text, one in zip(OPENINGS, texts, samples, strict=True)
    ]
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(512))
    ours, theirs = (log_probs(one, encoder, said) for one in (model, first))
    return {
        "reward": fmean(text.lower().split().count("the") for text in texts),
        "different_words": len(set(words)) / max(1, len(words)),
        "kl": sequence_kl(ours, theirs).value,
        "sample": OPENINGS[0] + " | " + texts[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("collapse.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = load(given.model, device=torch.device("cpu"))
    rows: dict[str, Any] = {"start": measured(given.model, start)}
    runs = {
        "beta 0.1, learning rate 1e-3": (0.1, Frozen()),
        "beta 0.01": (0.01, Frozen()),
        "beta 0.1": (0.1, Frozen()),
        "beta 0.5": (0.5, Frozen()),
        "beta 2": (2.0, Frozen()),
        "beta 0.5, soft 0.3 every 8": (0.5, TrustRegion(alpha=0.3, every=8)),
        "beta 0.5, hard every 10": (0.5, TrustRegion(alpha=1.0, every=10)),
        "beta 2, hard every 10": (2.0, TrustRegion(alpha=1.0, every=10)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "reward.py").write_text(REWARD)
        (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in OPENINGS))
        for name, (beta, reference) in runs.items():
            result = trueup.train(
                trueup.methods.oaif(beta=beta, reference=reference), model=given.model, output=folder / name,
                source="online", prompts=str(folder / "prompts.jsonl"), annotator=f"{folder / 'reward.py'}:count",
                sampler={"responses": 4, "temperature": 1.0, "max_new_tokens": TOKENS}, batch_size=BATCH, steps=STEPS,
                learning_rate=1e-3 if name.endswith("1e-3") else 3e-4, seed=0, quiet=True,
            )  # fmt: skip
            rows[name] = measured(str(result.model), start)
            print(name, {key: value for key, value in rows[name].items()}, flush=True)
    given.output.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
