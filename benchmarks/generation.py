"""How much faster are several responses to a prompt when the prompt is computed once and what is done leaves?

Draws 4 responses to each of 64 prompts of one, on one thread, with a small language model of stories, three ways:

    trueup      prompts once, their cache copied for each response, responses that are done leave the batch
    no leaving  the same, but a response that is done is computed to the end
    generate    the model library's `generate` with `num_return_sequences`, prompts padded on the left

The ways are run in turn, round after round, and the median of each is reported, in CPU seconds and in tokens written a
CPU second: they draw with other random numbers and so do not write quite as much.

    python benchmarks/generation.py MODEL --output benchmarks/generation.json
"""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from trueup.batch.encode import Encoder, Limits
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.sampling import decoding
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.settings.gathering_settings import SamplerSettings

RESPONSES = 4
PROMPTS = 64
WHO = ("a little girl named Lily", "a boy called Tim", "an old dog", "a tiny bird")
OPENINGS = (
    "Once upon a time, there was {who}.",
    "One day {who} went to the park with a big red ball. The sun was warm and the sky was blue, and",
    "{who}",
    "There was {who} who loved to play outside. Every morning after breakfast, when the grass was still wet,",
)


def stories() -> list[str]:
    """Openings of three to thirty words, all different."""
    made = [opening.format(who=who) for opening in OPENINGS for who in WHO]
    return [f"{start} {text}" for start in ("", "Listen!", "A story:", "Mom said:") for text in made][:PROMPTS]


def main(
    model: Annotated[str, typer.Argument(help="Folder of a model in Hugging Face format.")],
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds; each runs every way once.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 256,
) -> None:
    """Time the ways."""
    torch.set_num_threads(1)
    loaded = load(model, device=torch.device("cpu"))
    causal = CausalModel(loaded.network)
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(512))
    settings = SamplerSettings(responses=RESPONSES, max_new_tokens=max_new_tokens)
    prompts = [Prompt(text) for text in stories()]
    sampler = InProcessSampler(settings, causal, encoder, name="policy")

    def sampled(seed: int) -> int:
        found = sampler.sample(prompts, RESPONSES, seed=seed)
        return sum(len(one.ids or ()) for several in found for one in several)

    def without_leaving(seed: int) -> int:
        before, decoding.LEAVING = decoding.LEAVING, 0  # type: ignore[misc]
        try:
            return sampled(seed)
        finally:
            decoding.LEAVING = before  # type: ignore[misc]

    def generate(seed: int) -> int:
        torch.manual_seed(seed)
        ids = [encoder.cut_prompt_ids(prompt) for prompt in prompts]
        width = max(map(len, ids))
        padded = torch.tensor([[0] * (width - len(one)) + one for one in ids])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
        with torch.no_grad(), causal.plain() as network:
            found = network.generate(
                padded, attention_mask=mask, do_sample=True, top_k=0, num_return_sequences=RESPONSES,
                max_new_tokens=max_new_tokens, eos_token_id=list(encoder.end_ids), pad_token_id=encoder.end_ids[0],
            )[:, width:]  # fmt: skip
        texts = [encoder.text(row) for row in found.tolist()]
        assert len(texts) == PROMPTS * RESPONSES
        ended = torch.isin(found, torch.tensor(encoder.end_ids))
        return int((ended.cumsum(1) - ended.long() == 0).sum())

    variants: dict[str, Callable[[int], int]] = {
        "trueup": sampled,
        "no leaving": without_leaving,
        "generate": generate,
    }
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    tokens: dict[str, list[int]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, wrote in variants.items():
            began = time.process_time()
            count = wrote(number)
            if number:  # the first warms up
                seconds[variant].append(time.process_time() - began)
                tokens[variant].append(count)
    result = {
        variant: {
            "median_cpu_seconds": round(statistics.median(seconds[variant]), 3),
            "tokens": round(statistics.mean(tokens[variant])),
            "tokens_per_cpu_second": round(sum(tokens[variant]) / sum(seconds[variant])),
        }
        for variant in variants
    }
    for variant, found in result.items():
        print(f"{variant:11}", *(f"{name} {value}" for name, value in found.items()), sep="  ")
    if output is not None:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        record = {
            "command": f"python benchmarks/generation.py {Path(model).name} --rounds {rounds}"
            f" --max-new-tokens {max_new_tokens}",
            "commit": commit, "torch": torch.__version__, "processor": platform.processor() or platform.machine(),
            "threads": 1, "parameters": sum(p.numel() for p in causal.network.parameters()),
            "prompts": PROMPTS, "responses": RESPONSES, "ways": result,
        }  # fmt: skip
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
