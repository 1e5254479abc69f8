"""A round: what is sampled becomes examples, what is alike is one, and what cannot be judged is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from trueup.annotators.annotator import Annotated
from trueup.errors import AnnotatorError
from trueup.feedback.records import Comparison, Discarded, Example, Origin, Prompt, Response
from trueup.sampling.sampler import Sampled, SamplingWeights
from trueup.sources.online import Collector


@dataclass
class Says:
    """A sampler that says what it is told, and notes the seeds it is given."""

    texts: Mapping[str, Sequence[str]]
    seeds: list[int] = field(default_factory=list)
    weights: SamplingWeights = field(default_factory=lambda: SamplingWeights(None, keeps=False))

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        self.seeds.append(seed)
        return [
            tuple(
                Sampled(text, tuple(map(ord, text)), None, not text.endswith("-"), "policy", 7)
                for text in self.texts[str(prompt.content)][:responses]
            )
            for prompt in prompts
        ]


@dataclass
class Lengths:
    """Scores a response by its length, or compares by it; knows nothing of a prompt called `?`."""

    gives: str = "scores"
    name: str = "lengths"
    asked: list[Example] = field(default_factory=list)

    def annotate(self, examples: Sequence[Example]) -> Annotated:
        self.asked += examples
        return Annotated(tuple(map(self._one, examples)), {"verdicts": float(len(examples))})

    def _one(self, example: Example) -> Example | Discarded:
        if example.prompt.content == "?":
            return Discarded("unreadable", example.origin)
        lengths = [len(str(one.content)) for one in example.responses]
        if self.gives == "comparisons":
            best, worst = lengths.index(max(lengths)), lengths.index(min(lengths))
            return replace(example, comparisons=(Comparison(best, worst),) if best != worst else ())
        judged = tuple(replace(one, score=float(size)) for one, size in zip(example.responses, lengths, strict=True))
        return replace(example, responses=judged)


PROMPTS = [Prompt(text, origin=Origin("p.jsonl", row)) for row, text in enumerate(("a", "b", "?"), start=1)]
TEXTS = {"a": ("xx", "y", "xx", "y-"), "b": ("same", "same", "same", "same"), "?": ("1", "22", "333", "1")}


def test_responses_that_are_alike_are_one_response() -> None:
    annotator = Lengths()
    made = Collector(Says(TEXTS), annotator, 4, seed=3).collect(2, PROMPTS)
    first, second = made.examples
    assert [(one.content, one.score, one.source, one.tokens) for one in first.responses] == [
        ("xx", 2.0, "policy@7", (120, 120)), ("y", 1.0, "policy@7", (121,)), ("y-", 2.0, "policy@7", (121, 45)),
    ]  # fmt: skip
    assert [one.content for one in second.responses] == ["same"]
    assert str(first.origin) == "p.jsonl:1"
    assert made.metrics == {
        "online/responses": 12.0, "online/ended": pytest.approx(11 / 12), "online/words": 1.0,
        "online/tokens": 2.5, "online/distinct": pytest.approx(7 / 12), "online/identical": pytest.approx(5 / 12),
        "annotator/verdicts": 3.0, "online/without_judgement": pytest.approx(1 / 3),
        "online/score": pytest.approx(9 / 4),
    }  # fmt: skip


def test_draws_of_an_expectation_are_kept() -> None:
    made = Collector(Says(TEXTS), Lengths(), 4, seed=3, distinct=False).collect(1, PROMPTS)
    assert [one.content for one in made.examples[1].responses] == ["same"] * 4
    assert made.metrics["online/identical"] == 0


def test_a_single_response_is_not_compared() -> None:
    annotator = Lengths(gives="comparisons")
    made = Collector(Says(TEXTS), annotator, 4, seed=3).collect(1, PROMPTS)
    assert [one.prompt.content for one in annotator.asked] == ["a", "?"]
    assert [one.prompt.content for one in made.examples] == ["a"]
    assert made.metrics["online/one_response"] == pytest.approx(1 / 3)
    assert made.metrics["online/without_judgement"] == pytest.approx(2 / 3)
    assert "online/score" not in made.metrics


def test_every_round_has_a_seed_of_its_own() -> None:
    sampler = Says(TEXTS)
    for seed in (3, 4):
        for number in (1, 2):
            Collector(sampler, Lengths(), 2, seed=seed).collect(number, PROMPTS[:1])
    assert len(set(sampler.seeds)) == 4


def test_what_a_data_set_has_is_judged_with_what_is_sampled() -> None:
    """Old judgements go; the same response stays the one that was sampled."""
    also = [
        Example(Prompt("a"), (Response("yyyy", score=-1.0, demonstration=True), Response("xx", label=0.0)),
            (Comparison(0, 1),)),
        Example(Prompt("c"), (Response("not asked", score=5.0),)),
    ]  # fmt: skip
    (made,) = Collector(Says(TEXTS), Lengths(), 2, seed=3).collect(1, PROMPTS[:1], also).examples
    assert [(one.content, one.score, one.demonstration, one.source) for one in made.responses] == [
        ("xx", 2.0, False, "policy@7"), ("y", 1.0, False, "policy@7"), ("yyyy", 4.0, False, None),
    ]  # fmt: skip
    assert not made.comparisons


def test_nothing_but_empty_responses_is_an_error() -> None:
    with pytest.raises(AnnotatorError, match="round 9: all 4 responses to 2 prompts are empty"):
        Collector(Says({"a": ("", " "), "b": ("", "\n")}), Lengths(), 2, seed=3).collect(9, PROMPTS[:2])


def test_prompts_without_room_give_no_example() -> None:
    made = Collector(Says({**TEXTS, "b": ()}), Lengths(), 2, seed=3).collect(1, PROMPTS[:2])
    assert [one.prompt.content for one in made.examples] == ["a"]
    assert made.metrics["online/without_judgement"] == 0.5
