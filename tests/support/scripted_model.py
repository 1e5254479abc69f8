"""What samplers are tested on: a model whose next token is given, and what the model library writes itself."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from support.tiny_models import EOS, PAD, VOCABULARY
from trueup.batch.encode import Encoder, Limits
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Completion
from trueup.settings.gathering_settings import SamplerSettings

LIMITS = Limits(512)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_prompts(*lengths: int, seed: int = 1) -> list[list[int]]:
    """Token ids of a toy model."""
    return [
        torch.randint(EOS + 1, VOCABULARY, (length,), generator=generator(seed + at)).tolist()
        for at, length in enumerate(lengths)
    ]


class Rows:
    """Stands for a cache: it knows which prompt each row of the batch is of."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def reorder_cache(self, places: torch.Tensor) -> None:
        self.rows = [self.rows[place] for place in places.tolist()]


class Scripted(torch.nn.Module):
    """A model whose next token has a given distribution: `logits(step, row)`, row by row of the prompts. `sizes` are
    the rows of each pass."""

    def __init__(self, logits: Callable[[int, int], torch.Tensor]) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.logits = logits
        self.sizes: list[int] = []

    def forward(self, *, input_ids: torch.Tensor, past_key_values: Rows | None = None, **_: Any) -> Any:
        if past_key_values is None:
            past_key_values, self.sizes = Rows(list(range(len(input_ids)))), []
        logits = torch.stack([self.logits(len(self.sizes), row) for row in past_key_values.rows])
        self.sizes.append(len(input_ids))
        return SimpleNamespace(logits=logits[:, None], past_key_values=past_key_values)


def script(*rows: list[int], size: int = 8) -> Scripted:
    """Row by row, the tokens that come for certain."""
    return Scripted(lambda step, row: 50.0 * torch.eye(size)[rows[row][min(step, len(rows[row]) - 1)]])


def library(
    model: CausalModel, prompts: Sequence[Sequence[int]], *, end_ids: Sequence[int] = (EOS,), **settings: Any
) -> list[list[Completion]]:
    """What `generate` writes to each prompt by itself, so that nothing is padded."""
    found = []
    with model.plain() as network:
        for prompt in prompts:
            ids = torch.tensor([list(prompt)])
            made = network.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=list(end_ids),
                pad_token_id=PAD, **settings,
            )[:, len(prompt) :]  # fmt: skip
            found.append([_until_end(row, end_ids) for row in made.tolist()])
    return found


def _until_end(ids: list[int], end_ids: Sequence[int]) -> Completion:
    ends = [at for at, token in enumerate(ids) if token in end_ids]
    return Completion(tuple(ids[: ends[0] + 1] if ends else ids), bool(ends))


def read_model(folder: Any, *, limits: Limits = LIMITS) -> tuple[CausalModel, Encoder]:
    """A model of a folder, and its encoder."""
    loaded = load(str(folder), device=torch.device("cpu"))
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits, condition=loaded.condition)
    return CausalModel(loaded.network), encoder


def sampler_of(folder: Any, *, limits: Limits = LIMITS, **settings: Any) -> InProcessSampler:
    """A sampler of a model in a folder, named `policy`."""
    model, encoder = read_model(folder, limits=limits)
    return InProcessSampler(SamplerSettings(**settings), model, encoder, name="policy")


def with_dropout(network: Any) -> Any:
    """A model in training, with an adapter that has much dropout and is far from doing nothing."""
    adapted = lora.add_lora(network, rank=3, alpha=60.0, dropout=0.5, targets="all-linear", base="toy")
    for name, factor in lora.factors(adapted, lora.POLICY).items():
        if name.endswith(".B"):
            torch.nn.init.normal_(factor, std=0.3)
    return adapted.train()
