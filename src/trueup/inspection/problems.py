"""Every kind of problem that an inspection can find, and a problem that was found, with every place where it stands."""

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
class Kind:
    """A kind of problem."""

    name: str
    """Stable, for programs."""
    severity: Severity
    what: str
    """A clause; `{}` stands for what is said of the case at hand."""
    remedy: str


E, W, N = Severity.error, Severity.warning, Severity.note

UNREADABLE_FILE = Kind("unreadable-file", E, "a file cannot be read", "mend it as said below")
NO_EXAMPLES = Kind("no-examples", E, "no row can be used", "give other data")
MALFORMED_ROW = Kind(
    "malformed-row", E, "the row is malformed", "mend it as said below, or train with --skip-bad"
)
UNUSABLE_ROW = Kind("unusable-row", W, "{}", "training leaves it out; mend or delete it")
MISSPELT_KEY = Kind("misspelt-key", W, "a key is not used: {}", "rename it if it was meant")
UNUSED_REQUEST_KEY = Kind(
    "unused-request-key",
    W,
    "keys that look like part of the request are not used: {}",
    "put what they say into the prompt, or delete them",
)
UNUSED_JUDGEMENT_KEY = Kind(
    "unused-judgement-key",
    W,
    "keys that look like a judgement are not used: {}",
    "give it as a score, label or comparison, or delete them",
)
UNUSED_KEY = Kind(
    "unused-key", N, "keys that are not used: {}", "nothing, if they say nothing of the responses"
)

DUPLICATE = Kind(
    "duplicate",
    W,
    "prompt, responses and feedback are those of an earlier row",
    "delete it, or training counts it again",
)
IDENTICAL_RESPONSES = Kind(
    "identical-responses",
    W,
    "two responses to one prompt are identical",
    "delete one; training by pairs leaves such pairs out",
)
CONTRADICTING_COMPARISONS = Kind(
    "contradicting-comparisons",
    W,
    "comparisons of the row contradict each other",
    "settle which holds; training leaves them out",
)
CONTRADICTING_SCORES = Kind(
    "contradicting-scores",
    W,
    "the chosen response has the lower score or label",
    "settle which holds; pairs would learn the one, rankings the other",
)
CONTRADICTING_ROWS = Kind(
    "contradicting-rows",
    W,
    "an earlier row prefers two responses the other way round",
    "settle which holds, or give a probability",
)
CONTRADICTING_LABELS = Kind(
    "contradicting-labels",
    W,
    "a response is labelled good here and bad in an earlier place, or the reverse",
    "settle which holds, or give a label between 0 and 1",
)
ALL_SCORES_EQUAL = Kind(
    "all-scores-equal",
    W,
    "all scores of the row are equal",
    "give finer scores; pairs and rankings leave it out",
)
TIE = Kind("tie", N, "some scores of the row are equal", "nothing; tied responses are not paired")
SINGLE_RESPONSE = Kind(
    "single-response",
    N,
    "the only response of the row has a score",
    "give more responses, or a label; pairs and rankings leave it out",
)
DEMONSTRATED_BY_SCORE = Kind(
    "demonstrated-by-score",
    W,
    "demonstrations would be all single responses, with whatever score: {}",
    "leave out those not to imitate, or give labels",
)
NEAR_EMPTY_RESPONSE = Kind(
    "near-empty-response",
    W,
    "a response has fewer than {} visible characters",
    "look at it; --min-visible sets the number",
)
EMPTY_PROMPT = Kind("empty-prompt", W, "the prompt shows nothing", "look at it")
NO_FEEDBACK = Kind(
    "no-feedback", W, "nothing is said of the responses", "add labels, scores, comparisons or marks"
)
ONE_CLASS = Kind("one-class", W, "all labels are {}", "add others; methods on labels need both")
PROMPT_OVERLAP = Kind(
    "prompt-overlap",
    W,
    "the evaluation prompt is also in the training data",
    "delete it from one of the two",
)

