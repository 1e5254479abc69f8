"""Pairs that people compare, every click on them, and what the clicks amount to.

A click is one row of SQLite, on disk before it is answered; all else follows from the rows, the person and the seed.
"""

import hashlib
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from trueup import errors, estimates, words
from trueup.feedback import canonical, records
from trueup.settings.command_settings import LabelSettings

TABLE = """CREATE TABLE IF NOT EXISTS clicks (number INTEGER PRIMARY KEY, time TEXT DEFAULT CURRENT_TIMESTAMP,
    person TEXT NOT NULL, pair TEXT NOT NULL, swapped INTEGER NOT NULL, verdict TEXT NOT NULL)"""
COLUMNS = "person, pair, swapped, verdict"
Examples = Sequence[records.Example]
SKIP, UNDO = "skip", "undo"
GAP = 5
A, B = "a", "b"
"""Verdicts by the response as it stands in the data, whatever side it was shown on; the others are tie and neither."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to compare: positions in an example of the data, or of the gold."""

    key: str
    example: records.Example
    one: int
    other: int
    known: str = ""
    doubt: float = 0.0
    """In [0, 1]: 1 for a pair that nobody decided, 0 for one that is sure."""


@dataclass(frozen=True, slots=True)
class Click:
    """A row: `Click("ann", "3f9c", False, "first")`."""

    person: str
    pair: str
    swapped: bool
    verdict: str
    """One of `VERDICTS`, by the side, or skip or undo."""

    @property
    def category(self) -> str:
        sides = (B, A) if self.swapped else (A, B)
        return dict(zip(records.VERDICTS, sides, strict=False)).get(self.verdict, self.verdict)


def pairs_of(examples: Examples, settings: LabelSettings) -> list[Pair]:
    """The pairs of each example that are asked, each pair of texts once.
    Of K responses in a random order those that stand next to each other on a ring come first, then those two apart, and
    so on: the first K - 1 connect all responses, and the first K show each of them equally often."""
    found: dict[str, Pair] = {}
    for example in examples:
        compared = {frozenset((one.better, one.worse)): one.probability for one in example.comparisons}
        unique = {repr(one.content): at for at, one in reversed(list(enumerate(example.responses)))}.values()
        places = sorted(unique, key=lambda at: _draw(settings.seed, example.prompt.key, at))
        count = len(places)
        ring = [(at, (at + step) % count) for step in range(1, count) for at in range(count)]
        ends = dict.fromkeys(frozenset((places[one], places[other])) for one, other in ring)
        left = [one for one in ends if not settings.undecided or one not in compared]
        for both in left[: settings.pairs or count]:
            sure = compared.get(both)
            doubt = 2 * (1 - sure) if sure is not None else 1.0 if compared else 0.5
            pair = _pair(example, min(both), max(both), doubt=doubt)
            found.setdefault(pair.key, pair)
    return list(found.values())


def gold_of(examples: Examples) -> list[Pair]:
    found = []
    for example in examples:
        better = [(one.better, one.worse) for one in records.agreed(records.distinct(example))]
        if not example.comparisons:
            scores = records.scores(example)
            ranked = sorted(scores, key=lambda one: -one[1])
            better = [(one[0], other[0]) for one, other in combinations(ranked, 2) if one[1] > other[1]]
        for chosen, rejected in dict.fromkeys(better):
            one, other = sorted((chosen, rejected))
            found.append(_pair(example, one, other, known=A if chosen == one else B))
    return found


def _pair(example: records.Example, one: int, other: int, **more: Any) -> Pair:
    texts = [canonical.content_json(example.responses[at].content) for at in (one, other)]
    said = json.dumps([canonical.prompt_json(example.prompt), *texts], sort_keys=True).encode()
    return Pair(hashlib.sha256(said).hexdigest()[:16], example, one, other, **more)


@cache
def _draw(*parts: object) -> float:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big") / 2**56


