"""Feedback written in another form, with an account of what it holds and what not: canonical rows, or TRL's plain ones.

What an example becomes is said in smaller examples, each of which one row holds; what they do not state is dropped, and
named with its reason and rows. In canonical rows, what a view finds is put in the words of that view, so that it finds
the same again. TRL's rows are a pair, a labelled completion or a demonstration each. https://huggingface.co/docs/trl
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from trueup import errors, words
from trueup.feedback import canonical, records, turns, views
from trueup.feedback.layouts import layout, readers
from trueup.feedback.records import Comparison, Discarded, Example, Origin, Response, View

R = TypeVar("R")

NOUNS = {one: f"{one}s" for one in ("example", "response", "score", "label", "demonstration mark", "source")}
NOUNS |= {"list of token ids": "lists of token ids", "comparison": "comparisons"}
NOUNS |= {"probability": "probabilities", "vote": "votes"}
"""Kinds of parts, and several of each. A probability is one that is not 1: a comparison that is not sure."""
Places = tuple[int, ...]
RowContent = tuple[Example, Places]
"""What one row of the output says, as an example, and where its responses stand in the one that it comes from."""
Taken = tuple[RowContent, ...] | Discarded


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    take: Callable[[Example], Taken]
    row: Callable[[Example], dict[str, object]]
    """A piece as a JSON-ready object; what reads files makes the same piece of it."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Kind -> why some of it is not in the output; of kinds that are not here the output holds none."""

    def reason(self, kind: str) -> str:
        unit = "row" if self.name.startswith("TRL") else "file"
        return self.why.get(kind, f"a {unit} of {self.name} holds no {NOUNS[kind]}")


@dataclass(slots=True)
class Account:
    """What became of the parts of all examples that were converted so far."""

    target: Target
    made: Counter[str] = field(default_factory=Counter)
    """Kind -> how many parts of the output the input does not state as such."""
    dropped: dict[str, list[Origin | None]] = field(default_factory=dict)
    """Kind -> where each part comes from that is not in the output, of examples that are."""
    unused: dict[str, list[Origin | None]] = field(default_factory=dict)
    """Reason -> where the examples come from of which nothing is in the output."""
    along: Counter[str] = field(default_factory=Counter)
    """Kind -> parts of those."""

    def lost(self, kind: str) -> int:
        return len(self.dropped.get(kind, ())) + self.along[kind]

    def add(self, example: Example, taken: Taken) -> None:
        stated = parts(everything(example))
        if isinstance(taken, Discarded):
            self.along.update(kind for kind, _ in stated)
            self.unused.setdefault(taken.reason, []).append(example.origin)
            return
        written = parts(taken)
        self.made.update(kind for kind, at in written if stated.get((kind, at)) != written[kind, at])
        for (kind, at), value in stated.items():
            if written.get((kind, at)) != value:
                self.dropped.setdefault(kind, []).append(example.origin)

    def unused_words(self) -> str:
        return ", ".join(f"{len(where)} for {why}{views.places(where)}" for why, where in self.unused.items())

    def lines(self) -> list[str]:
        lines = [f"dropped {several(self.lost('example'), 'example')}: {self.unused_words()}"] if self.unused else []
        for kind in filter(self.lost, list(NOUNS)[1:]):
            told = [f"{self.along[kind]} with their example"] if self.along[kind] else []
            if where := self.dropped.get(kind):
                told.insert(0, f"{len(where)} because {self.target.reason(kind)}{views.places(dict.fromkeys(where))}")
            lines.append(f"dropped {several(self.lost(kind), kind)}: {', '.join(told)}")
        made = (several(number, kind) for kind in NOUNS if (number := self.made[kind]))
        return [*lines, *(f"made {one} from what else is said of the responses" for one in made)]


def several(number: int, kind: str) -> str:
    return f"{number} {kind if number == 1 else NOUNS[kind]}"


def everything(example: Example) -> tuple[RowContent, ...]:
    return ((example, tuple(range(len(example.responses)))),)


def parts(pieces: Sequence[RowContent]) -> dict[tuple[str, Any], object]:
    """Everything that the pieces of an example state, with its value, by the positions of the responses in it."""
    stated: dict[tuple[str, Any], object] = {("example", 0): True}
    seen: Counter[object] = Counter()
    for example, positions in pieces:
        for at, response in zip(positions, example.responses, strict=True):
            said = {kind: getattr(response, kind) for kind in ("score", "label", "source")}
            said |= {"response": True, "demonstration mark": response.demonstration or None}
            said |= {"list of token ids": response.tokens}
            stated |= {(kind, at): value for kind, value in said.items() if value is not None}
        for one in example.comparisons:
            ends = (positions[one.better], positions[one.worse])
            seen[ends] += 1
            stated["comparison", (ends, seen[ends])] = True
            if one.probability != 1:
                stated["probability", (ends, seen[ends])] = one.probability
        for number, vote in enumerate(example.votes):
            stated["vote", number] = vote
    return stated


