"""Every kind of problem that an inspection can find, and a problem that was found, with every place where it stands."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from trueup.feedback.records import Example, Origin

PARTS = ("training", "evaluation")
"""The parts of the data."""


class Severity(StrEnum):
    """How much a problem matters."""

    error = "error"
    """Training would refuse it."""
    warning = "warning"
    """Training would leave it out, or learn something odd."""
    note = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A kind of problem."""

    severity: Severity
    what: str
    """A clause; `{}` stands for what is said of the case at hand."""
    remedy: str


TABLE = """
error unreadable-file: a file cannot be read
    mend it as said below
error no-examples: no row can be used
    give other data
error malformed-row: the row is malformed
    mend it as said below, or train with --skip-bad
warning unusable-row: {}
    training leaves it out; mend or delete it
warning misspelt-key: a key is not used: {}
    rename it if it was meant
warning unused-request-key: keys that look like part of the request are not used: {}
    put what they say into the prompt, or delete them
warning unused-judgement-key: keys that look like a judgement are not used: {}
    give it as a score, label or comparison, or delete them
note unused-key: keys that are not used: {}
    nothing, if they say nothing of the responses
warning duplicate: prompt, responses and feedback are those of an earlier row
    delete it, or training counts it again
warning identical-responses: two responses to one prompt are identical
    delete one; training by pairs leaves such pairs out
warning contradicting-comparisons: comparisons of the row contradict each other
    settle which holds; training leaves them out
warning contradicting-scores: the chosen response has the lower score or label
    settle which holds; pairs would learn the one, rankings the other
warning contradicting-rows: an earlier row prefers two responses the other way round
    settle which holds, or give a probability
warning contradicting-labels: a response is labelled good here and bad in an earlier place, or the reverse
    settle which holds, or give a label between 0 and 1
warning all-scores-equal: all scores of the row are equal
    give finer scores; pairs and rankings leave it out
note tie: some scores of the row are equal
    nothing; tied responses are not paired
note single-response: the only response of the row has a score
    give more responses, or a label; pairs and rankings leave it out
warning demonstrated-by-score: demonstrations would be all single responses, with whatever score: {}
    leave out those not to imitate, or give labels
warning near-empty-response: a response has fewer than {} visible characters
    look at it; --min-visible sets the number
warning empty-prompt: the prompt shows nothing
    look at it
warning no-feedback: nothing is said of the responses
    add labels, scores, comparisons or marks
warning one-class: all labels are {}
    add others; methods on labels need both
warning prompt-overlap: the evaluation prompt is also in the training data
    delete it from one of the two
error cannot-encode: {}
    as said; training stops at such a row
error vocabulary: the tokenizer knows {}
    give the right tokenizer, or resize the embeddings and save again
warning left-out: {}
    training leaves it out; raise --max-length, or set --max-prompt-length
warning cut-response: a response loses its end, and its end of sequence, to max_length {}
    raise --max-length, or shorten it
warning cut-prompt: the prompt loses its beginning to max_prompt_length {}
    raise --max-prompt-length
warning double-beginning: the prompt begins with two beginning-of-sequence tokens
    take one out of the text or the chat template
warning no-beginning: the prompt lacks the beginning-of-sequence token that the tokenizer puts first
    write it into the chat template
note spelled-beginning: the text spells the beginning of sequence that the tokenizer adds
    nothing; one is taken
warning double-end: a response ends with two end-of-sequence tokens
    take one out of the text
warning text-after-end: a response goes on after an end-of-sequence token
    take the token out of the text
note template-without-end: the chat template does not end an answer with an end-of-sequence token
    nothing, or mend the template; the tokenizer's own is put there
warning empty-as-tokens: a response has no token but its end
    look at it; the tokenizer cannot express it
warning unknown-tokens: the text holds what the tokenizer does not know
    look at it; the model sees a mark for unknown text there
warning lost-text: the tokenizer drops characters of the text
    look at it; replace them, or take another model
note unused-message-key: the chat template leaves out the key {} of messages
    nothing, or give another template with --chat-template
note spelled-special: a response of raw text spells a special token
    nothing; it is encoded as plain text
note padding-is-end: the tokenizer pads with an end-of-sequence token
    nothing; positions are masked, not tokens
note encoding: {}
    look at an example below
"""
"""Of each kind its severity, name and clause, and below them what to do."""
_LINES = TABLE.strip().splitlines()
KINDS: Mapping[str, FindingKind] = {
    name: FindingKind(Severity(severity), what, remedy.strip())
    for head, remedy in zip(_LINES[::2], _LINES[1::2], strict=True)
    for severity, name, what in [re.split(":? ", head, maxsplit=2)]
}
"""Name, stable for programs -> kind: all of them, gravest of each stage first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of problem and where it is; docs/inspect.md tells what the fields are to a program."""

    kind: str
    severity: Severity
    part: str | None
    """`training` or `evaluation`; None where it concerns neither alone."""
    what: str
    """A clause that names it."""
    remedy: str
    count: int
    """How many rows have it; 1 where it concerns a file or the data as a whole."""
    rows: Mapping[str, Sequence[int]]
    """File -> the rows of it."""
    details: Sequence[str] = ()
    """A line on each place, where there is more to say of it."""


def problem(
    name: str,
    origins: Iterable[Origin | None] = (),
    details: Iterable[str] = (),
    about: object = "",
    part: str | None = None,
    count: int | None = None,
) -> Finding:
    """A problem of the rows that come from some places.

    Args:
        name: of its kind, one of `KINDS`.
        about: what is said of the case at hand: the number, the reason, the key.
        count: None counts the places; 1 where there are none.
    """
    kind, places = KINDS[name], list(origins)
    rows: dict[str, list[int]] = {}
    for origin in places:
        if origin is not None:
            rows.setdefault(origin.file, []).append(origin.row)
    what = kind.what.replace("{}", str(about))
    number = (len(places) or 1) if count is None else count
    return Finding(name, kind.severity, part, what, kind.remedy, number, rows, tuple(details))


def found(
    name: str, examples: Sequence[Example], details: Iterable[str] = (), about: object = ""
) -> list[Finding]:
    """The problem of some examples; nothing where there are none."""
    return [problem(name, [one.origin for one in examples], details, about)] if examples else []


def in_part(problems: Iterable[Finding], part: str) -> list[Finding]:
    """The problems, each said to be of a part of the data."""
    return [replace(one, part=part) for one in problems]
