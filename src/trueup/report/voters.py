"""What people said in files of `trueup label` and `trueup chat`: each of them, how far they agree, and with a judge."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from trueup import errors, estimates
from trueup.feedback import read, records
from trueup.report import page, run_data

COLUMNS = ("votes", "first place", "ties", "same again", "as others said", "as the judge said")
Person = Mapping[str, list[float]]
"""By column, of each vote or comparison with another whether it is so."""
Pair = tuple[int, int]


def of_votes(run: run_data.RunData, files: Sequence[str]) -> Iterator[tuple[str, list[page.Table]]]:
    """Of each file what its votes amount to in a sentence, by person, and by model where responses have writers.
    InputError: a file cannot be read, or nobody voted in it."""
    judged = _judged(run)
    for file in files:
        examples = read.read_feedback([file]).examples
        told = records.agreement_of_people(examples)
        if told is None:
            raise errors.InputError(f"votes {file}: nobody voted in it; give what trueup label or chat wrote")
        people: dict[str, Person] = defaultdict(lambda: defaultdict(list))
        wins: dict[tuple[str, str], list[float]] = defaultdict(list)
        most: list[float] = []
        for example in examples:
            texts = [repr(one.content) for one in example.responses]
            of_example: dict[tuple[str, str], list[float]] = defaultdict(list)
            for (low, high), said in _first_said(example, people).items():
                judge = judged.get((example.prompt.key, frozenset((texts[low], texts[high]))))
                for name, side in said.items():
                    others = [one for who, one in said.items() if who != name]
                    people[name]["as others said"] += [side == one for one in others]
                    if judge and isinstance(side, int):
                        people[name]["as the judge said"].append(texts[side] == judge)
                share = fmean({low: 1.0, high: 0.0}.get(side, 0.5) for side in said.values())
                if judge and share != 0.5:
                    most.append(texts[low if share > 0.5 else high] == judge)
                one, other = (example.responses[at].source or "" for at in (low, high))
                if one and other and one != other:
                    of_example[min(one, other), max(one, other)].append(share if one < other else 1 - share)
            for ends, shares in of_example.items():
                wins[ends].append(fmean(shares))
        if most:
            told += f"; the judge says the same of {page.cell(_share(most))} of {len(most)} pairs that most decide"
        rows: list[tuple[str, list[Any]]] = []
        for name, own in sorted(people.items()):
            rows.append((name, [len(own["ties"]), *(_share(own[column]) for column in COLUMNS[1:])]))
        rates = {ends: asdict(estimates.bootstrap(own, share=True)) for ends, own in wins.items()}
        won = [(" against ".join(ends), [len(wins[ends]), rate]) for ends, rate in rates.items()]
        tables = [page.Table("", COLUMNS, rows), page.Table("", ("prompts", "wins"), won, bars=True)]
        yield f"{file}: {told}", [one for one in tables if one.rows]


def _first_said(example: records.Example, people: Mapping[str, Person]) -> dict[Pair, dict[str, Any]]:
    found: dict[Pair, dict[str, Any]] = defaultdict(dict)
    for vote in example.votes:
        side: Any = {"first": vote.first, "second": vote.second}.get(vote.preferred, vote.preferred)
        said = found[min(vote.first, vote.second), max(vote.first, vote.second)]
        own = people[vote.annotator]
        own["ties"].append(isinstance(side, str))
        own["first place"] += [] if isinstance(side, str) else [side == vote.first]
        own["same again"] += [said[vote.annotator] == side] if vote.annotator in said else []
        said.setdefault(vote.annotator, side)
    return found


def _judged(run: run_data.RunData) -> dict[tuple[str, frozenset[str]], str]:
    found: dict[tuple[str, frozenset[str]], str] = {}
    for path in reversed(run.sample_files):
        for _, example in run.examples(path, most=10**6):
            texts = [repr(one.content) for one in example.responses]
            scored = [(at, one.score) for at, one in enumerate(example.responses) if one.score is not None]
            ends = [(one, other) for one, high in scored for other, low in scored if high > low]
            for better, worse in ends + [(one.better, one.worse) for one in example.comparisons]:
                found[example.prompt.key, frozenset((texts[better], texts[worse]))] = texts[better]
    return found


def _share(values: Sequence[float]) -> dict[str, float] | None:
    return asdict(estimates.wilson(sum(values), len(values))) if values else None