CANNOT_ENCODE = Kind("cannot-encode", E, "{}", "as said; training stops at such a row")
VOCABULARY = Kind(
    "vocabulary",
    E,
    "the tokenizer knows {}",
    "give the right tokenizer, or resize the embeddings and save again",
)
LEFT_OUT = Kind("left-out", W, "{}", "training leaves it out; raise --max-length, or set --max-prompt-length")
CUT_RESPONSE = Kind(
    "cut-response",
    W,
    "a response loses its end, and its end of sequence, to max_length {}",
    "raise --max-length, or shorten it",
)
CUT_PROMPT = Kind(
    "cut-prompt", W, "the prompt loses its beginning to max_prompt_length {}", "raise --max-prompt-length"
)
DOUBLE_BEGINNING = Kind(
    "double-beginning",
    W,
    "the prompt begins with two beginning-of-sequence tokens",
    "take one out of the text or the chat template",
)
NO_BEGINNING = Kind(
    "no-beginning",
    W,
    "the prompt lacks the beginning-of-sequence token that the tokenizer puts first",
    "write it into the chat template",
)
SPELLED_BEGINNING = Kind(
    "spelled-beginning",
    N,
    "the text spells the beginning of sequence that the tokenizer adds",
    "nothing; one is taken",
)
DOUBLE_END = Kind(
    "double-end", W, "a response ends with two end-of-sequence tokens", "take one out of the text"
)
TEXT_AFTER_END = Kind(
    "text-after-end",
    W,
    "a response goes on after an end-of-sequence token",
    "take the token out of the text",
)
TEMPLATE_WITHOUT_END = Kind(
    "template-without-end",
    N,
    "the chat template does not end an answer with an end-of-sequence token",
    "nothing, or mend the template; the tokenizer's own is put there",
)
EMPTY_AS_TOKENS = Kind(
    "empty-as-tokens",
    W,
    "a response has no token but its end",
    "look at it; the tokenizer cannot express it",
)
UNKNOWN_TOKENS = Kind(
    "unknown-tokens",
    W,
    "the text holds what the tokenizer does not know",
    "look at it; the model sees a mark for unknown text there",
)
LOST_TEXT = Kind(
    "lost-text",
    W,
    "the tokenizer drops characters of the text",
    "look at it; replace them, or take another model",
)
UNUSED_MESSAGE_KEY = Kind(
    "unused-message-key",
    N,
    "the chat template leaves out the key {} of messages",
    "nothing, or give another template with --chat-template",
)
SPELLED_SPECIAL = Kind(
    "spelled-special",
    N,
    "a response of raw text spells a special token",
    "nothing; it is encoded as plain text",
)
PADDING_IS_END = Kind(
    "padding-is-end",
    N,
    "the tokenizer pads with an end-of-sequence token",
    "nothing; positions are masked, not tokens",
)
ENCODING = Kind("encoding", N, "{}", "look at an example below")

KINDS: tuple[Kind, ...] = tuple(value for value in globals().values() if isinstance(value, Kind))
"""All of them, gravest of each stage first."""


@dataclass(frozen=True, slots=True)
class Problem:
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
    kind: Kind,
    origins: Iterable[Origin | None] = (),
    details: Iterable[str] = (),
    about: object = "",
    part: str | None = None,
    count: int | None = None,
) -> Problem:
    """A problem of the rows that come from some places.

    Args:
        about: what is said of the case at hand: the number, the reason, the key.
        count: None counts the places; 1 where there are none.
    """
    places = list(origins)
    rows: dict[str, list[int]] = {}
    for origin in places:
        if origin is not None:
            rows.setdefault(origin.file, []).append(origin.row)
    what = kind.what.replace("{}", str(about))
    number = (len(places) or 1) if count is None else count
    return Problem(kind.name, kind.severity, part, what, kind.remedy, number, rows, tuple(details))


def found(
    kind: Kind, examples: Sequence[Example], details: Iterable[str] = (), about: object = ""
) -> list[Problem]:
    """The problem of some examples; nothing where there are none."""
    return [problem(kind, [one.origin for one in examples], details, about)] if examples else []


def in_part(problems: Iterable[Problem], part: str) -> list[Problem]:
    """The problems, each said to be of a part of the data."""
    return [replace(one, part=part) for one in problems]
