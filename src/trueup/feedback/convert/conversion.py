"""Examples into rows of another form, with an account of what these hold and what not.

What an example becomes is said in smaller examples, each of which one row holds. What the example states and they do
not is dropped, and named with its reason and its row:

    dropped 6 scores: 2 because a file of pairs holds no scores (a.jsonl:1), 4 with their response
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from trueup.errors import InputError
from trueup.feedback.records import Discarded, Example, Origin, Response, View, count
from trueup.feedback.views import places
from trueup.words import counted

R = TypeVar("R")

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
    "vote": "votes",
}
"""Kinds of parts, and several of each. A probability is one that is not 1: a comparison that is not sure."""
ALONG = "with their "
"""How the reason begins of what is dropped because what it is said of is."""

Observation = tuple[str, Any]
"""A kind, and what tells it from others of its kind in the example."""
Because = Callable[[Example, int], str]
"""Why nothing of the output has the response, or the comparison, at a position of an example, as a clause."""


@dataclass(frozen=True, slots=True)
class RowContent:
    """What one row of the output says, as an example."""

    example: Example
    positions: tuple[int, ...]
    """Where its responses stand in the example that it comes from."""


RowContents = tuple[RowContent, ...]
"""At least one; for TRL's rows one for each pair, point or demonstration."""
Take = Callable[[Example], RowContents | Discarded]


@dataclass(frozen=True, slots=True)
class Target:
    """What to convert to."""

    name: str
    """As it is said in reports: `pairs`."""
    take: Take
    row: Callable[[Example], dict[str, object]]
    """A piece as a JSON-ready object; what reads files makes the same piece of it."""
    dropped: Mapping[str, str | Because] = field(default_factory=dict)
    """Kind -> why one of it is not in the output, where that is not because the output holds none of the kind."""


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

    def add(self, example: Example, taken: RowContents | Discarded, target: Target) -> None:
        """Count one example and what was made of it."""
        stated = parts((RowContent(example, tuple(range(len(example.responses)))),))
        self.read.update(kind for kind, _ in stated)
        written = {} if isinstance(taken, Discarded) else parts(taken)
        self.made.update(kind for kind, at in written if stated.get((kind, at)) != written[kind, at])
        for (kind, at), value in stated.items():
            if written.get((kind, at)) != value:
                if isinstance(taken, Discarded):
                    reason = taken.reason if kind == "example" else ALONG + "example"
                else:
                    reason = why(kind, at, example, written, target)
                self.dropped.setdefault(kind, {}).setdefault(reason, []).append(example.origin)

    def lines(self) -> list[str]:
        """The account for people, one line for each kind of which something was dropped or made."""
        lines = []
        for kind in NOUNS:
            if number := self.lost(kind):
                found = sorted(self.dropped[kind].items(), key=lambda one: one[0].startswith(ALONG))
                reasons = [told(kind, reason, where) for reason, where in found]
                lines.append(f"dropped {several(number, kind)}: {', '.join(reasons)}")
        lines += [
            f"made {several(self.made[kind], kind)} from what else is said of the responses"
            for kind in NOUNS
            if self.made[kind]
        ]
        return lines


def parts(pieces: RowContents) -> dict[Observation, object]:
    """Everything that the pieces of an example state, with its value, by the positions of the responses in it."""
    stated: dict[Observation, object] = {("example", 0): True}
    seen: Counter[object] = Counter()
    for piece in pieces:
        for at, response in zip(piece.positions, piece.example.responses, strict=True):
            said = {
                "response": True,
                "score": response.score,
                "label": response.label,
                "demonstration mark": response.demonstration or None,
                "source": response.source,
                "list of token ids": response.tokens,
            }
            stated |= {(kind, at): value for kind, value in said.items() if value is not None}
        for one in piece.example.comparisons:
            ends = (piece.positions[one.better], piece.positions[one.worse])
            seen[ends] += 1
            stated["comparison", (ends, seen[ends])] = True
            if one.probability != 1:
                stated["probability", (ends, seen[ends])] = one.probability
        for number, vote in enumerate(piece.example.votes):
            stated["vote", number] = vote
    return stated


