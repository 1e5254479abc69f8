"""What a layout is: how to recognise its rows, and how to turn one into an example."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from trueup.feedback.canonical import prompt_from
from trueup.feedback.fields import Field
from trueup.feedback.records import Discarded, Example, Message, Origin
from trueup.feedback.turns import WRITTEN, as_messages, ends_with_assistant, holds_messages

RowValue = Mapping[str, object]

LABELS = ("label", "kto_tag", "is_desirable", "is_correct")
"""Keys whose value says how desirable a response is, where a layout takes them."""
SCORES = ("score", "reward", "rating")
"""Keys whose value scores a response, where a layout takes them."""
SIDES = ("chosen", "rejected")
"""Keys of the better and the worse response of a pair."""
JUDGEMENTS = (
    *LABELS,
    *SCORES,
    "labels",
    "scores",
    "rank",
    *SIDES,
    "rejected_response",
    "rejected_messages",
    "feedback",
    "thumb",
    "thumbs",
    "vote",
    "liked",
    "verdict",
    "winner",
    "preference",
    "is_safe",
    "helpfulness",
)
"""Keys that judge a response: in a row that has one, it is not simply one to imitate."""
REQUEST = ("history", "context")
"""Keys that hold a part of what was asked, beside a prompt."""
PROMPT_ANSWERED = "the prompt ends with a turn of the assistant"
TWICE = "differs from the system prompt with which the messages begin; keep one of them"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people write feedback down."""

    name: str
    """As reports say it: `HH transcripts`."""
    keys: tuple[str, ...]
    """The keys every row has."""
    meaning: str
    """One sentence: what a row is taken for."""
    convert: Callable[[Field], Example | Discarded]
    """Row -> what it says, before the keys that mean the same in every layout: `system`, `source` and `tools`; raises
    InputError for a field that is missing, of the wrong type or out of range."""
    optional: tuple[str, ...] = ()
    """Further keys that are used where they are there; `system`, `source` and `tools` are read by `example`."""
    text: tuple[str, ...] = ()
    """Those of the keys whose value is text, or messages: a column of CSV is that even if it looks like numbers."""
    foreign: tuple[str, ...] = ()
    """Keys that make a row one of another layout."""
    named: Callable[[RowValue], Collection[str]] = lambda row: ()
    """Further keys of a row that are used, where whoever wrote the file chose their names."""
    fits: Callable[[RowValue], bool] = lambda row: True
    """What the values of a row must look like, where the keys alone do not tell."""
    request: tuple[str, ...] = ()
    """Keys that hold a part of what was asked and are not read here: a row in which one says something is refused."""
    further: bool = False
    """Whether a response may be one more turn after a turn of the assistant."""
    inside: str = ""
    """The key whose object may hold `tools`, as may the row itself."""
    not_kept: str = ""
    """What rows of this layout say within the keys that are used, and examples do not hold."""

    def recognises(self, row: RowValue) -> bool:
        """Whether a file whose first row this is has this layout."""
        keys_fit = all(key in row for key in self.keys) and not any(key in row for key in self.foreign)
        return keys_fit and self.fits(row)

    def example(self, value: RowValue, origin: Origin) -> Example | Discarded:
        """Convert a row, after making sure that its keys are those of this layout.

        Raises:
            InputError: the row does not fit.
        """
        row = Field(value, origin)
        self._check_keys(row)
        draft = self.convert(row)
        if isinstance(draft, Discarded):
            return draft
        prompt, responses = draft.prompt.content, draft.responses
        if "source" in self.optional and (source := row.optional("source", Field.text)) is not None:
            responses = tuple(replace(one, source=source) for one in responses)
        if "system" in self.optional and "system" in row:
            responses = tuple(replace(one, content=as_messages(one.content)) for one in responses)
            turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
            prompt = after_system(turns, row)
        with_keys = prompt_from(prompt, self._with_tools(row), self.optional)
        if ends_with_assistant(prompt) and not self.further:
            return Discarded(PROMPT_ANSWERED)
        return Example(with_keys, responses, draft.comparisons, draft.votes)

    def _with_tools(self, row: Field) -> Field:
        """What holds `tools`: the row, or the object under the key `inside`."""
        if not self.inside:
            return row
        inner = row[self.inside].object()
        if not (own := row.value.get("tools")):
            return inner
        if inner.value.get("tools") not in (None, [], own):
            raise row["tools"].fault(f"differs from the tools of {self.inside!r}; keep one of them")
        return row

    def _check_keys(self, row: Field) -> None:
        taken = f"the file was taken for {self.name} from its first row; keep one layout in a file"
        for key in self.keys:
            row.needed(key, taken)
        for key in self.foreign:
            if key in row:
                raise row.at(key).fault(
                    f"this key makes the row one of another layout, but {taken}{remedy(key)}"
                )
        for key in self.request:
            if row.value.get(key) not in (None, "", [], *(row.value[one] for one in self.keys)):
                raise row.at(key).fault(
                    f"a part of what was asked, which {self.name} does not read; put it into {self.keys[0]!r}, or "
                    "leave the key out"
                )
        for key in self.keys:
            value = row.value[key]
            if isinstance(value, str) and holds_messages(value):
                raise row.at(key).fault(f"found {WRITTEN}")

    def unused(self, row: RowValue) -> list[str]:
        """The keys of a row that mean nothing here."""
        used = {*self.keys, *self.optional, *self.named(row)}
        return [key for key in row if key not in used]


def remedy(key: str) -> str:
    """What to do with a key that judges a response; nothing for others."""
    return (
        f"; {key!r} judges a response: rename the key or leave it out if it does not"
        if key in JUDGEMENTS
        else ""
    )


def after_system(turns: tuple[Message, ...], row: Field) -> tuple[Message, ...]:
    """The turns after the row's system prompt, if it has one under a key of its own, `{"system": "Be short.", ...}`.

    Raises:
        InputError: it is not text, or the turns begin with another system prompt.
    """
    system = row.optional("system", Field.text)
    if not system:
        return turns
    if turns and turns[0].role in ("system", "developer"):
        if turns[0].content != system:
            raise row.at("system").fault(TWICE)
        return turns
    return (Message("system", system), *turns)
