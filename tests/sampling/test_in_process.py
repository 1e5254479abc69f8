"""Responses are those of the model library where nothing is random, and of the right distribution where it is."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toys import CONFIGS, EOS, PAD, VOCABULARY, toy_network

from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.in_process import Drawn, Sampling, draw

GREEDY = Sampling(max_new_tokens=12, temperature=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prompts(*lengths: int) -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(EOS + 1, VOCABULARY, (length,)).tolist() for length in lengths]


def drawn(model: Any, given: list[list[int]], sampling: Sampling = GREEDY, **more: Any) -> list[Drawn]:
    keywords = {"end_ids": [EOS], "generator": generator(), **more}
    if not isinstance(model, CausalModel):
        return draw(model, given, sampling=sampling, **keywords)
    with model.plain() as network:
        return draw(network, given, sampling=sampling, **keywords)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_the_model_library_token_for_token(name: str) -> None:
    """Prompts of different lengths together, against each alone: padding on the left must not be seen."""
    model, given = CausalModel(toy_network(name)), prompts(1, 9, 4, 6)
    expected = []
    with model.plain() as network:
        for prompt in given:
            ids = network.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=PAD,
            )[0, len(prompt) :].tolist()  # fmt: skip
            expected.append(Drawn(tuple(ids[: ids.index(EOS)] if EOS in ids else ids), EOS in ids))
    assert drawn(model, given) == expected
    assert len({one.ids for one in expected}) == len(given)


def test_any_of_several_tokens_ends_a_response() -> None:
    model, given = CausalModel(toy_network()), prompts(1, 9, 4, 6)
    whole = drawn(model, given)
    stop = whole[1].ids[3]
    cut = drawn(model, given, end_ids=[EOS, stop])
    for before, after in zip(whole, cut, strict=True):
        ends = stop in before.ids
        assert after.ids == (before.ids[: before.ids.index(stop)] if ends else before.ids)
        assert after.ended is (ends or before.ended)
    assert cut[1].ended


def test_batches_are_computed_together_and_come_in_order() -> None:
    model, given = CausalModel(toy_network()), prompts(3, 5, 2, 7, 4)
    assert drawn(model, given, batch_size=2) == drawn(model, given)
    assert drawn(model, []) == []


def test_the_same_seed_draws_the_same() -> None:
    model, given = CausalModel(toy_network()), prompts(3, 5, 2)
    sampling = Sampling(max_new_tokens=8)
    first = drawn(model, given, sampling, generator=generator(3))
    torch.manual_seed(99)
    assert drawn(model, given, sampling, generator=generator(3)) == first
    assert drawn(model, given, sampling, generator=generator(4)) != first


@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_torch_s_random_state_and_the_model_as_they_were(training: bool) -> None:
    model, given = CausalModel(toy_network().train(training)), prompts(3, 5)
    before, attention = torch.get_rng_state(), model.inner.config._attn_implementation
    drawn(model, given, Sampling(max_new_tokens=3))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.network.training is training
    assert model.inner.config._attn_implementation == attention


def test_an_adapter_s_dropout_is_off() -> None:
    network = lora.add_lora(
        toy_network(), rank=3, alpha=60.0, dropout=0.5, targets="all-linear", base="toy"
    ).train()
    for name, factor in lora.factors(network, lora.POLICY).items():
        if name.endswith(".B"):
            torch.nn.init.normal_(factor, std=0.3)
    model, given = CausalModel(network), prompts(3, 5, 2)
    first = drawn(model, given)
    assert all(drawn(model, given) == first for _ in range(3))
    network.eval()
    assert drawn(model, given) == first


class Scripted(torch.nn.Module):
    """A model whose next token has a given distribution, whatever came before."""

    def __init__(self, logits: Callable[[int, int], torch.Tensor]) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.logits, self.step = logits, 0

    def forward(self, *, input_ids: torch.Tensor, **_: Any) -> Any:
        rows = torch.stack([self.logits(self.step, row) for row in range(len(input_ids))])
        self.step += 1
        return SimpleNamespace(logits=rows[:, None], past_key_values=None)


def script(*rows: list[int]) -> Scripted:
    """Row by row, the tokens that come for certain."""
    return Scripted(lambda step, row: 50.0 * torch.eye(8)[rows[row][min(step, len(rows[row]) - 1)]])


def test_who_ended_and_who_ran_out_of_room() -> None:
    """EOS at once, after two tokens, with the last token allowed, and one token too late."""
    model = script([EOS, 5], [3, 4, EOS, 5], [3, 4, 5, EOS], [3, 4, 5, 6, EOS])
    found = drawn(model, [[1]] * 4, Sampling(max_new_tokens=4, temperature=0.0))
    assert found == [
        Drawn((), True), Drawn((3, 4), True), Drawn((3, 4, 5), True), Drawn((3, 4, 5, 6), False),
    ]  # fmt: skip


def test_nothing_is_computed_after_the_last_end() -> None:
    model = script([EOS], [3, EOS])
    drawn(model, [[1]] * 2, Sampling(max_new_tokens=100, temperature=0.0))
    assert model.step == 2


P = (0.5, 0.25, 0.125, 0.125)
COUNT = 4000


def frequencies(sampling: Sampling) -> list[float]:
    """Of the four tokens, over 4000 first tokens."""
    model = Scripted(lambda step, row: torch.tensor(P).log())
    found = drawn(model, [[1]] * COUNT, sampling, end_ids=[], batch_size=COUNT)
    tokens = [one.ids[0] for one in found]
    return [tokens.count(token) / COUNT for token in range(4)]


@pytest.mark.parametrize(
    "temperature, top_p, expected",
    [
        (1.0, 1.0, P),
        (0.5, 1.0, (8 / 11, 2 / 11, 0.5 / 11, 0.5 / 11)),  # squared, and divided by their sum
        (2.0, 1.0, tuple(math.sqrt(p) / (math.sqrt(0.5) + 0.5 + 2 * math.sqrt(0.125)) for p in P)),
        (1.0, 0.7, (2 / 3, 1 / 3, 0, 0)),
        (1.0, 0.75, (2 / 3, 1 / 3, 0, 0)),
        (1.0, 0.5, (1, 0, 0, 0)),
        (1.0, 0.01, (1, 0, 0, 0)),  # the most likely one is always left
        (0.5, 0.8, (0.8, 0.2, 0, 0)),  # after the temperature
    ],
)
def test_frequencies(temperature: float, top_p: float, expected: tuple[float, ...]) -> None:
    """Four standard errors; what top_p leaves out is never drawn."""
    found = frequencies(Sampling(1, temperature, top_p))
    for got, wanted in zip(found, expected, strict=True):
        assert abs(got - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / COUNT)


def test_of_equals_top_p_leaves_one() -> None:
    """0.8 is reached by three of the four tokens, and which of the two equals is third does not vary."""
    found = frequencies(Sampling(1, 1.0, 0.8))
    assert sorted(found).index(0.0) == 0
    assert sum(value > 0 for value in found) == 3