def look_at(view: View[R], example: Example) -> tuple[R, Places] | Discarded:
    """The relation that a view finds in an example, and where the responses that it relates stand there."""
    marked = (replace(one, tokens=(position,)) for position, one in enumerate(example.responses))
    group = view(replace(example, responses=tuple(marked)))
    if isinstance(group, Discarded):
        return group
    return group.relation, tuple(ids[0] for ids in group.tokens if ids is not None)


@dataclass(frozen=True, slots=True)
class Conversion:
    rows: tuple[dict[str, object], ...]
    account: Account
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        return [*self.account.lines(), *self.notes]


def convert(examples: Sequence[Example], target: Target) -> Conversion:
    """Write examples as rows of the target's form, in order; InputError where it finds nothing to write."""
    account = Account(target)
    rows = []
    kinds = Counter[bool]()
    for example in examples:
        taken = target.take(example)
        account.add(example, taken)
        if not isinstance(taken, Discarded):
            rows += [target.row(one) for one, _ in taken]
            kinds[isinstance(example.prompt.content, str)] += len(taken)
    if not rows:
        held = f"{words.counted(len(examples), 'example')} with {records.count(examples).words()}"
        dropped = f"(dropped: {account.unused_words()})"
        raise errors.InputError(f"no {target.name} can be made of {held} {dropped}; convert to another form")
    notes = [ON_EVERY_TURN] if "messages" in rows[0] else []
    if target.name.startswith("TRL") and len(kinds) > 1:
        held = f"{words.counted(kinds[True], 'row')} of text and {words.counted(kinds[False], 'row')} of messages"
        notes.append(f"note: there are {held}; TRL wants one kind in a file")
    return Conversion(tuple(rows), account, tuple(notes))


REPEATS = "both responses begin with the prompt, which would be taken off them"
NO_PAIR, LEFT_OUT = "no pair uses it", "it belongs to what is left out"
NOT_SURE = "its two responses are identical, or comparisons contradict each other"
BESIDE = dict.fromkeys(("source", "list of token ids"), LEFT_OUT)
"""What every canonical row can hold."""
ON_EVERY_TURN = "note: TRL trains on every turn of `messages`; its assistant_only_loss leaves out those of others"
Pieces = Callable[[Example, R, Places], Taken]
"""Example, what a view found in it, and the positions of the responses that this relates -> what the output says."""


def seen_by(view: View[R], make: Pieces[R], *, answered: bool = True) -> Callable[[Example], Taken]:
    """What is made of what a view finds; `answered`: a row can hold a prompt that ends with an answer."""

    def take(example: Example) -> Taken:
        if not answered and turns.ends_with_assistant(example.prompt.content):
            return Discarded(layout.PROMPT_ANSWERED, example.origin)
        found = look_at(view, example)
        return found if isinstance(found, Discarded) else make(example, *found)

    return take


def as_pairs(example: Example, relation: records.PairRelation, positions: Places) -> tuple[RowContent, ...]:
    compared = (Comparison(*one) for one in relation.pairs)
    return (piece(example, positions, [unjudged(example, at) for at in positions], *compared),)


def as_rankings(example: Example, relation: records.RankRelation, positions: Places) -> tuple[RowContent, ...]:
    ranked = zip(positions, relation.scores, strict=True)
    return (piece(example, positions, [unjudged(example, at, score=score) for at, score in ranked]),)


def as_points(example: Example, relation: records.PointRelation, positions: Places) -> tuple[RowContent, ...]:
    """The responses that have a label or are marked as demonstrations; nothing else is a label by itself."""
    labelled = []
    for at, label, marked in zip(positions, relation.labels, relation.demonstrations, strict=True):
        # A demonstration goes without a label: it is taken for 1 again.
        unsaid = marked and example.responses[at].label is None
        labelled.append(unjudged(example, at, label=None if unsaid else label, demonstration=marked))
    return (piece(example, positions, labelled),)


def unjudged(example: Example, at: int, **said: Any) -> Response:
    return replace(example.responses[at], **{"score": None, "label": None, "demonstration": False, **said})


def piece(example: Example, at: Places, responses: Sequence[Response], *compared: Comparison) -> RowContent:
    return Example(example.prompt, tuple(responses), compared), at


as_own = partial(Target, row=canonical.example_to_row)
CANONICAL = as_own("canonical", everything)
OF_PAIRS = {"response": NO_PAIR, "comparison": NOT_SURE, "probability": LEFT_OUT, **BESIDE}
PAIRS = as_own("pairs", seen_by(views.pairs, as_pairs), why=OF_PAIRS)
OF_RANKINGS = {"response": "it has no rank", "score": LEFT_OUT, **BESIDE}
RANKINGS = as_own("rankings", seen_by(views.rankings, as_rankings), why=OF_RANKINGS)
OF_POINTS = {"response": "nothing labels it", "label": LEFT_OUT, "demonstration mark": LEFT_OUT, **BESIDE}
POINTS = as_own("points", seen_by(views.points_with_demonstrations, as_points), why=OF_POINTS)
OWN = {target.name: target for target in (CANONICAL, PAIRS, RANKINGS, POINTS)}


