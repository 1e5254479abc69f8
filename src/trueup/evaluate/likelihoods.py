"""What is measured of models as probabilities: divergence, perplexity, how right and how sure rewards are."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from trueup.annotators import calibration, local
from trueup.batch import encode, stream, tokens
from trueup.estimates import Mean, mean, wilson
from trueup.evaluate.entrants import Entrant, sampling_of
from trueup.feedback import records, views
from trueup.gathering import candidates, resumable
from trueup.models import causal, selfcheck
from trueup.settings.gathering_settings import EvaluateSettings

TOKENS = 8192
CHUNK = 32

Model = causal.CausalModel
LogProb = tuple[float, int]
Row = Sequence[LogProb] | None
"""Of an example's responses; None where prompt and response do not fit into the model's positions."""


def log_probs_of(
    entrant: Entrant, examples: Sequence[records.Example], settings: EvaluateSettings, work: resumable.Work
) -> list[Row]:
    """log p(y | x) of the responses of each example, under a model that is asked in its own words."""
    assert entrant.read is not None
    sampling, read = sampling_of(settings), entrant.read

    @contextmanager
    def load() -> Iterator[tuple[Model, encode.Encoder]]:
        running = candidates.running(sampling, work.day, len(examples), read)
        groups = [one for example in examples[:CHUNK] if (one := _encoded(running[1], example, 0))]
        if groups:
            running[0].set_attention(selfcheck.check_attention(running[0], groups[:4], None).attention)
        yield running
        del running
        candidates.free_memory()

    def make(running: Any, _: str, chunk: Sequence[records.Example]) -> list[Row]:
        return log_probs(running[0], running[1], chunk)

    own = settings.model_dump(include={"max_length", "chat_template"})
    part = f"read {resumable.digest([entrant.identity, own])} {resumable.digest_of_examples(examples)}"
    parts = work.in_parts(part, f"reading by {entrant.name}", examples, CHUNK, load, make)
    return [row for rows in parts for row in rows]


def log_probs(model: Model, encoder: encode.Encoder, examples: Sequence[records.Example]) -> list[Row]:
    groups = [one for at, example in enumerate(examples) if (one := _encoded(encoder, example, at))]
    found = of_groups(model, groups)
    return [found.get(at) for at in range(len(examples))]


def of_groups(model: Model, groups: Sequence[tokens.TokenGroup[int]]) -> dict[int, list[LogProb]]:
    """log p(y | x) of token ids under a model at hand, by the number that is each group's relation."""
    read = local.read_groups(model, lambda one: model.log_probs(one).sum, stream.cut(groups, TOKENS))
    return {
        group.relation: [(one, int(row.scored.sum())) for one, row in zip(sums, group.responses, strict=True)]
        for group, sums in read
    }


def _encoded(encoder: encode.Encoder, example: records.Example, place: int) -> tokens.TokenGroup[int] | None:
    contents, written = zip(*((one.content, one.tokens) for one in example.responses), strict=True)
    encoded = encoder.encode(records.Group(example.prompt, contents, place, written if any(written) else ()))
    return None if isinstance(encoded, records.Discarded) or encoded.responses_cut else encoded.tokens


def sequence_kl(ours: Sequence[Row], theirs: Sequence[Row]) -> Mean | str:
    """KL(policy || reference) in nats a response, over responses that the policy drew; or why it is not known.
    The mean over prompts of log pi(y | x) - log pi_ref(y | x). Being unbiased, it may come out slightly negative.
    Of responses that ran out of tokens it is the divergence as far as they go."""
    both = [(one, other) for one, other in zip(ours, theirs, strict=True) if one and other]
    if any(a[1] != b[1] for one, other in both for a, b in zip(one, other, strict=True)):
        return "the reference splits responses into other tokens"
    ratios = [fmean(row) for row in log_ratios(ours, theirs) if row]
    return mean(ratios) if ratios else "no response fits into both models"


def perplexity(rows: Sequence[Row]) -> float | None:
    """exp of minus the mean log-probability of a token, over all responses; None where none is known."""
    known = [one for row in rows for one in row or ()]
    tokens = sum(length for _, length in known)
    return math.exp(-math.fsum(value for value, _ in known) / tokens) if tokens else None


def reward_measures(
    examples: Sequence[records.Example], rewards: Sequence[Sequence[float] | None], *, scale: float = 1.0
) -> dict[str, Any]:
    """How right rewards, of each response of each example, are on held-out feedback, and how sure.
    Pairs as training by pairs would use them; of more than two responses also how often the best is found; of labels
    the probability sigmoid(reward) that a response is desirable. Rewards times `scale` are log-odds."""
    pairs, points, best = [], [], []
    for at, (example, own) in enumerate(zip(examples, rewards, strict=True)):
        found = views.ordered_pairs(example)
        if own is None:
            continue
        for of, label in records.labels(example):
            points.append((own[of], label, at) if label >= 0.5 else (-own[of], 1 - label, at))
        if isinstance(found, records.Discarded):
            continue
        pairs += [(own[better] - own[worse], sure, at) for better, worse, sure in found]
        used, beaten = {of for pair in found for of in pair[:2]}, {worse for _, worse, _ in found}
        if len(used) > 2:
            high = max(own[of] for of in used)
            top = [of for of in used if own[of] == high]
            best.append(len(top) == 1 and top[0] not in beaten)
    measured: dict[str, Any] = {}
    for name, rows in (("pairs", pairs), ("labels", points)):
        if rows:
            apart, sure, places = zip(*rows, strict=True)
            measured[name] = calibration.calibrate([scale * one for one in apart], sure, places)
    if best:
        measured["best_of_n"] = wilson(sum(best), len(best))
    return measured


def log_ratios(ours: Sequence[Row], theirs: Sequence[Row]) -> list[list[float] | None]:
    """log pi(y | x) - log pi_ref(y | x) of each response; None where one of the two is not known."""
    both = zip(ours, theirs, strict=True)
    return [[a[0] - b[0] for a, b in zip(one, other, strict=True)] if one and other else None for one, other in both]


def by_file(
    examples: Sequence[records.Example], rewards: Sequence[Sequence[float] | None], scale: float = 1.0
) -> dict[str, Any]:
    """`reward_measures` of all examples, and of those of each file where there are several."""
    places: dict[str, list[int]] = {"all": list(range(len(examples)))}
    for place, example in enumerate(examples):
        places.setdefault(example.origin.file if example.origin else "", []).append(place)
    kept = places if len(places) > 2 else {"all": places["all"]}
    parts = {file: ([examples[at] for at in own], [rewards[at] for at in own]) for file, own in kept.items()}
    return {file: reward_measures(*part, scale=scale) for file, part in parts.items()}