def why(kind: str, at: Any, example: Example, written: Mapping[Observation, object], target: Target) -> str:
    """Why the output has not this part of an example of which it has something, as a clause."""
    holder = "comparison" if kind == "probability" else "response"
    if kind not in ("response", "comparison", "vote") and (holder, at) not in written:
        return ALONG + holder
    unit = "row" if target.name.startswith("TRL") else "file"
    reason = target.dropped.get(kind) or f"a {unit} of {target.name} holds no {NOUNS[kind]}"
    if isinstance(reason, str):
        return reason
    if isinstance(at, int):
        return reason(example, at)
    ends = [(one.better, one.worse) for one in example.comparisons]
    return reason(example, next(place for place, one in enumerate(ends) if one == at[0]))


def several(number: int, kind: str) -> str:
    """A number of parts of a kind."""
    return f"{number} {kind if number == 1 else NOUNS[kind]}"


def told(kind: str, reason: str, where: Iterable[Origin | None]) -> str:
    """How many parts were dropped for a reason, and where."""
    origins = list(where)
    if reason.startswith(ALONG):
        return f"{len(origins)} {reason}"
    joined = "for" if kind == "example" else "because"
    return f"{len(origins)} {joined} {reason}{places(dict.fromkeys(origins))}"


def look_at(view: View[R], example: Example) -> tuple[R, tuple[int, ...]] | Discarded:
    """The relation that a view finds in an example, and where the responses that it relates stand there.

    Two responses may have the same content and differ in all else, so that the content does not tell which of them a
    view took. Views pass on the token ids of the responses as they are; here these are their positions.
    """
    marked = (replace(one, tokens=(position,)) for position, one in enumerate(example.responses))
    group = view(replace(example, responses=tuple(marked)))
    if isinstance(group, Discarded):
        return group
    return group.relation, tuple(ids[0] for ids in group.tokens if ids is not None)


def bare(response: Response) -> Response:
    """The response without what is said of it; who wrote it stays."""
    return Response(response.content, source=response.source)


@dataclass(frozen=True, slots=True)
class Conversion:
    """The rows to write, and the account."""

    rows: tuple[dict[str, object], ...]
    """JSON-ready objects."""
    account: Account
    notes: tuple[str, ...]
    """For people: what else to know of the output."""

    def lines(self) -> list[str]:
        """The account and the notes, for people."""
        return [*self.account.lines(), *self.notes]


def convert(examples: Sequence[Example], target: Target) -> Conversion:
    """Write examples as rows of the target's form, in order.

    Raises:
        InputError: the target finds nothing that it could write.
    """
    account = Account()
    rows = []
    kinds = {"text": 0, "messages": 0}
    for example in examples:
        taken = target.take(example)
        account.add(example, taken, target)
        if not isinstance(taken, Discarded):
            rows += [target.row(piece.example) for piece in taken]
            kinds["text" if isinstance(example.prompt.content, str) else "messages"] += len(taken)
    if not rows:
        reasons = account.dropped.get("example", {}).items()
        raise InputError(
            f"no {target.name} can be made of {counted(len(examples), 'example')} with {count(examples).words()} "
            f"(dropped: {', '.join(told('example', *one) for one in reasons)}); convert to another form"
        )
    return Conversion(tuple(rows), account, tuple(notes(rows[0], kinds, target)))


def notes(first: dict[str, object], kinds: dict[str, int], target: Target) -> list[str]:
    """What the one who loads TRL's rows should know."""
    said = []
    if "messages" in first:
        said.append(
            "note: TRL trains on every turn of `messages`; its setting assistant_only_loss leaves out those of others"
        )
    if target.name.startswith("TRL") and all(kinds.values()):
        held = f"{counted(kinds['text'], 'row')} of text and {counted(kinds['messages'], 'row')} of messages"
        said.append(f"note: there are {held}; TRL wants one kind in a file")
    return said
