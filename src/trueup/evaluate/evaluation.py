"""`trueup evaluate`: models asked the same prompts, and what is measured of their responses side by side.

All is kept under a hash of what it depends on: the model's files, the prompts, the responses, the judge. Each of E
entrants has R responses to each of P prompts: [E][P] examples of R responses.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from trueup import __version__, errors, estimates, files, words
from trueup.annotators import annotator, calibration, comparing, jury, template
from trueup.config import run_checks
from trueup.evaluate import entrants, likelihoods, measures, side_by_side
from trueup.feedback import canonical, records
from trueup.gathering import judging, resumable
from trueup.settings import annotator_settings, gathering_settings
from trueup.sources.by_name import examples_named

Examples = Sequence[records.Example]
Answer = records.Example | records.Discarded
Settings = gathering_settings.EvaluateSettings
AnnotatorChoice = annotator_settings.AnnotatorChoice
Array = side_by_side.Array
Row = side_by_side.Row
Pair = side_by_side.Pair
RESULTS, RESPONSES, UNDECIDED = "evaluation.json", "responses.jsonl", "undecided.jsonl"
OWN_SAMPLES = {"decode": "sample", "temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": ()}
NOT_ITS_OWN = "it takes what the policy draws by itself: temperature 1, top-p 1, top-k 0 and no stop text"


class Judged:
    """A judge or a scorer; what it says is kept under a hash of itself and of what it is asked about."""

    def __init__(self, setting: str, choice: AnnotatorChoice, settings: Settings, work: resumable.Work) -> None:
        self.setting, self.work = setting, work
        self.totals: dict[str, float] = {}
        self.load = cache(judging.annotator_loader(entrants.sampling_of(settings), choice))
        every = resumable.deciding(settings)
        own = {name: value for name, value in every.items() if name.startswith(f"{setting}.")}
        self._digest = resumable.digest([own, resumable.files_of(choice), settings.seed])

    def annotate(self, examples: Examples, label: str) -> tuple[Answer, ...]:
        name = f"{self.setting} {self._digest} {resumable.digest_of_examples(examples)}"
        made = judging.judged_in_parts(examples, self.load, self.work, name, label)
        self.totals = annotator.summed((self.totals, made.totals))
        return made.examples

    def rate(self, examples: Examples, criterion: str, label: str) -> Array:
        """[P] how likely it finds that the responses to each prompt meet a criterion; NaN where that is not known."""
        text = annotator_settings.CRITERIA.get(criterion, criterion)

        def rated(judge: annotator.Annotator, _: str, chunk: Examples) -> dict[str, Any]:
            if not isinstance(judge, comparing.ComparingAnnotator | jury.Jury):
                raise errors.InputError(f"rate: judge {judge.name} compares responses and rates none")
            rows, totals = judge.rate(chunk, [[text]] * len(chunk))
            return {"rows": [row for (row,) in rows], "totals": dict(totals)}

        def load() -> Any:
            return nullcontext(self.load(self.work.day))

        name = f"rate {self._digest} {resumable.digest(criterion)} {resumable.digest_of_examples(examples)}"
        parts = self.work.in_parts(name, label, examples, likelihoods.CHUNK, load, rated)
        self.totals = annotator.summed((self.totals, *(part["totals"] for part in parts)))
        rows = np.array([row for part in parts for row in part["rows"]], np.float64)
        rated_P: Array = rows.mean(1)
        return rated_P


@dataclass
class Evaluation:
    settings: Settings
    work: resumable.Work
    everyone: Sequence[entrants.Entrant]
    answers: Sequence[Examples]
    """[E][P]."""
    pairs: Sequence[Pair]
    score_EPR: Array | None = None
    firsts: dict[Pair, Array] = field(default_factory=dict)
    undecided: list[records.Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = [one.name for one in self.everyone]
        read, seed = template.answered, self.settings.seed
        self.texts = [[[read(said.content) for said in one.responses] for one in own] for own in self.answers]
        self.models: list[Row] = [
            {"name": one.name, "step": one.step, **measures.text_measures(texts, seed=seed)}
            for one, texts in zip(self.everyone, self.texts, strict=True)
        ]
        self.results: Row = {"version": __version__, "prompts": len(self.answers[0])}
        self.results |= {"models": self.models, "cost": {}}

    def add_likelihoods(self, references: Sequence[entrants.Entrant | None], held_out: Examples) -> None:
        """Divergence from the reference, and what the implicit reward against it says of held-out feedback."""
        sampler = self.settings.sampler
        own_samples = all(getattr(sampler, name) == value for name, value in OWN_SAMPLES.items())
        for row, one, own, other in zip(self.models, self.everyone, self.answers, references, strict=True):
            if other is None:
                continue
            read = [*(own if own_samples else ()), *bare(held_out)]
            with_them = self.settings, self.work
            ours, theirs = (likelihoods.log_probs_of(who, read, *with_them) for who in (one, other))
            size = len(read) - len(held_out)
            kl = likelihoods.sequence_kl(ours[:size], theirs[:size]) if own_samples else NOT_ITS_OWN
            row |= {"reference": other.name, "kl": {"refused": kl} if isinstance(kl, str) else kl}
            if held_out:
                rewards = likelihoods.log_ratios(ours[size:], theirs[size:])
                beta = getattr(one.run.method_settings, "beta", 1.0) if one.run else 1.0
                row["implicit_reward"] = likelihoods.by_file(held_out, rewards, beta)

    def add_perplexity(self, model: entrants.Entrant) -> None:
        for row, own in zip(self.models, self.answers, strict=True):
            read = likelihoods.log_probs_of(model, bare(own), self.settings, self.work)
            row["perplexity"] = likelihoods.perplexity(read)

    def add_rewards(self, reward: Judged, held_out: Examples) -> None:
        none, scored = [np.nan] * self.settings.sampler.responses, []
        for name, own in zip(self.names, self.answers, strict=True):
            scored.append([_scores(one) or none for one in reward.annotate(bare(own), f"scoring {name}")])
        self.score_EPR = np.array(scored)
        score_EP = self.score_EPR.mean(2)
        for row, score_P in zip(self.models, score_EP, strict=True):
            row["reward"] = _mean(score_P)
        seed = self.settings.seed
        self.results["rewarded"] = side_by_side.higher(self.names, score_EP, self.pairs, seed=seed)
        if held_out:
            scores = list(map(_scores, reward.annotate(bare(held_out), "scoring held-out feedback")))
            self.results["reward_on_held_out"] = likelihoods.by_file(held_out, scores)
        self.results["cost"]["reward"] = reward.totals

    def add_judgements(self, judge: Judged) -> None:
        """Ratings of each response, and what the judge says of every two that stand in the same place."""
        for row, own in zip(self.models, self.answers, strict=True):
            for name in self.settings.rate:
                rated_P = judge.rate(bare(own), name, f"rating {row['name']} by {name}")
                row.setdefault("ratings", {})[name] = _mean(rated_P)
        undecided: dict[Pair, int] = {}
        for pair in self.pairs:
            one, other = (self.answers[number] for number in pair)
            posed = [
                records.Example(mine.prompt, (records.Response(a.content), records.Response(b.content)))
                for mine, theirs in zip(one, other, strict=True)
                for a, b in zip(mine.responses, theirs.responses, strict=True)
            ]
            judged = judge.annotate(posed, "judging {} and {}".format(*(self.names[at] for at in pair)))
            self.firsts[pair] = np.array([_first(said) for said in judged], np.float64)
            reasons = [said.reason if isinstance(said, records.Discarded) else "" for said in judged]
            left = [one for one, why in zip(posed, reasons, strict=True) if why == comparing.UNDECIDED]
            undecided[pair] = len(left)
            self.undecided += left
        if self.firsts and all(np.isnan(first_M).all() for first_M in self.firsts.values()):
            none = "no comparison could be read, or judges agree on none. Look at what it answers"
            raise errors.AnnotatorError(f"judge: {none}; pairs that judges differ on are in {UNDECIDED}, for people")
        style = [[measures.style(text) for row in texts for text in row] for texts in self.texts]
        size, seed = self.settings.sampler.responses, self.settings.seed
        self.results |= side_by_side.judged(self.names, self.firsts, np.array(style), size, seed=seed)
        if isinstance(self.settings.judge, annotator_settings.JuryAnnotator):
            for row, number in zip(self.results["judged"], undecided.values(), strict=True):
                row["unreadable"] -= number
                row["undecided"] = number
        self.results["cost"]["judge"] = judge.totals
        self.results |= {"jury": found} if (found := jury.quality(judge.totals)) else {}

    def merged(self) -> Iterator[records.Example]:
        size = self.settings.sampler.responses
        for at, example in enumerate(self.answers[0]):
            responses, comparisons = [], []
            for number, name in enumerate(self.names):
                for place, one in enumerate(self.answers[number][at].responses):
                    score = np.nan if self.score_EPR is None else float(self.score_EPR[number, at, place])
                    known = None if np.isnan(score) else score
                    said = records.Response(one.content, score=known, source=name, tokens=one.tokens)
                    responses.append(said)
            for (one_of, other_of), first_M in self.firsts.items():
                for place, first in enumerate(first_M[at * size : (at + 1) * size].tolist()):
                    order = (one_of * size + place, other_of * size + place)
                    if first > 0.5 or first < 0.5:
                        sides = order if first > 0.5 else order[::-1]
                        comparisons.append(records.Comparison(*sides, max(first, 1 - first)))
            yield records.Example(example.prompt, tuple(responses), tuple(comparisons))


def bare(examples: Examples) -> list[records.Example]:
    """Prompts and texts alone, so that nothing depends on who wrote them and what was said of them."""
    texts = (tuple(records.Response(said.content) for said in one.responses) for one in examples)
    return [replace(one, responses=own, comparisons=()) for one, own in zip(examples, texts, strict=True)]


def _scores(judged: Answer) -> list[float] | None:
    return None if isinstance(judged, records.Discarded) else records.scores_of([judged])


def _mean(value_P: Array) -> estimates.Mean | None:
    known = value_P[~np.isnan(value_P)].tolist()
    return estimates.mean(known) if known else None


def _first(said: Answer) -> float | None:
    """How likely the first of two responses is the better one; a tie where they are the same to the letter."""
    if isinstance(said, records.Discarded):
        return 0.5 if said.reason in (comparing.TIE, comparing.IDENTICAL) else None
    (comparison,) = said.comparisons
    return comparison.probability if comparison.better == 0 else 1 - comparison.probability


def evaluate(settings: Settings, *, dry_run: bool = False) -> Row | None:
    """Measure what settings ask for, and write it down; returns what evaluation.json holds, None for a dry run.
    InputError, CheckpointError: something given cannot be used. AnnotatorError: a judge fails, too many of its verdicts
    cannot be read, or a model writes nothing."""
    folder = Path(settings.output)
    if (folder / RESULTS).exists() and not settings.overwrite:
        raise errors.InputError(f"{folder / RESULTS} is there already; give another --output, or --overwrite to add")
    everyone = entrants.entrants_of(settings)
    references = [entrants.reference_of(one, settings) if one.read else None for one in everyone]
    fluency = entrants.model_of(settings.fluency, settings) if settings.fluency else None
    checked = {name: _checked(name, everyone, settings) for name in ("judge", "reward")}
    settings = settings.model_copy(update=checked)
    prompts = entrants.prompts_of(settings, everyone)
    rules: dict[str, Any] = {"skip_bad": settings.skip_bad, "chat": settings.chat}
    held_out = examples_named(settings.held_out, settings, **rules).examples if settings.held_out else ()
    every = combinations(range(len(everyone)), 2)
    pairs = [one for one in every if settings.against in (None, *(everyone[at].name for at in one))]
    entrants.tell_cost(settings, everyone, len(prompts), len(pairs))
    if dry_run:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.InputError(f"output {folder}: {error.strerror}. Give another --output") from error
    with resumable.resumable(folder / RESULTS, "trueup evaluate", {}) as work:
        answers = entrants.answers_of(settings, everyone, prompts, work)
        found = Evaluation(settings, work, everyone, answers, pairs)
        found.add_likelihoods(references, held_out)
        if fluency is not None:
            found.add_perplexity(fluency)
        if settings.reward is not None:
            with annotator_settings.called("reward"):
                found.add_rewards(Judged("reward", settings.reward, settings, work), held_out)
        if settings.judge is not None:
            with annotator_settings.called("judge"):
                try:
                    found.add_judgements(Judged("judge", settings.judge, settings, work))
                finally:  # where the judges agree on nothing, too
                    if found.undecided:
                        canonical.write_examples(folder / UNDECIDED, found.undecided)
        requested = settings.model_dump(mode="json", exclude={"overwrite"})
        results: Row = calibration.finite(found.results | {"settings": requested})
        canonical.write_examples(folder / RESPONSES, found.merged())
        with files.replaced_file(folder / RESULTS) as file:
            file.write(json.dumps(results, indent=1).encode() + b"\n")
    for name, totals in results["cost"].items():
        for line in (*judging.verdict_lines(totals), *judging.usage_lines(totals)):
            words.logger.info(f"{name}: {line}")
    words.logger.info(f"written to {folder / RESULTS}, and the responses to {folder / RESPONSES}")
    return results


def _checked(name: str, everyone: Sequence[entrants.Entrant], settings: Settings) -> AnnotatorChoice | None:
    choice: AnnotatorChoice | None = getattr(settings, name)
    if choice is None:
        return None
    for one in everyone:
        trained = one.run.settings.annotator if one.run else None
        theirs = list(map(_who, annotator_settings.annotators_in(trained).values())) if trained else []
        for each in annotator_settings.annotators_in(choice).values():
            if _who(each) in theirs:
                told = f"{one.name} was trained by the judgements of this very {name}, {_who(each)[1]}"
                words.logger.warning(f"{told}: what it says of that run proves little; take another one")
    with annotator_settings.called(name):
        return run_checks.check_annotator(choice, trust_remote_code=settings.trust_remote_code)


def _who(choice: AnnotatorChoice) -> tuple[str, Any]:
    return choice.kind, getattr(choice, choice.about.main)
