"""How often do annotators agree with people, and how much do they go by the place of a response?

Reads pairs that several people judged, such as the human evaluation of open-instruct (Wang et al., 2023,
https://arxiv.org/abs/2306.04751), and compares with people: people, the longer and the shorter response, the
likelihood of each model given, and each of them as a judge that is asked in both orders; a jury of these judges and
the longer response; and each model's ratings by a rubric of helpfulness and harmlessness.

A person's judgement that is a tie is left out, as there is nothing to agree with; a tie of the annotator agrees by
half. An annotator judges each pair once, and is compared with everybody who judged it; a person is compared with
everybody else. Intervals hold 95 % of what comes of drawing the prompts again, with everything that was judged of them.

    python benchmarks/annotators/agreement.py DATA.jsonl --model FOLDER --output benchmarks/annotators/agreement.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer

from trueup.annotators.comparing import TIE
from trueup.annotators.judge import Verdict
from trueup.annotators.jury import jury_lines
from trueup.annotators.local import load_local_annotator
from trueup.annotators.template import answered, transcript
from trueup.batch.encode import Encoder, Limits
from trueup.batch.stream import build_stream
from trueup.errors import TrueupError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Discarded, Example, Group, Prompt, Response, scores_of
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.tokenizer import quiet_library
from trueup.settings.annotator_kinds import LocalAnnotator
from trueup.settings.annotator_settings import AnnotatorChoice, JuryAnnotator, RubricAnnotator
from trueup.sources.by_name import make_annotator

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two responses to a prompt and what people said of them."""

    prompt: str
    responses: tuple[str, str]
    people: tuple[float, ...]
    """Of each person: 1 for the first response, 0 for the second, 0.5 for a tie."""

    @property
    def example(self) -> Example:
        return Example(Prompt(self.prompt), (Response(self.responses[0]), Response(self.responses[1])))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with the interval that holds it in 95 of 100 draws of the prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one annotator."""

    annotator: str
    pairs: int
    """Pairs that it judged."""
    compared: int
    """Judgements of people that it was compared with."""
    agreement: Estimate | None
    untied: Estimate | None
    """The same without its own ties."""
    ties: float | None
    """Share of its own judgements that are ties."""
    first: Estimate | None = None
    """Mean probability of the response shown first; a half for one that does not go by the place."""
    flipped: Estimate | None = None
    """Share of pairs of which it prefers the same place in both orders."""
    label_mass: float | None = None
    """Mean probability, before it is shared out, of the two labels together."""
    told: tuple[str, ...] = ()
    """Of a jury, what it says of itself and of each judge."""


@dataclass(slots=True)
class Shares:
    """Numbers from 0 to 1, by prompt."""

    seed: int
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, prompt: str, values: Iterable[float]) -> None:
        self.found.setdefault(prompt, []).extend(values)

    @property
    def count(self) -> int:
        return sum(map(len, self.found.values()))

    def mean(self) -> Estimate | None:
        """The mean, with the percentiles of what it is over prompts drawn with replacement; None of nothing."""
        if not self.count:
            return None
        sums, counts = (np.array([how(one) for one in self.found.values()], float) for how in (sum, len))
        random = np.random.default_rng(self.seed)
        resampled = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS)
        low, high = np.percentile((resampled @ sums) / np.maximum(resampled @ counts, 1), (2.5, 97.5))
        return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))


def read_pairs(data: Path) -> list[ComparedPair]:
    """Every two different responses that a person compared, with what each person said."""
    people: dict[tuple[str, str, str], list[float]] = {}
    for example in read_feedback([data]).examples:
        if len(example.responses) != 2:
            continue
        one, other = (answered(response.content) for response in example.responses)
        if one == other:
            continue
        first = float(example.comparisons[0].better == 0) if example.comparisons else 0.5
        key = (transcript(example.prompt).removeprefix("Human: "), min(one, other), max(one, other))
        people.setdefault(key, []).append(first if one < other else 1 - first)
    return [ComparedPair(prompt, (one, other), tuple(said)) for (prompt, one, other), said in people.items()]


def agreement(said: float, person: float) -> float:
    """1 where both prefer the same response, a half where `said` is a tie; `person` is none."""
    return 0.5 if said == 0.5 else float((said > 0.5) == (person > 0.5))


def measured(name: str, pairs: Sequence[ComparedPair], said: Sequence[float | None], seed: int, **more: Any) -> Row:
    """A row from what an annotator said of each pair; None where it said nothing."""
    both = zip(pairs, said, strict=True)
    judged = [(pair.prompt, [(one, person) for person in pair.people]) for pair, one in both if one is not None]
    return row_of(name, judged, seed, **more)


def row_of(name: str, judged: Sequence[tuple[str, list[tuple[float, float]]]], seed: int, **more: Any) -> Row:
    """A row from (what the annotator said, what a person said), by prompt."""
    everything, untied = Shares(seed), Shares(seed)
    ties: list[bool] = []
    for prompt, both in judged:
        ties += [said == 0.5 for said, _ in both]
        clear = [(said, person) for said, person in both if person != 0.5]
        everything.add(prompt, [agreement(*one) for one in clear])
        untied.add(prompt, [agreement(*one) for one in clear if one[0] != 0.5])
    tied = fmean(ties) if ties else None
    return Row(name, len(judged), everything.count, everything.mean(), untied.mean(), tied, **more)


def of_people(pairs: Sequence[ComparedPair], seed: int) -> Row:
    """Everybody who judged a pair, compared with everybody else who did."""
    judged = []
    for pair in pairs:
        both = [
            (one, other)
            for place, one in enumerate(pair.people)
            for again, other in enumerate(pair.people)
            if place != again
        ]
        if both:
            judged.append((pair.prompt, both))
    return row_of("another person", judged, seed)


def by(score: Callable[[str], float], pairs: Sequence[ComparedPair]) -> list[float | None]:
    """What a score of the response says: 1 where the first has the higher one."""
    return [(np.sign(score(pair.responses[0]) - score(pair.responses[1])) + 1) / 2 for pair in pairs]


@torch.no_grad()
def by_likelihood(folder: str, pairs: Sequence[ComparedPair]) -> list[float | None]:
    """Which response a model finds likelier, by log-probability per token; None where it cannot read both."""
    loaded = load(folder, device=torch.device("cpu"))
    model = CausalModel(loaded.network)
    limits = Limits(model.inner.config.max_position_embeddings)
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits)
    said: list[float | None] = []
    for pair in pairs:
        with quiet_library():
            encoded = encoder.encode(Group(Prompt(f"{pair.prompt}\n\n"), pair.responses, None))
        if isinstance(encoded, Discarded) or encoded.responses_cut:
            said.append(None)
            continue
        with model.without_dropout():
            first, second = model.log_probs(build_stream([encoded.tokens])).mean.tolist()
        said.append(0.5 if first == second else float(first > second))
    return said


def by_judge(folder: str, template: str, name: str, pairs: Sequence[ComparedPair], seed: int) -> Row:
    """A row for a model asked in both orders."""
    choice = LocalAnnotator(folder, template=template, max_unreadable=1.0)
    annotator = load_local_annotator(choice)
    both_orders, totals = annotator.pair_verdicts([pair.example for pair in pairs], [[(0, 1)]] * len(pairs))
    verdicts = [verdict for (verdict,) in both_orders]
    first, flipped = Shares(seed), Shares(seed)
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if isinstance(verdict.forward, Verdict) and isinstance(verdict.backward, Verdict):
            first.add(pair.prompt, [verdict.forward.first, verdict.backward.first])
            flipped.add(pair.prompt, [float(verdict.flipped)])
    readable = totals["verdicts"] - totals["unreadable"]
    return measured(
        name, pairs, [verdict.first for verdict in verdicts], seed, first=first.mean(), flipped=flipped.mean(),
        label_mass=totals["label_mass"] / readable if readable else None,
    )  # fmt: skip


def by_annotator(name: str, choice: AnnotatorChoice, pairs: Sequence[ComparedPair], seed: int) -> Row:
    """A row for whatever `trueup train --annotator` takes."""
    annotator = make_annotator(choice, seed=seed, device="cpu", trust_remote_code=False, usage_file=None)
    made = annotator.annotate([pair.example for pair in pairs])
    said: list[float | None] = []
    for one in made.examples:
        if isinstance(one, Discarded):
            said.append(0.5 if one.reason == TIE else None)
        elif one.comparisons:
            said.append(float(one.comparisons[0].better == 0))
        else:
            first, second = scores_of([one])
            said.append(float(np.sign(first - second) + 1) / 2)
    return measured(name, pairs, said, seed, told=tuple(jury_lines(made.totals)))


def longer(prompt: str, response: str) -> float:
    """The longer response is the better one."""
    return len(response)


def table(rows: Sequence[Row]) -> str:
    """As it stands in docs/annotators.md."""
    lines = [
        "| annotator | pairs | compared | agreement | without its ties | ties | first place | flipped | labels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ties = None if row.ties is None else f"{row.ties:.1%}"
        mass = None if row.label_mass is None else f"{row.label_mass:.1g}"
        cells = (
            row.annotator,
            row.pairs,
            row.compared,
            row.agreement,
            row.untied,
            ties,
            row.first,
            row.flipped,
            mass,
        )
        lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Argument(help="Feedback with pairs that people judged.")],
    model: Annotated[list[str] | None, typer.Option(help="Folder of a causal language model; may be repeated.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="What judges are asked with; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where the figures go.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws that the intervals come from.")] = 0,
) -> None:
    """Print and write the table."""
    torch.set_num_threads(1)
    try:
        pairs = read_pairs(data)
        rows = [of_people(pairs, seed)]
        rows += [measured(name, pairs, by(score, pairs), seed) for name, score in RULES.items()]
        for folder in model or ():
            name = Path(folder).name
            rows.append(measured(f"likelihood of {name}", pairs, by_likelihood(folder, pairs), seed))
            for one in template or ["helpfulness"]:
                rows.append(by_judge(folder, one, f"{name}, asked with {Path(one).stem}", pairs, seed))
        if model:
            judges = [
                {"kind": "local", "model": folder, "template": (template or [None])[0], "max_unreadable": 1.0}
                for folder in model
            ]
            jury = JuryAnnotator(of=(*judges, {"kind": "function", "function": f"{sys.argv[0]}:longer"}))
            rows.append(by_annotator("a jury of these judges and the longer response", jury, pairs, seed))
            for folder in model:
                judge = {"kind": "local", "model": folder, "max_unreadable": 1.0}
                rubric = RubricAnnotator(of=(judge,), criteria=("helpfulness=2", "harmlessness"))
                rows.append(by_annotator(f"a rubric, rated by {Path(folder).name}", rubric, pairs, seed))
    except TrueupError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    print(table(rows))
    if output is not None:
        found = {
            "data": data.name,
            "pairs": len(pairs),
            "seed": seed,
            "draws": DRAWS,
            "rows": list(map(asdict, rows)),
        }
        output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


RULES: dict[str, Callable[[str], float]] = {
    "the longer response": len,
    "the shorter response": lambda response: -len(response),
}

if __name__ == "__main__":
    typer.run(main)
