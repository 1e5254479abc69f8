"""A real server on this machine's processor: `transformers serve` with a real, small model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.real_server import NEEDED, serving
from support.refusals import refused
from support.scripted_model import read_model, sampler_of

from trueup.feedback.records import Prompt
from trueup.sampling.engines import make_sampler
from trueup.sampling.engines.server import ServerSampler
from trueup.settings.gathering_settings import SamplerSettings

MODEL = "models/tinystories-656k-bf16"
PROMPTS = [Prompt("Once upon a time"), Prompt("The dog was"), Prompt("One day, a girl named Lily")]
pytestmark = NEEDED


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of a model and the address of a server that has it."""
    folder = Path(__file__).parents[3] / "shared" / MODEL
    if not folder.exists():
        pytest.skip(f"not here: {folder}")
    with serving(folder, tmp_path_factory.mktemp("served") / "log") as url:
        yield folder, url


def settings_of(served: tuple[Path, str], **changes: object) -> SamplerSettings:
    known = {"engine": "server", "base_url": served[1], "server_model": str(served[0]), "max_new_tokens": 24}
    return SamplerSettings(**{**known, **changes})


@pytest.fixture
def made(served: tuple[Path, str]) -> Callable[..., ServerSampler]:
    def make(**changes: object) -> ServerSampler:
        sampler = make_sampler(settings_of(served, **changes), *read_model(served[0]), name="policy")
        assert isinstance(sampler, ServerSampler)
        return sampler

    return make


def test_greedy_is_that_of_this_process(made: Callable[..., ServerSampler], served: tuple[Path, str]) -> None:
    local = sampler_of(served[0], decode="greedy", responses=1, max_new_tokens=24).sample(PROMPTS, 1, seed=0)
    remote = made(decode="greedy", responses=1).sample(PROMPTS, 1, seed=0)
    assert [one.text for (one,) in remote] == [one.text for (one,) in local]
    assert [one.ended for (one,) in remote] == [one.ended for (one,) in local]


def test_draws_are_those_of_the_seed(made: Callable[..., ServerSampler]) -> None:
    sampler = made(concurrency=4)
    found = sampler.sample(PROMPTS, 3, seed=1)
    assert [len(several) for several in found] == [3, 3, 3]
    assert sampler.sample(PROMPTS, 3, seed=1) == found
    assert sampler.sample(PROMPTS[1:], 3, seed=1) == found[1:]
    assert sampler.sample(PROMPTS, 3, seed=2) != found
    assert all(len({one.text for one in several}) == 3 for several in found)


def test_ids_spell_the_text_and_fit(made: Callable[..., ServerSampler], served: tuple[Path, str]) -> None:
    _, encoder = read_model(served[0])
    found = [one for several in made(max_new_tokens=8).sample(PROMPTS, 3, seed=1) for one in several]
    for one in found:
        assert one.ids is not None and encoder.text(one.ids) == one.text
        assert len(one.ids) <= 9
        assert one.log_probs is None
    assert not all(one.ended for one in found)


def test_a_response_that_ends_is_told_from_one_that_ran_out(made: Callable[..., ServerSampler]) -> None:
    found = [one for several in made(max_new_tokens=300).sample(PROMPTS, 2, seed=1) for one in several]
    assert any(one.ended for one in found)
    assert all(one.ids is None or (one.ids[-1] in made().encoder.end_ids) == one.ended for one in found)  # type: ignore[union-attr]


def test_a_stop_text_ends_a_response(made: Callable[..., ServerSampler]) -> None:
    plain = made(decode="greedy", responses=1).sample(PROMPTS, 1, seed=0)
    cut = made(decode="greedy", responses=1, stop=["little girl"]).sample(PROMPTS, 1, seed=0)
    assert "little girl" in plain[0][0].text
    for (before,), (after,) in zip(plain, cut, strict=True):
        assert after.text == before.text.partition("little girl")[0]
        assert after.ended == ("little girl" in before.text or before.ended)


def test_it_cannot_be_given_new_weights(made: Callable[..., ServerSampler]) -> None:
    sampler = made()
    sampler.weights.refresh(1)
    with refused("is no vLLM server, so it cannot be given new weights while training"):
        sampler.sample(PROMPTS, 1, seed=0)
