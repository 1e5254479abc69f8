"""How much feedback of each kind examples hold; and a view over all of them, with an account of what it leaves out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

from trueup.errors import InputError
from trueup.feedback.records import Discarded, Example, Group, Origin, Relation, View, units_of
from trueup.words import counted

SINGLE = "a single response cannot be ranked"


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found: `Counts(responses=4, comparisons=2)`."""

    responses: int = 0
    comparisons: int = 0
    scored: int = 0
    """Responses with a score."""
    labelled: int = 0
    """Responses with a label."""
    demonstrations: int = 0
    """Responses to imitate."""

    def words(self) -> str:
        """The kinds that are there: `2 comparisons, 4 scored responses`."""
        kinds = (
            (self.comparisons, "comparison"),
            (self.scored, "scored response"),
            (self.labelled, "labelled response"),
            (self.demonstrations, "demonstration"),
        )
        there = [counted(number, noun) for number, noun in kinds if number]
        if not self.responses:
            return "no examples"
        return ", ".join(there) or f"{counted(self.responses, 'response')} without feedback"


def count(examples: Iterable[Example]) -> Counts:
    """Count the feedback in examples."""
    responses = comparisons = scored = labelled = demonstrations = 0
    for example in examples:
        responses += len(example.responses)
        comparisons += len(example.comparisons)
        scored += sum(one.score is not None for one in example.responses)
        labelled += sum(one.label is not None for one in example.responses)
        demonstrations += sum(one.demonstration for one in example.responses)
    return Counts(responses, comparisons, scored, labelled, demonstrations)


@dataclass(frozen=True, slots=True)
class Viewed(Generic[Relation]):
    """What a view made of examples."""

    view: str
    groups: tuple[Group[Relation], ...]
    discarded: Mapping[str, tuple[Origin | None, ...]]
    """Why examples gave no group -> where they came from."""
    examples: int
    """How many examples were looked at."""
    responses: int
    """How many responses the groups hold."""
    responses_left_out: int
    """How many responses the examples of these groups hold beside them."""
    comparisons_left_out: int
    """How many comparisons of these examples a view of pairs does not use."""
    units: Mapping[str, int]
    """What the groups amount to: `{"pairs": 4650}`."""

    def lines(self) -> list[str]:
        """The account for people.

        Example: `pairs: 3 examples gave 2 groups, 4 responses, 2 pairs; discarded: 1 for identical pair
        (a.jsonl:3)`.
        """
        made = [counted(len(self.groups), "group"), counted(self.responses, "response")]
        made += [counted(number, noun.removesuffix("s")) for noun, number in self.units.items()]
        lost = [f"{len(where)} for {reason}{places(where)}" for reason, where in self.discarded.items()]
        lines = [
            f"{self.view}: {counted(self.examples, 'example')} gave {', '.join(made)}"
            + (f"; discarded: {', '.join(lost)}" if lost else "")
        ]
        left = ((self.responses_left_out, "response"), (self.comparisons_left_out, "comparison"))
        if any(number for number, _ in left):
            named = " and ".join(counted(number, noun) for number, noun in left if number)
            lines.append(f"{self.view}: {named} of these examples not used")
        return lines


def apply(view: View[Relation], examples: Iterable[Example]) -> Viewed[Relation]:
    """Run a view over examples, in order.

    Raises:
        InputError: the view finds nothing to use in any of them.
    """
    seen = list(examples)
    made = look(view, seen)
    if not made.groups:
        raise nothing_left(made.view, seen, made.discarded)
    return made


def look(view: View[Relation], examples: Sequence[Example]) -> Viewed[Relation]:
    """As `apply`, where it may be that nothing is left."""
    groups: list[Group[Relation]] = []
    discarded: dict[str, list[Origin | None]] = {}
    units: Counter[str] = Counter()
    responses = responses_left_out = comparisons_left_out = 0
    for example in examples:
        made = view(example)
        if isinstance(made, Discarded):
            discarded.setdefault(made.reason, []).append(made.origin)
            continue
        groups.append(made)
        amount = units_of(made)
        units.update(amount)
        responses += len(made.responses)
        responses_left_out += len(example.responses) - len(made.responses)
        if "pairs" in amount and example.comparisons:
            comparisons_left_out += len(example.comparisons) - amount["pairs"]
    return Viewed(
        view=name_of(view),
        groups=tuple(groups),
        discarded={reason: tuple(where) for reason, where in discarded.items()},
        examples=len(examples),
        responses=responses,
        responses_left_out=responses_left_out,
        comparisons_left_out=comparisons_left_out,
        units=dict(units),
    )


def name_of(view: View[Relation]) -> str:
    """The name of a view in words, also of one with settings bound by `partial`."""
    function = view.func if isinstance(view, partial) else view
    return str(getattr(function, "__name__", type(function).__name__)).replace("_", " ")


def places(where: Iterable[Origin | None], limit: int = 3) -> str:
    """The first few places in brackets; nothing where none is known."""
    known = [str(origin) for origin in where if origin is not None]
    return f" ({', '.join([*known[:limit], *(['...'] if len(known) > limit else [])])})" if known else ""


def nothing_left(
    view: str, examples: list[Example], reasons: Mapping[str, tuple[Origin | None, ...]]
) -> InputError:
    """The error of a view that finds nothing: what was there, what was asked, what to do."""
    if not examples:
        return InputError(f"there are no examples to make {view} of; give at least one file with rows")
    files = dict.fromkeys(example.origin.file for example in examples if example.origin is not None)
    where = f" of {', '.join(files)}" if files else ""
    why = ", ".join(f"{len(found)} for {reason}" for reason, found in reasons.items())
    prompts = {example.prompt.key for example in examples}
    merge = "put the responses to one prompt together with --merge-prompts true, where the method has it, "
    instead = merge if SINGLE in reasons and len(prompts) < len(examples) else ""
    return InputError(
        f"the {counted(len(examples), 'example')}{where} hold {count(examples).words()}, and no "
        f"{view} can be made of that (discarded: {why}); {instead}give other feedback, or choose a "
        "method that uses this kind (`trueup methods` lists what each needs)"
    )
