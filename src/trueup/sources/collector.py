"""One round of online feedback: responses sampled, made distinct, judged, and counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from trueup.annotators.annotator import Annotator
from trueup.errors import AnnotatorError
from trueup.feedback.records import Example, Prompt, Response, content_key
from trueup.sampling.sampler import Sampled, Sampler

Penalise = Callable[[Sequence[Example]], tuple[Sequence[Example], Mapping[str, float]]]
"""Examples with scores -> the same with something taken off them, and what is to be reported of it."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of a round."""

    examples: tuple[Example, ...]
    facts: Mapping[str, float]
    """`online/...` and `annotator/...`, for the metrics."""


@dataclass(frozen=True)
class Collector:
    """Samples responses and has them judged.

    Args:
        responses: to each prompt.
        seed: of the run; a round's own seed is made of it and the round.
        distinct: leave out responses that are the same to the letter; False where each is a draw of an expectation.
        penalise: what is done to the scores, such as a KL penalty.
    """

    sampler: Sampler
    annotator: Annotator
    responses: int
    seed: int
    distinct: bool = True
    penalise: Penalise | None = None

    def collect(self, number: int, prompts: Sequence[Prompt], also: Sequence[Example] = ()) -> Collected:
        """The examples of a round.

        Args:
            number: of the round.
            also: feedback a data set has on these very prompts; its responses join those sampled, and are judged
                with them.

        Raises:
            AnnotatorError: every response is empty; or as sampler and annotator raise it.
        """
        sampled = self.sampler.sample(prompts, self.responses, seed=self.seed * 1_000_003 + number)
        flat = [one for several in sampled for one in several]
        if flat and not any(one.text.strip() for one in flat):
            raise AnnotatorError(
                f"round {number}: all {len(flat)} responses to {len(prompts)} prompts are empty. Look at them with "
                "`trueup sample`, and at sampler.stop and the chat template"
            )
        facts = _of_samples(flat)
        examples, left_out = self._examples(prompts, sampled, also)
        facts["online/identical"] = left_out / max(len(flat), 1)
        alone = [one for one in examples if len(one.responses) < 2] if self._compares else []
        asked = [one for one in examples if len(one.responses) > 1] if self._compares else examples
        judged = self.annotator.annotate(asked)
        facts |= {f"annotator/{name}": float(value) for name, value in judged.facts.items()}
        made: Sequence[Example] = judged.kept
        facts["online/without_judgement"] = (len(prompts) - len(made)) / max(len(prompts), 1)
        if alone:
            facts["online/one_response"] = len(alone) / len(prompts)
        scores = [one.score for example in made for one in example.responses if one.score is not None]
        if scores:
            facts["online/score"] = fmean(scores)
        if self.penalise is not None and made:
            made, more = self.penalise(made)
            facts |= more
        return Collected(tuple(made), facts)

    @property
    def _compares(self) -> bool:
        return self.annotator.gives == "comparisons"

    def _examples(
        self, prompts: Sequence[Prompt], sampled: Sequence[Sequence[Sampled]], also: Sequence[Example]
    ) -> tuple[list[Example], int]:
        """An example of each prompt that got a response, and how many responses another one repeats."""
        known: dict[object, list[Response]] = {}
        for example in also:
            bare = [replace(one, score=None, label=None, demonstration=False) for one in example.responses]
            known.setdefault(example.prompt.key, []).extend(bare)
        examples, left_out = [], 0
        for prompt, several in zip(prompts, sampled, strict=True):
            written = [
                Response(one.text, source=f"{one.source}@{one.version}", tokens=one.ids) for one in several
            ]
            written += known.get(prompt.key, [])
            if self.distinct:
                once = {
                    content_key(one.content): one for one in reversed(written)
                }  # of equals the first stays
                kept = [one for one in written if once[content_key(one.content)] is one]
                left_out += len(written) - len(kept)
                written = kept
            if written:
                examples.append(Example(prompt, tuple(written)))
        return examples, left_out


def _of_samples(flat: Sequence[Sampled]) -> dict[str, float]:
    if not flat:
        return {"online/responses": 0.0}
    known = [len(one.ids) for one in flat if one.ids is not None]
    facts = {"online/responses": float(len(flat)), "online/ended": fmean(one.ended for one in flat)}
    facts["online/words"] = fmean(len(one.text.split()) for one in flat)
    if known:
        facts["online/tokens"] = fmean(known)
    return facts
