"""What of the feedback is in the output, and what is not: every part of every example is in one of the two.

dropped 6 scores: 2 because a file of pairs holds no scores (a.jsonl:1), 4 with their response
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trueup.feedback.convert.pieces import Pieces, Target
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example, Origin
from trueup.feedback.viewed import places

NOUNS = {
    "example": "examples",
    "response": "responses",
    "score": "scores",
    "label": "labels",
    "demonstration mark": "demonstration marks",
    "source": "sources",
    "list of token ids": "lists of token ids",
    "comparison": "comparisons",
    "probability": "probabilities",
}
"""Kinds of parts, and several of each. A probability is one that is not 1: a comparison that is not sure."""

Part = tuple[str, int]
"""A kind, and the position of the response or comparison; ("example", 0) is the example itself."""

WITH = {
    "example": "with their example",
    "response": "with their response",
    "comparison": "with their comparison",
}


@dataclass(slots=True)
class Account:
    """What became of the parts of all examples that were converted so far."""

    read: Counter[str] = field(default_factory=Counter)
    """Kind -> how many parts there were."""
    made: Counter[str] = field(default_factory=Counter)
    """Kind -> how many parts of the output the input does not state as such."""
    dropped: dict[str, dict[str, list[Origin | None]]] = field(default_factory=dict)
    """Kind -> reason -> where each part that is not in the output comes from."""

    def lost(self, kind: str) -> int:
        """How many parts of a kind are not in the output."""
        return sum(len(where) for where in self.dropped.get(kind, {}).values())

    def add(self, example: Example, taken: Pieces | Discarded, target: Target) -> None:
        """Count one example and what was made of it."""
        stated = parts(example)
        self.read.update(kind for kind, _ in stated)
        if isinstance(taken, Discarded):
            for kind, _ in stated:
                self._drop(kind, taken.reason if kind == "example" else WITH["example"], example)
            return
        kept, made = kept_and_made(example, taken)
        self.made.update(made)
        for part in stated:
            if part not in kept:
                self._drop(part[0], why(part, example, kept, target), example)

    def _drop(self, kind: str, reason: str, example: Example) -> None:
        self.dropped.setdefault(kind, {}).setdefault(reason, []).append(example.origin)

    def lines(self) -> list[str]:
        """The account for people, one line for each kind of which something was dropped or made."""
        lines = []
        for kind, noun in NOUNS.items():
            if number := self.lost(kind):
                found = sorted(self.dropped[kind].items(), key=lambda one: one[0] in WITH.values())
                reasons = [told(kind, reason, where) for reason, where in found]
                lines.append(f"dropped {number} {kind if number == 1 else noun}: {', '.join(reasons)}")
        for kind, noun in NOUNS.items():
            if number := self.made[kind]:
                one = kind if number == 1 else noun
                lines.append(f"made {number} {one} from what else is said of the responses")
        return lines


def parts(example: Example) -> dict[Part, object]:
    """Everything an example states, with its value."""
    stated: dict[Part, object] = {("example", 0): True}
    for at, response in enumerate(example.responses):
        stated["response", at] = True
        said = (("score", response.score), ("label", response.label), ("source", response.source))
        written = ("list of token ids", response.tokens)
        stated |= {(kind, at): value for kind, value in (*said, written) if value is not None}
        if response.demonstration:
            stated["demonstration mark", at] = True
    for at, comparison in enumerate(example.comparisons):
        stated["comparison", at] = True
        if comparison.probability != 1:
            stated["probability", at] = comparison.probability
    return stated


def kept_and_made(example: Example, pieces: Pieces) -> tuple[set[Part], Counter[str]]:
    """The parts of an example that its pieces hold, and how many parts they hold beside them."""
    stated = parts(example)
    kept: set[Part] = {("example", 0)}
    made: set[Part] = set()
    free = dict(enumerate(example.comparisons))
    unstated = 0
    for piece in pieces:
        for (kind, at), value in parts(piece.example).items():
            if kind in ("example", "comparison", "probability"):
                continue
            part = (kind, piece.positions[at])
            (kept if stated.get(part) == value else made).add(part)
        for one in piece.example.comparisons:
            ends = (piece.positions[one.better], piece.positions[one.worse])
            found = next((at for at, other in free.items() if (other.better, other.worse) == ends), None)
            if found is None:
                unstated += 1
                continue
            kept.add(("comparison", found))
            if free.pop(found).probability == one.probability:
                kept.add(("probability", found))
    return kept, Counter(kind for kind, _ in made) + Counter(comparison=unstated)


def why(part: Part, example: Example, kept: set[Part], target: Target) -> str:
    """Why the output has not this part of an example of which it has something, as a clause."""
    kind, at = part
    if kind == "response":
        return target.unused(example, at)
    if kind == "comparison" and target.uncompared:
        return target.uncompared(example, at)
    whole = "comparison" if kind == "probability" else "response"
    if kind != "comparison" and (whole, at) not in kept:
        return WITH[whole]
    return (target.reasons or {}).get(kind, f"{target.holds} holds no {NOUNS[kind]}")


def told(kind: str, reason: str, where: Iterable[Origin | None]) -> str:
    """How many parts were dropped for a reason, and where."""
    origins = list(where)
    if reason in WITH.values():
        return f"{len(origins)} {reason}"
    joined = "for" if kind == "example" else "because"
    return f"{len(origins)} {joined} {reason}{places(dict.fromkeys(origins))}"


def counted_reasons(dropped: Mapping[str, Iterable[Origin | None]]) -> str:
    """The reasons for which examples were dropped, with their numbers."""
    return ", ".join(told("example", reason, where) for reason, where in dropped.items())
