"""transformers' continuous batching as a sampler."""

import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.scripted_model import read_model, sampler_of

from trueup.batch.encode import Limits
from trueup.errors import InputError, Stopped
from trueup.feedback.prompts import Prompt
from trueup.sampling.continuous import ContinuousSampler
from trueup.settings.sampler_settings import SamplerSettings

TEXTS = (
    "Once upon a time",
    "Tom and Lily went to the park. They",
    "The cat",
    "One day a little boy named Tim",
)
PROMPTS = tuple(map(Prompt, TEXTS))


def continuous(folder: Path, *, limits: Limits = Limits(512), **settings: Any) -> ContinuousSampler:  # noqa: B008
    model, encoder = read_model(folder, limits=limits)
    return ContinuousSampler(model, encoder, SamplerSettings(engine="continuous", **settings), name="policy")


@pytest.mark.parametrize("name", ["tinystories-656k-bf16", "stories260K"])
def test_greedy_is_that_of_this_process(shared: Callable[[str], Path], name: str) -> None:
    folder = shared(f"models/{name}")
    given = dict(decode="greedy", responses=1, max_new_tokens=40)
    found = continuous(folder, **given).sample(PROMPTS, 2, seed=0)
    expected = sampler_of(folder, **given).sample(PROMPTS, 2, seed=0)
    for several, wanted in zip(found, expected, strict=True):
        assert several[0] == several[1]
        one, other = several[0], wanted[0]
        assert (one.text, one.ids, one.ended) == (other.text, other.ids, other.ended)
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_draws_are_reproducible_and_leave_torch_alone(shared: Callable[[str], Path]) -> None:
    sampler = continuous(shared("models/tinystories-656k-bf16"), max_new_tokens=12)
    before = torch.get_rng_state()
    found = sampler.sample(PROMPTS, 3, seed=2**64 + 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert sampler.sample(PROMPTS, 3, seed=2**64 + 5) == found
    assert sampler.sample(PROMPTS, 3, seed=6) != found
    assert len({one.ids for several in found for one in several}) == 12
    assert sampler.model.inner.config._attn_implementation == "trueup_grouped"
    assert all(one.log_probs for several in found for one in several)


def test_log_probs_are_left_out_where_they_would_not_be_the_model_s(tiny_model: Path) -> None:
    for given in ({"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 5}):
        found = continuous(tiny_model, max_new_tokens=4, **given).sample(PROMPTS, 2, seed=1)
        assert all(one.log_probs is None and one.ids for several in found for one in several)


def test_rooms_stops_and_prompts_without_room(shared: Callable[[str], Path]) -> None:
    folder, given = shared("models/tinystories-656k-bf16"), dict(decode="greedy", responses=1, stop=(" was",))
    for limits in (Limits(14), Limits(60)):
        found = continuous(folder, limits=limits, **given).sample(PROMPTS, 1, seed=0)
        expected = sampler_of(folder, limits=limits, **given).sample(PROMPTS, 1, seed=0)
        assert [[(a.text, a.ids, a.ended) for a in several] for several in found] == [
            [(a.text, a.ids, a.ended) for a in several] for several in expected
        ]
    assert any(several and several[0].ids is None for several in found)
    assert continuous(folder, limits=Limits(3), **given).sample(PROMPTS, 1, seed=0) == [()] * 4


def test_memory_stays_small(tiny_model: Path) -> None:
    sampler = continuous(tiny_model, max_new_tokens=4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sampler.sample(PROMPTS, 2, seed=0)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    )  # KiB; it would take gigabytes


def test_a_failure_of_the_library_is_one_line(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sampler = continuous(tiny_model, max_new_tokens=4)
    capfd.readouterr()
    sampler.model.inner.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(
        InputError, match=r"cannot compute this model: division by zero. Leave sampler.engine out"
    ):
        sampler.sample(PROMPTS, 1, seed=0)
    assert capfd.readouterr() == ("", "")
    assert sampler.model.inner.config._attn_implementation == "trueup_grouped"


def test_it_can_be_stopped(tiny_model: Path) -> None:
    """At once, and without a thread that goes on."""
    sampler = continuous(tiny_model, max_new_tokens=300)

    def poll() -> None:
        raise Stopped

    sampler.poll = poll
    with pytest.raises(Stopped):
        sampler.sample(PROMPTS * 20, 2, seed=0)
    assert not [one for one in threading.enumerate() if "generation_loop" in one.name]
