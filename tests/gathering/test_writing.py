"""Samples of several models, kept piece by piece: where it was interrupted cannot be told from what was written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from support.gathering_work import stop_at_check, work_at

from trueup.errors import AnnotatorError, Stopped
from trueup.feedback.records import Prompt
from trueup.gathering import writing
from trueup.gathering.writing import Writer, Written, write_responses
from trueup.sampling.sampler import Sampled, Sampler, SamplingWeights

PROMPTS = [Prompt(f"p{number}") for number in range(10)]


class Dice:
    """Writes numbers that depend on the seed and the whole call, as a sampler may."""

    def __init__(self, name: str, log: list[tuple[str, int]], text: str = "") -> None:
        self.name, self.log, self.text = name, log, text
        self.weights = SamplingWeights(None, keeps=False)

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        self.log.append((self.name, len(prompts)))
        chance = Random(f"{seed} {[prompt.content for prompt in prompts]}")
        made = []
        for prompt in prompts:
            texts = [
                self.text or str(chance.random()) for _ in range(0 if prompt.content == "p3" else responses)
            ]
            made.append(
                tuple(Sampled(text, (1, 2), (0.5, 0.25), text < "0.5", self.name, 0) for text in texts)
            )
        return made


class Models:
    """Two models, of which one is loaded at a time."""

    def __init__(self, text: str = "") -> None:
        self.log: list[tuple[str, int]] = []
        self.loaded = 0
        self.text = text

    def writers(self) -> list[Writer]:
        return [Writer(name, lambda name=name: self._load(name)) for name in "AB"]  # type: ignore[misc]

    @contextmanager
    def _load(self, name: str) -> Iterator[Sampler]:
        assert not self.loaded
        self.loaded += 1
        try:
            yield Dice(name, self.log, self.text)
        finally:
            self.loaded -= 1


@pytest.fixture(autouse=True)
def three_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHUNK", 3)


def written(output: Path, models: Models, seed: int = 0) -> list[Written]:
    with work_at(output) as work:
        return write_responses(PROMPTS, models.writers(), work, responses=2, seed=seed)


def test_every_model_writes_to_every_prompt(tmp_path: Path) -> None:
    models = Models()
    found = written(tmp_path / "a", models)
    assert models.log == [(name, size) for name in "AB" for size in (3, 3, 3, 1)]
    assert [one.name for one in found] == ["A", "B"]
    for one in found:
        assert [len(several) for several in one.responses] == [2, 2, 2, 0, 2, 2, 2, 2, 2, 2]
    texts = [sampled.text for one in found for several in one.responses for sampled in several]
    assert len(set(texts)) == len(texts) == 36  # pieces and models have seeds of their own
    sampled = found[0].responses[0][0]
    assert (sampled.ids, sampled.log_probs, sampled.ended) == ((1, 2), None, sampled.text < "0.5")


def test_a_seed_gives_the_same_and_another_one_others(tmp_path: Path) -> None:
    first = written(tmp_path / "a", Models(), seed=1)
    assert written(tmp_path / "b", Models(), seed=1) == first
    other = written(tmp_path / "c", Models(), seed=2)
    assert not {one.text for several in first[0].responses for one in several} & {
        one.text for several in other[0].responses for one in several
    }


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_wherever_it_is_interrupted(tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path / "a", Models())
    models = Models()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_check(stop_at, patch)
        written(tmp_path / "b", models)
    assert len(models.log) == stop_at - 1 and not models.loaded
    assert written(tmp_path / "b", models) == whole
    assert len(models.log) == 8
    assert {file.name for file in tmp_path.iterdir()} == {"a.part", "b.part"}


def test_nothing_but_empty_responses(tmp_path: Path) -> None:
    with pytest.raises(AnnotatorError) as caught:
        written(tmp_path / "a", Models(text=" \n"))
    assert str(caught.value) == (
        "A: all 6 responses to 3 prompts are empty. Look at --stop and at the chat template, and whether the prompts "
        "are of the form the model was trained on"
    )


def test_the_line_on_what_was_written() -> None:
    def sampled(text: str, ended: bool) -> Sampled:
        return Sampled(text, None, None, ended, "A", 0)

    cut = Written("A", ((sampled("a b c", True), sampled("d", False)), ()))
    assert cut.line == (
        "A: 2 responses to 2 prompts, 2.0 words on average; 1 ran out of tokens (--max-new-tokens) and have no end"
    )
    assert Written("A", ((sampled("a", True),),)).line == "A: 1 response to 1 prompt, 1.0 words on average"
    assert Written("A", ((), ())).line == "A: no responses, as no prompt leaves room for one"