class Clicks:
    def __init__(self, path: Path, data: Examples, gold: Examples, settings: LabelSettings) -> None:
        self.path, self.data, self.settings = path, data, settings
        self.pairs = {one.key: one for one in pairs_of(data, settings)}
        self.gold = {one.key: one for one in gold_of(gold) if one.key not in self.pairs}
        self.valid: dict[str, list[Click]] = {}
        """Person -> what they said and did not take back, in order."""
        self.counts: Counter[str] = Counter()
        try:
            self.rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
            for one in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self.rows.execute(f"PRAGMA {one}")
            self.rows.execute(TABLE)
            kept = self.rows.execute(f"SELECT {COLUMNS} FROM clicks ORDER BY number").fetchall()
        except sqlite3.Error as error:
            raise errors.InputError(f"{path}: clicks cannot be kept there: {words.reason(error)}") from error
        for person, pair, swapped, verdict in kept:
            self._take(Click(person, pair, bool(swapped), verdict))
        unknown = {one.pair for one in self._all()} - self.pairs.keys() - self.gold.keys()
        if unknown:
            self.close()
            pairs = f"judgements of {words.counted(len(unknown), 'pair')} that these files do not hold"
            raise errors.InputError(f"{path} holds {pairs}; give those that it was begun with, or another --output")

    def close(self) -> None:
        self.rows.close()

    def add(self, person: str, number: int, verdict: str) -> bool:
        """Keep a click on what the person sees, their click of this number; False where it is not any more."""
        shown = self.next(person)
        if number != self.counts[person] or (shown is None and verdict != UNDO):
            return False
        pair, swapped = ("", False) if shown is None else (shown[0].key, shown[1])
        click = Click(person, pair, swapped, verdict)
        if verdict == UNDO and not self.valid.get(person):
            return False
        try:
            row = (person, pair, swapped, verdict)
            self.rows.execute(f"INSERT INTO clicks ({COLUMNS}) VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise errors.InputError(f"{self.path}: the click cannot be kept: {words.reason(error)}") from error
        self._take(click)
        return True

    def _take(self, click: Click) -> None:
        self.counts[click.person] += 1
        said = self.valid.setdefault(click.person, [])
        if click.verdict == UNDO:
            said.pop()
        else:
            said.append(click)

    def _all(self) -> Iterator[Click]:
        return (one for said in self.valid.values() for one in said)

    def next(self, person: str) -> tuple[Pair, bool] | None:
        """What the person sees now, and whether the other response stands first; None when there is no more.
        Pairs that people disagree on come first, then those that the data are least sure of."""
        said, seed = self.valid.get(person, []), self.settings.seed
        seen = Counter(one.pair for one in said)
        by_pair = self.by_pair()
        most = self.settings.people or math.inf
        left = [one for key, one in self.pairs.items() if not seen[key] and len(by_pair.get(key, ())) < most]
        if not left:
            return None
        gold = [one for key, one in self.gold.items() if not seen[key]]
        old = {one.pair for one in said[:-GAP] if one.verdict != SKIP and one.pair in self.pairs}
        again = [self.pairs[key] for key in sorted(old) if seen[key] == 1]
        share, choices = _draw(seed, person, len(said), "kind"), left
        if gold and share < self.settings.gold_share:
            choices = gold
        elif again and 0 <= share - self.settings.gold_share < self.settings.repeat_share:
            choices = again

        def rank(pair: Pair) -> tuple[bool, float, float]:
            contested = len(set(by_pair.get(pair.key, {}).values())) > 1
            return not contested, -pair.doubt, _draw(seed, person, pair.key)

        pair = min(choices, key=rank)
        return pair, _draw(seed, person, pair.key, seen[pair.key], "side") < 0.5

    def by_pair(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for one in self._all():
            if one.verdict != SKIP and one.pair in self.pairs:
                found.setdefault(one.pair, {}).setdefault(one.person, one.category)
        return found

    def progress(self, person: str) -> dict[str, Any]:
        by_pair = self.by_pair()
        rated = [list(said.values()) for said in by_pair.values()]
        names = sorted({name for said in by_pair.values() for name in said})
        complete = [one for one in rated if len(one) == len(names) > 1]
        shared = [one for one in rated if len(one) > 1]
        kappa = math.nan
        if len(names) == 2 and complete:
            both = [[said[name] for said in by_pair.values() if len(said) == 2] for name in names]
            kappa = estimates.cohen_kappa(*both)
        elif complete:
            kappa = estimates.fleiss_kappa(complete)
        everybody = [_person(name, said, self.gold) for name, said in sorted(self.valid.items()) if said]
        mine = {one.pair for one in self.valid.get(person, ()) if one.pair in self.pairs}
        found = {
            "done": len(mine), "pairs": len(self.pairs), "people": everybody, "shared": len(shared),
            "contested": sum(len(set(one)) > 1 for one in shared), "kappa": kappa, "kappa_pairs": len(complete),
            "alpha": estimates.krippendorff_alpha(rated),
        }  # fmt: skip
        return {key: None if value != value else value for key, value in found.items()}

    def examples(self) -> list[records.Example]:
        """Feedback: each example with what people said, each vote and the comparisons that they amount to.
        A comparison is as sure as the share of people who prefer it, each by what they first said; a tie is half a
        vote for either. At one half there is none."""
        clicks: dict[str, list[Click]] = {}
        for one in self._all():
            if one.verdict != SKIP:
                clicks.setdefault(one.pair, []).append(one)
        by_pair, made = self.by_pair(), []
        of_example: dict[int, list[Pair]] = {}
        for pair in self.pairs.values():
            of_example.setdefault(id(pair.example), []).append(pair)
        for example in self.data:
            stays = example if self.settings.undecided else replace(example, comparisons=(), votes=())
            comparisons, votes = list(stays.comparisons), list(stays.votes)
            for pair in of_example.get(id(example), ()):
                for one in clicks.get(pair.key, ()):
                    places = (pair.other, pair.one) if one.swapped else (pair.one, pair.other)
                    votes.append(records.Vote(*places, one.verdict, one.person))
                said = list(by_pair.get(pair.key, {}).values())
                share = sum({A: 1.0, B: 0.0}.get(one, 0.5) for one in said) / max(1, len(said))
                if said and share != 0.5:
                    ends = (pair.one, pair.other) if share > 0.5 else (pair.other, pair.one)
                    comparisons.append(records.Comparison(*ends, max(share, 1 - share)))
            if votes or comparisons:
                bare = tuple(replace(one, score=None, label=None) for one in example.responses)
                made.append(records.Example(example.prompt, bare, tuple(comparisons), tuple(votes)))
        return made


def _person(name: str, said: Sequence[Click], gold: Mapping[str, Pair]) -> dict[str, Any]:
    first: dict[str, str] = {}
    found = dict.fromkeys(("again", "same", "gold", "right"), 0)
    for one in (one for one in said if one.verdict != SKIP):
        if one.pair in gold:
            found["gold"] += 1
            found["right"] += one.category == gold[one.pair].known
        elif one.pair in first:
            found["again"] += 1
            found["same"] += one.category == first[one.pair]
        else:
            first[one.pair] = one.category
    return {"name": name, "judged": len(first), **found}
