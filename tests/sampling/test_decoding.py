"""Responses of a model as token ids: those of the model library where nothing is drawn, else of the right distribution.
A token is where a uniform number falls in the distribution function; a response is that of its own numbers alone."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given as examples
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.scripted_model import Scripted, generator, library, random_prompts, script
from support.tiny_models import CONFIGS, EOS, naive_log_probs, token_group, toy_network
from support.waits import Waits

from trueup.errors import InputError
from trueup.models import captured
from trueup.models.causal import CausalModel
from trueup.sampling.decoding import Decoder, draw, generate, next_tokens
from trueup.sampling.sampler import Completion, StopTexts
from trueup.settings.gathering_settings import SamplerSettings

FIVE = torch.tensor([0.125, 0.5, 0.0, 0.25, 0.125])


def token(uniform: float, sampling: SamplerSettings, probabilities: torch.Tensor = FIVE) -> int:
    found, _ = next_tokens(probabilities.log()[None], sampling, torch.tensor([uniform], dtype=torch.float64))
    return int(found)


BELOW_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    "uniform, expected",
    [(0.0, 0), (0.1249, 0), (0.1251, 1), (0.6249, 1), (0.6251, 3), (0.8749, 3), (0.8751, 4), (BELOW_ONE, 4)],
)
def test_inverse_of_the_distribution_function(uniform: float, expected: int) -> None:
    assert token(uniform, SamplerSettings()) == expected


@pytest.mark.parametrize(
    "uniform, probabilities, top_p, expected",
    [
        (0.0, [0.0, 1.0], 1.0, 1),
        (0.5, [0.5, 0.0, 0.5], 1.0, 2),
        (BELOW_ONE, [0.5, 0.5, 0.0], 1.0, 1),
        (BELOW_ONE, [0.7, 0.3], 0.7, 0),  # 0.7 in float32 is a little less than 0.7
    ],
)
def test_the_borders(uniform: float, probabilities: list[float], top_p: float, expected: int) -> None:
    """A number on a border belongs to what comes after it, and never to a token of no probability."""
    assert token(uniform, SamplerSettings(top_p=top_p), torch.tensor(probabilities)) == expected


@pytest.mark.parametrize(
    "sampling, uniform, expected",
    [
        (SamplerSettings(top_k=2), 0.66, 1),  # 0.5 and 0.25, in this order
        (SamplerSettings(top_k=2), 0.67, 3),
        (SamplerSettings(top_k=2), BELOW_ONE, 3),
        (SamplerSettings(top_k=3), BELOW_ONE, 0),  # of the two of 0.125, the first in the vocabulary
        (SamplerSettings(top_k=2, top_p=0.66), BELOW_ONE, 1),  # of what top-k leaves, 0.5 is two thirds
        (SamplerSettings(top_k=2, top_p=0.67), BELOW_ONE, 3),
        (SamplerSettings(top_p=0.76), BELOW_ONE, 0),
        (SamplerSettings(top_p=0.75), BELOW_ONE, 3),
        (SamplerSettings(top_p=1e-9), BELOW_ONE, 1),
        (SamplerSettings(temperature=0.5, top_p=0.72), BELOW_ONE, 1),  # squared it has 0.727
        (SamplerSettings(temperature=0.5, top_p=0.74), BELOW_ONE, 3),
    ],
)
def test_what_is_cut_off(sampling: SamplerSettings, uniform: float, expected: int) -> None:
    assert token(uniform, sampling) == expected


def test_the_log_probability_is_the_models_own() -> None:
    """Before the temperature, top-k and top-p."""
    for sampling in (SamplerSettings(), SamplerSettings(temperature=0.5, top_k=2, top_p=0.9)):
        chosen, log_prob = next_tokens(FIVE.log()[None], sampling, torch.tensor([0.3], dtype=torch.float64))
        assert log_prob.exp().item() == pytest.approx(FIVE[chosen].item())


@hypothesis_settings(max_examples=60)
@examples(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.01, 1),
    st.integers(0, 50),
)
def test_a_token_is_never_one_that_is_cut_off(logits: list[float], uniform: float, top_p: float, top_k: int) -> None:
    """Also where the number is as near to 1 as can be, or the probabilities span 26 orders of magnitude."""
    row = torch.tensor([logits])
    sampling = SamplerSettings(top_p=top_p, top_k=top_k)
    found, log_prob = next_tokens(row, sampling, torch.tensor([uniform], dtype=torch.float64))
    assert 0 <= int(found) < len(logits)
    assert torch.allclose(log_prob, row.log_softmax(-1)[0, found], atol=1e-5)
    probability = row.softmax(-1)[0]  # logits that differ may be as likely in float32
    larger = probability[probability > probability[found]]
    assert len(larger) < (top_k or len(logits))
    assert float(larger.sum()) <= top_p + 1e-5


def test_greedy_takes_the_first_of_equals_and_no_number() -> None:
    found, log_prob = next_tokens(
        torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, 0.0]]), SamplerSettings(decode="greedy", responses=1), None
    )
    assert found.tolist() == [1, 0]
    assert torch.allclose(log_prob.exp(), torch.tensor([0.4683, 0.5761]), atol=1e-4)


def test_rows_are_independent() -> None:
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for sampling in (SamplerSettings(), SamplerSettings(top_p=0.8), SamplerSettings(top_k=5, temperature=0.7)):
        whole, _ = next_tokens(logits, sampling, uniform)
        alone = [int(next_tokens(logits[at : at + 1], sampling, uniform[at : at + 1])[0]) for at in range(7)]
        assert whole.tolist() == alone


def greedy(max_new_tokens: int = 12) -> SamplerSettings:
    return SamplerSettings(max_new_tokens=max_new_tokens, decode="greedy", responses=1)


GREEDY = greedy()


def sampled(model: Any, given: list[list[int]], sampling: SamplerSettings = GREEDY, **more: Any) -> list[Completion]:
    keywords = {"generator": generator(), **more}
    about = {"end_ids": [EOS]} | {name: keywords.pop(name) for name in ("end_ids", "batch_size") if name in keywords}
    if not isinstance(model, CausalModel):
        return draw(Decoder(model, **about), given, settings=sampling, **keywords)
    with model.plain() as network:
        return draw(Decoder(network, **about), given, settings=sampling, **keywords)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_the_model_library_token_for_token(name: str) -> None:
    """Prompts of different lengths together, against each alone: padding on the left must not be seen."""
    model, given = CausalModel(toy_network(name)), random_prompts(1, 9, 4, 6)
    expected = [one for (one,) in library(model, given, max_new_tokens=12)]
    assert sampled(model, given) == expected
    assert len({one.ids for one in expected}) == len(given)


def test_any_of_several_tokens_ends_a_response() -> None:
    model, given = CausalModel(toy_network()), random_prompts(1, 9, 4, 6)
    whole = sampled(model, given)
    stop = whole[1].ids[3]
    cut = sampled(model, given, end_ids=[EOS, stop])
    for before, after in zip(whole, cut, strict=True):
        ends = stop in before.ids
        assert after.ids == (before.ids[: before.ids.index(stop)] if ends else before.ids)
        assert after.ended is (ends or before.ended)
    assert cut[1].ended


@pytest.mark.parametrize("drawing", [False, True])
def test_batches_come_in_order_and_do_not_change_what_is_drawn(drawing: bool) -> None:
    model, given = CausalModel(toy_network()), random_prompts(3, 5, 2, 7, 4)
    sampling = SamplerSettings(max_new_tokens=12) if drawing else greedy()
    whole = sampled(model, given, sampling, end_ids=[EOS, 9, 17])
    for batch_size in (1, 2, 3):
        assert sampled(model, given, sampling, end_ids=[EOS, 9, 17], batch_size=batch_size) == whole
    assert sampled(model, []) == []


def test_a_place_has_its_own_numbers_whatever_stands_beside_it() -> None:
    """The same prompts, asked with other words before some of them, get the same numbers."""
    model, given = CausalModel(toy_network()), random_prompts(3, 5, 2, 7)
    sampling = SamplerSettings(max_new_tokens=12)
    first = sampled(model, given, sampling)
    torch.manual_seed(99)
    assert sampled(model, given, sampling) == first != sampled(model, given, sampling, generator=generator(4))
    other = sampled(model, [given[0], [5, 6, *given[1]], given[2]], sampling)
    assert [other[0], other[2]] == [first[0], first[2]]
    assert other[1] != first[1]
    assert len({one.ids for one in sampled(model, [given[0]] * 4, sampling)}) == 4


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text"])
def test_log_probs_are_those_of_the_model_itself(name: str) -> None:
    """Whatever the temperature, top-p and top-k; the token that ends a response has one too."""
    model, given = CausalModel(toy_network(name)), random_prompts(3, 5, 2, 7)
    sampling = SamplerSettings(max_new_tokens=12, temperature=1.7, top_p=0.9, top_k=20)
    found = sampled(model, given, sampling, end_ids=[EOS, 9, 17, 33, 40])
    assert {one.ended for one in found} == {True, False}
    groups = [token_group(ids, [one.written]) for ids, one in zip(given, found, strict=True)]
    expected = naive_log_probs(model.inner, groups)
    got = torch.tensor([value for one in found for value in one.log_probs])
    assert torch.allclose(got, expected, atol=1e-5)
    assert all(len(one.log_probs) == len(one.ids) + one.ended for one in found)


def test_who_ended_and_who_ran_out_of_room() -> None:
    """EOS at once, after two tokens, with the last token allowed, and one token too late."""
    model = script([EOS, 5], [3, 4, EOS, 5], [3, 4, 5, EOS], [3, 4, 5, 6, EOS])
    found = sampled(model, [[1]] * 4, greedy(4))
    assert found == [
        Completion((EOS,), True), Completion((3, 4, EOS), True), Completion((3, 4, 5, EOS), True),
        Completion((3, 4, 5, 6), False),
    ]  # fmt: skip


def test_nothing_is_computed_after_the_last_end() -> None:
    model = script([EOS], [3, EOS])
    sampled(model, [[1]] * 2, greedy(100))
    assert model.sizes == [2, 1]  # nor of a response that is done


P = (0.5, 0.25, 0.125, 0.125)
COUNT = 4000


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, P),
        ({"temperature": 2.0}, tuple(math.sqrt(p) / (math.sqrt(0.5) + 0.5 + 2 * math.sqrt(0.125)) for p in P)),
        ({"top_p": 0.7}, (2 / 3, 1 / 3, 0, 0)),
        ({"top_p": 0.01}, (1, 0, 0, 0)),  # the most likely one is always left
        ({"temperature": 0.5, "top_p": 0.8}, (0.8, 0.2, 0, 0)),  # after the temperature
        ({"top_k": 2, "top_p": 0.6}, (1, 0, 0, 0)),  # top-p is of what top-k left
        ({"top_k": 9}, P),
    ],
)
def test_frequencies(changes: dict[str, float], expected: tuple[float, ...]) -> None:
    """Of the four tokens, over 4000 first ones: four standard errors; what is left out is never drawn."""
    model = Scripted(lambda step, row: torch.tensor(P).log())
    sampling = SamplerSettings(max_new_tokens=1, **changes)  # type: ignore[arg-type]
    found = [one.ids[0] for one in sampled(model, [[1]] * COUNT, sampling, end_ids=[], batch_size=COUNT)]
    for token, wanted in enumerate(expected):
        share = found.count(token) / COUNT
        assert abs(share - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / COUNT)


def test_a_model_without_a_cache_that_can_be_copied_is_refused() -> None:
    model = script([3])
    model.forward = lambda **given: SimpleNamespace(logits=torch.zeros(1, 1, 8), past_key_values=None)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"a Scripted, keeps no cache .* --sampler.engine server"):
        sampled(model, [[1]])


def test_done_responses_leave_the_batch_when_it_pays() -> None:
    """One in eight is enough, one in nine is not."""
    for count, sizes in ((8, [8, 7, 7]), (9, [9, 9, 9])):
        model = script([EOS], *[[3]] * (count - 1))
        assert [one.ids for one in sampled(model, [[1]] * count, greedy(3))] == [(), *[(3, 3, 3)] * (count - 1)]
        assert model.sizes == sizes


ENDS = [EOS, 9, 17, 33, 40]  # of 64 tokens, so that most responses end and leave
COPIES = 3
DRAWN, GREEDY = SamplerSettings(), SamplerSettings(decode="greedy", responses=1)


KEYS = [[b"%d/%d" % (place, copy) for copy in range(9)] for place in range(4)]


@pytest.mark.parametrize("name", CONFIGS)
def test_copies_are_what_each_would_be_alone(name: str) -> None:
    model, given, rooms = CausalModel(toy_network(name)), random_prompts(1, 9, 4, 6), [12, 5, 12, 1]

    def written(places: slice, keys: list[list[bytes]]) -> list[list[Completion]]:
        decoder = Decoder(network, ENDS)
        return generate(decoder, given[places], len(keys[0]), settings=DRAWN, rooms=rooms[places], keys=keys)

    with model.plain() as network, torch.no_grad():
        found = written(slice(4), [keys[:COPIES] for keys in KEYS])
        alone = [
            [written(slice(place, place + 1), [[key]])[0][0] for key in KEYS[place][:COPIES]] for place in range(4)
        ]
    assert found == alone
    assert {one.ended for several in found for one in several} == {True, False}
    assert len({one.written for one in found[0]}) == COPIES
    got = [value for several in found for one in several for value in one.log_probs]
    expected = [value for several in alone for one in several for value in one.log_probs]
    assert got == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("prompts", "copies", "batch_size", "sizes"),
    [
        (2, COPIES, 6, [2, 6]),
        (1, 9, 4, [1, 9]),  # copies are computed together even if they do not fit into a batch
    ],
)
def test_a_prompt_is_computed_once(prompts: int, copies: int, batch_size: int, sizes: list[int]) -> None:
    model = script([3], [4])
    decoder = Decoder(model, [EOS], batch_size=batch_size)
    generate(decoder, [[1]] * prompts, copies, settings=DRAWN, rooms=[2] * prompts, keys=KEYS)
    assert model.sizes == sizes


def test_a_stop_text_ends_a_response_and_it_is_not_the_model_that_did() -> None:
    stops = StopTexts(["4"], lambda ids: "".join(map(str, ids)))
    model = script([3, 4, 5], [3, 5, EOS], [5, 5, 5])
    decoder = Decoder(model, [EOS])
    found = generate(decoder, [[1]] * 3, 1, settings=GREEDY, rooms=[3] * 3, keys=[], stops=stops)
    assert [several[0] for several in found] == [
        Completion((3, 4), False), Completion((3, 5, EOS), True), Completion((5, 5, 5), False),
    ]  # fmt: skip


def recorded(monkeypatch: pytest.MonkeyPatch, record: Callable[[captured.Work], captured.Work]) -> set[type]:
    """Steps are recorded on a CPU, too, by this; networks whose steps could not be."""
    refused = set[type]()
    for name, value in {"RECORDERS": {"cpu": record}, "REFUSED": refused, "WORTH": 1}.items():
        monkeypatch.setattr(captured, name, value)
    return refused


@pytest.mark.parametrize("name", CONFIGS)
def test_replayed_steps_write_what_others_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In buffers of one size, while responses end and leave; nothing of it waits for the device."""
    model, given, waits, made = CausalModel(toy_network(name)), random_prompts(1, 9, 4, 6), Waits(), list[int]()

    def record(work: captured.Work) -> captured.Work:
        def replay() -> None:
            with waits:
                work()

        made.append(1)
        return replay

    def written() -> list[list[Completion]]:
        with model.plain() as network, torch.no_grad():
            decoder, keys = Decoder(network, ENDS), [keys[:COPIES] for keys in KEYS]
            return generate(decoder, given, COPIES, settings=DRAWN, rooms=[20] * 4, keys=keys)

    expected = written()
    refused = recorded(monkeypatch, record)
    found = written()
    assert found == expected
    got, wanted = ([value for own in both for one in own for value in one.log_probs] for both in (found, expected))
    assert got == pytest.approx(wanted, abs=1e-4)
    windows = {"mistral", "gemma2", "gemma3_text", "phi3", "qwen3_next"}  # or a state: of which no token is cached
    assert (len(made) > 1) is (name not in windows)  # anew when responses have left
    assert not refused and not waits.found


def test_steps_whose_recording_says_something_else_are_not_replayed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, given = CausalModel(toy_network()), random_prompts(3, 5)
    expected = sampled(model, given)
    refused = recorded(monkeypatch, lambda work: lambda: None)
    assert [sampled(model, given) for _ in range(2)] == [expected] * 2
    assert [one.__name__ for one in refused] == ["LlamaForCausalLM"]
    assert caplog.text.count("steps of this LlamaForCausalLM are not replayed (logits are off by") == 1
