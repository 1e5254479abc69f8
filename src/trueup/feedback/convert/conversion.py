"""Examples into rows of another form, with an account of what these hold and what not."""

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback.convert.account import Account, counted_reasons
from trueup.feedback.convert.pieces import Target
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.feedback.viewed import count
from trueup.words import counted


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
        raise InputError(
            f"no {target.name} can be made of {counted(len(examples), 'example')} with {count(examples).words()} "
            f"(dropped: {counted_reasons(account.dropped.get('example', {}))}); convert to another form"
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