def trl_pairs(example: Example, relation: records.PairRelation, positions: Places) -> Taken:
    pieces = []
    for better, worse, _ in relation.pairs:
        at = (positions[better], positions[worse])
        chosen, rejected = (example.responses[position] for position in at)
        if readers.repeated_prompt(example.prompt.content, chosen.content, rejected.content):
            continue
        source = chosen.source if chosen.source == rejected.source else None
        sides = [Response(one.content, score=one.score, source=source) for one in (chosen, rejected)]
        pieces.append(piece(example, at, sides, Comparison(0, 1)))
    return tuple(pieces) or Discarded(REPEATS, example.origin)


def trl_points(least: float | None, example: Example, found: records.PointRelation, places: Places) -> Taken:
    pieces = []
    for at, given in zip(places, found.labels, strict=True):
        label = given if least is None else float(given >= least)
        if label in (0, 1):
            pieces.append(piece(example, (at,), [unjudged(example, at, label=label, tokens=None)]))
    return tuple(pieces) or Discarded("no label is true or false", example.origin)


def trl_demonstrations(example: Example, relation: records.DemonstrationRelation, positions: Places) -> Taken:
    shown = ((at, unjudged(example, at, demonstration=True, tokens=None)) for at in positions)
    return tuple(piece(example, (at,), [response]) for at, response in shown)


def pair_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "chosen": ..., "rejected": ..., "score_chosen": ..., "score_rejected": ...}`."""
    chosen, rejected = piece.responses
    better, worse = (canonical.content_json(one.content) for one in piece.responses)
    scores = {"score_chosen": chosen.score, "score_rejected": rejected.score}
    return trl_row(piece, chosen=better, rejected=worse, **scores)


def completion_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "completion": ...}`, with `"label": true` or `false` where the response has a label."""
    (response,) = piece.responses
    label = None if response.label is None else response.label == 1
    return trl_row(piece, completion=canonical.content_json(response.content), label=label)


def trl_row(piece: Example, **said: object) -> dict[str, object]:
    prompt = canonical.prompt_json(piece.prompt)
    row = {"prompt": prompt.pop("prompt"), **said, "source": piece.responses[0].source, **prompt}
    return {key: value for key, value in row.items() if value is not None}


def conversation_row(piece: Example) -> dict[str, object] | None:
    """`{"messages": ...}`; None where prompt and response, put together, do not come apart at the same place."""
    prompt, response = piece.prompt.content, piece.responses[0].content
    if isinstance(prompt, str) or isinstance(response, str):
        return None
    if turns.split_at_last_request(prompt + response) != (prompt, response):
        return None
    return trl_row(piece, prompt=None, messages=canonical.content_json(prompt + response))


OF_TRL_PAIRS = {
    "response": NO_PAIR,
    "score": LEFT_OUT,
    "comparison": f"{NOT_SURE}, or {REPEATS}",
    "probability": "a row of TRL's pairs is a plain preference",
    "source": "a row of TRL's pairs has two sides with one source",
}
TRL_PAIRS = Target("TRL's pairs", seen_by(views.pairs, trl_pairs, answered=False), pair_row, OF_TRL_PAIRS)


def trl_points_target(threshold: float | None) -> Target:
    take = seen_by(views.points, partial(trl_points, threshold), answered=False)
    unlabelled = "it has no label, or one that is neither true nor false (--threshold makes it one of them)"
    why = {"response": unlabelled, "label": LEFT_OUT, "source": LEFT_OUT}
    why |= {} if threshold is None else {"response": "nothing labels it", "label": "the threshold made another of it"}
    return Target("TRL's points", take, completion_row, why)


def trl_demonstrations_target(examples: Sequence[Example]) -> Target:
    """Rows of messages if every demonstration comes apart again, else prompts and completions: one layout a file."""
    take = seen_by(views.demonstrations, trl_demonstrations, answered=False)
    made = [one for one in map(take, examples) if not isinstance(one, Discarded)]
    comes_apart = all(conversation_row(one) for pieces in made for one, _ in pieces)

    def row(piece: Example) -> dict[str, object]:
        return (conversation_row(piece) if comes_apart else None) or completion_row(piece)

    why = {"response": "nothing says that it is to be imitated", "demonstration mark": LEFT_OUT, "source": LEFT_OUT}
    return Target("TRL's demonstrations", take, row, why)


def usual_kind(examples: Sequence[Example]) -> str:
    """Pairs if there are comparisons, or scores alone, which rank; else points, else demonstrations."""
    found = records.count(examples)
    if found.comparisons:
        return "pairs"
    return "points" if found.labelled else "demonstrations" if found.demonstrations else "pairs"
