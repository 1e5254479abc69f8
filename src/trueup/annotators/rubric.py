"""Scores added up by weights: of a rubric, each criterion of which is asked by itself, or of several annotators.
As in HealthBench (Arora et al., 2025, https://arxiv.org/abs/2505.08775) and rubrics as rewards (Gunjal et al., 2025,
https://arxiv.org/abs/2507.17746). Criteria are those of the data set, and those that a prompt has of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from typing import ClassVar

from trueup import errors, files
from trueup.annotators import annotator, comparing, jury
from trueup.feedback.records import Discarded, Example, scores_of
from trueup.settings import annotator_settings

NO_CRITERION = "no criterion to score it by"
Criteria = tuple[tuple[str, float], ...]  # what a response has to be, and its weight; below 0 for what it must not be


@dataclass(frozen=True, slots=True)
class RubricScores:
    """Scores each response by sum_i w_i p_i / sum_i |w_i|, p_i being how likely the judges find it to meet i.
    From 0 to 1 where no weight is below 0. An example of which a rating cannot be read is left out.
    Its totals: its judges', `scores`, and, of each criterion of the data set, `met: CRITERION`, the sum of p_i."""

    judges: jury.Jury
    criteria: Criteria
    gives: ClassVar[str] = "scores"

    @property
    def name(self) -> str:
        return f"rubric of {', '.join(one.name for one in self.judges.judges)}"

    def annotate(self, examples: Sequence[Example]) -> annotator.Annotated:
        rubrics = [(*self.criteria, *one.prompt.rubric) for one in examples]
        sentences = [[annotator_settings.CRITERIA.get(text, text) for text, _ in own] for own in rubrics]
        rated, totals = self.judges.rate(examples, sentences)
        made: list[Example | Discarded] = []
        counts = dict.fromkeys((f"met: {text}" for text, _ in self.criteria), 0.0)
        for example, rubric, rows in zip(examples, rubrics, rated, strict=True):
            known = [[one for one in row if one is not None] for row in rows]
            if not rubric or (any(map(len, rows)) and known != rows):
                made.append(Discarded(comparing.UNREAD if rubric else NO_CRITERION, example.origin))
                continue
            weights = [weight for _, weight in rubric]
            most = sum(map(abs, weights))
            columns = ([row[place] for row in known] for place in range(len(example.responses)))
            sums = [sum(map(mul, weights, column)) / most for column in columns]
            made.append(annotator.with_scores(example, sums, self.name))
            for (text, _), row in zip(self.criteria, known, strict=False):
                counts[f"met: {text}"] += sum(row)
        scores = sum(len(one.responses) for one in made if isinstance(one, Example))
        return annotator.Annotated(tuple(made), {**totals, **counts, "scores": float(scores)})


def load_rubric(
    choice: annotator_settings.RubricAnnotator, *, make: jury.Make, usage_file: Path | None = None
) -> RubricScores:
    given = [*choice.criteria, *(lines_of(choice.file) if choice.file else ())]
    criteria = tuple(map(annotator_settings.criterion_of, given))
    return RubricScores(jury.Jury(jury.judges_of(choice, make, usage_file)), criteria)


def lines_of(file: str) -> list[str]:
    try:
        text = files.no_device(file).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        raise errors.InputError(f"annotator.file {file}: cannot be read as text in UTF-8") from None
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise errors.InputError(f"annotator.file {file}: it is empty; give a criterion a line, as in It is short.=2")
    return found


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """Scores each response by sum_i w_i s_i, s_i being what annotator i gives it.
    An example that one of them cannot score is left out. Its totals: those of all together, `scores`, and of each
    `score of NAME`, the sum of s_i."""

    scorers: tuple[jury.Judge, ...]
    weights: tuple[float, ...]
    gives: ClassVar[str] = "scores"

    @property
    def name(self) -> str:
        return f"weighted sum of {', '.join(one.name for one in self.scorers)}"

    def annotate(self, examples: Sequence[Example]) -> annotator.Annotated:
        heard = [one.annotator.annotate(examples) for one in self.scorers]
        made: list[Example | Discarded] = []
        given = dict.fromkeys((f"{annotator.SCORE_OF}{one.name}" for one in self.scorers), 0.0)
        for several in zip(*(one.examples for one in heard), strict=True):
            known = [one for one in several if isinstance(one, Example)]
            if len(known) < len(several):
                made.append(next(one for one in several if isinstance(one, Discarded)))
                continue
            rows = [scores_of([one]) for one in known]
            sums = [math.fsum(map(mul, self.weights, scores)) for scores in zip(*rows, strict=True)]
            made.append(annotator.with_scores(known[0], sums, self.name))
            for name, row in zip(given, rows, strict=True):
                given[name] += math.fsum(row)
        scores = {"scores": float(len(scores_of(one for one in made if isinstance(one, Example))))}
        return annotator.Annotated(tuple(made), annotator.summed(of.totals for of in heard) | given | scores)


def load_weighted(choice: annotator_settings.WeightedAnnotator, *, make: jury.Make) -> WeightedScores:
    return WeightedScores(jury.judges_of(choice, make, None), choice.weights or (1.0,) * len(choice.of))
