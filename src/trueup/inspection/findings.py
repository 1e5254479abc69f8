"""What an inspection finds: the kinds of problem (`findings.toml`), and those that the text alone shows."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trueup import files, words
from trueup.feedback import records, turns, views
from trueup.feedback.records import Content, Counts, Example, Message, Origin, content_key, count, scores_of
from trueup.inspection.statistics import label_counts

PARTS = ("training", "evaluation")


SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class FindingKind:
    severity: str
    what: str
    """A clause; `{}` stands for what is said of the case at hand."""
    remedy: str


KINDS = {name: FindingKind(**told) for name, told in files.table_beside(__file__, "findings.toml").items()}
"""Name, stable for programs -> kind: all of them, gravest of each stage first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of problem and where it is; docs/inspect.md tells what the fields are to a program."""

    kind: str
    severity: str
    part: str | None
    """`training` or `evaluation`; None where it concerns neither alone."""
    what: str
    remedy: str
    count: int
    """How many rows have it; 1 where it concerns a file or the data as a whole."""
    rows: Mapping[str, Sequence[int]]
    details: Sequence[str] = ()


Details = Iterable[str]


def problem(
    name: str, origins: Iterable[Origin | None] = (), details: Details = (), about: object = "", part: str | None = None
) -> Finding:
    """A problem of the rows that come from some places; `about` is the number, the reason or the key at hand."""
    kind, places = KINDS[name], list(origins)
    rows: dict[str, list[int]] = {}
    for origin in places:
        if origin is not None:
            rows.setdefault(origin.file, []).append(origin.row)
    what = kind.what.replace("{}", str(about))
    return Finding(name, kind.severity, part, what, kind.remedy, len(places) or 1, rows, tuple(details))


def found(name: str, examples: Sequence[Example], details: Details = (), about: object = "") -> list[Finding]:
    return [problem(name, [one.origin for one in examples], details, about)] if examples else []


def in_part(problems: Iterable[Finding], part: str) -> list[Finding]:
    return [replace(one, part=part) for one in problems]


# Of examples, what reading them did not show.

Clash = tuple[Example, Example]


@dataclass(frozen=True, slots=True)
class Overlap:
    evaluation: str
    training: tuple[str, ...]


def problems_of_examples(examples: Sequence[Example], *, min_characters: int) -> Iterator[Finding]:
    yield from _clashes("duplicate", duplicates(examples), "repeats")
    yield from found("identical-responses", [one for one in examples if identical(one)])
    # The shortest circle is A over B and B over A.
    beaten = ((one, records.beaten(records.distinct(one))) for one in examples)
    circles = [one for one, below in beaten if any(at in under for at, under in below.items())]
    yield from found("contradicting-comparisons", circles)
    yield from found("contradicting-scores", [one for one in examples if records.contradicts_scores(one)])
    yield from _clashes("contradicting-rows", opposite_pairs(examples), "contradicts")
    yield from _clashes("contradicting-labels", opposite_labels(examples), "contradicts")
    yield from _order(examples)
    near_empty = [one for one in examples if any(printed(r.content) < min_characters for r in one.responses)]
    yield from found("near-empty-response", near_empty, about=min_characters)
    yield from found("empty-prompt", [one for one in examples if not printed(one.prompt.content)])
    silent = [one for one in examples if count([one]) == Counts(len(one.responses))]
    yield from found("no-feedback", silent)
    labels = label_counts(examples)
    if labels and max(labels.good, labels.bad) >= 2 and not min(labels.good, labels.bad):
        yield problem("one-class", about="good" if labels.good else "bad")


Examples = Sequence[Example]
Overlaps = tuple[Overlap, ...]


def prompt_overlap(training: Examples, evaluation: Examples) -> tuple[Overlaps, list[Finding]]:
    """Evaluation prompts that are also those of training data, and the problem that this is."""
    known: dict[str, list[str]] = {}
    for example in training:
        known.setdefault(example.prompt.key, []).append(str(example.origin))
    shared = [example for example in evaluation if example.prompt.key in known]
    overlap = tuple(Overlap(str(one.origin), tuple(known[one.prompt.key])) for one in shared)
    details = (f"{one.evaluation} asks what is asked at {words.listed(one.training, 3)}" for one in overlap)
    return overlap, found("prompt-overlap", shared, details)


def duplicates(examples: Sequence[Example]) -> list[Clash]:
    first: dict[Hashable, Example] = {}
    clashes = []
    for example in examples:
        keys = [content_key(one.content) for one in example.responses]
        judged = zip(keys, example.responses, strict=True)
        responses = [(key, one.score, one.label, one.demonstration) for key, one in judged]
        comparisons = [(keys[one.better], keys[one.worse], one.probability) for one in example.comparisons]
        said = (tuple(sorted(parts, key=repr)) for parts in (responses, comparisons))
        earlier = first.setdefault((example.prompt.key, *said), example)
        if earlier is not example:
            clashes.append((earlier, example))
    return clashes


def identical(example: Example) -> bool:
    keys = [content_key(one.content) for one in example.responses]
    return len(set(keys)) < len(keys)


def opposite_pairs(examples: Sequence[Example]) -> list[Clash]:
    """Examples of one prompt of which one prefers A to B and a later one B to A; each later one once."""
    said: dict[object, Example] = {}
    clashes = []
    for example in examples:
        prompt, keys = example.prompt.key, [content_key(one.content) for one in example.responses]
        here = [(keys[better], keys[worse]) for better, worse in views.judged_pairs(example)]
        against = (said.get((prompt, worse, better)) for better, worse in here)
        if (earlier := next((one for one in against if one is not None), None)) is not None:
            clashes.append((earlier, example))
        for better, worse in here:
            said.setdefault((prompt, better, worse), example)
    return clashes


def opposite_labels(examples: Sequence[Example]) -> list[Clash]:
    """Examples that label a response above 0.5 where an earlier one, or they themselves, label it below."""
    said: dict[object, Example] = {}
    clashes = []
    for example in examples:
        earlier: Example | None = None
        for one in example.responses:
            if one.label is None or one.label == 0.5:
                continue
            key = (example.prompt.key, content_key(one.content))
            earlier = earlier or said.get((key, one.label < 0.5))
            said.setdefault((key, one.label > 0.5), example)
        if earlier is not None:
            clashes.append((earlier, example))
    return clashes


def printed(content: Content) -> int:
    """How many visible characters a text has; of messages, all together, and what they call counts as visible."""
    if isinstance(content, str):
        joined = "".join(content.split())
        return len(joined) if joined.isprintable() else sum(map(str.isprintable, joined))
    return sum(printed(one.content) + sum(len(str(value)) for value in one.extra.values()) for one in content)


def _clashes(kind: str, clashes: Sequence[Clash], verb: str) -> list[Finding]:
    details = []
    for earlier, later in clashes:
        first, second = earlier.origin, later.origin
        same = first and second and first.file == second.file
        seen = "itself" if first == second else f"row {first.row}" if first and same else str(first)
        details.append(f"{second} {verb} {seen}")
    return found(kind, [later for _, later in clashes], details)


def _order(examples: Sequence[Example]) -> Iterator[Finding]:
    equal, tied, single = [], [], []
    for example in examples:
        scores = scores_of([example])
        if len(example.responses) == 1 and len(scores) == 1:
            single.append(example)
        elif len(scores) > 1 and len(set(scores)) == 1:
            equal.append(example)
        elif len(set(scores)) < len(scores):
            tied.append(example)
    yield from found("all-scores-equal", equal)
    yield from found("tie", tied)
    yield from found("single-response", single)
    said = ((example, example.responses[0]) for example in single)
    alone = [example for example, one in said if one.label is None and not one.demonstration]
    values = sorted(scores_of(alone))
    if values and values[0] < values[-1]:
        yield from found("demonstrated-by-score", alone, about=f"{values[0]:g} to {values[-1]:g}")


OF_REQUEST = "system|history|context|instruction|question|input|prompt|query|passages|documents|tools|functions"
REQUEST = re.compile(f"{OF_REQUEST}|images?|videos|audios")
"""Last words of keys that hold part of what was asked."""
OF_JUDGEMENT = "scores?|rewards?|ratings?|rank|ranking|labels?|grade|preference|votes?|upvotes|downvotes|margin"
JUDGEMENT = re.compile(f"{OF_JUDGEMENT}|probability|confidence|annotations")
"""Last words of keys that judge responses, and first words of those that end with a word of `SIDES`."""
SIDES = {"chosen", "rejected", "a", "b", "ratio"}
OURS = {*turns.NOT_LEARNED, "tool_calls"}
"""Keys that are for training, not for the template, and calls, which a template that leaves them out is refused for."""
TRIES = 20
"""How many examples are rendered with and without a key before it is taken for one that is left out."""


def kind_of_key(key: str) -> str:
    parts = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", key).lower())
    last = parts[-1] if parts else ""
    if JUDGEMENT.fullmatch(last) or (last in SIDES and JUDGEMENT.fullmatch(parts[0])):
        return "unused-judgement-key"
    return "unused-request-key" if REQUEST.fullmatch(last) else "unused-key"


class MessageKeys:
    """Renders conversations with and without a key; a key that changes one of them is used."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.used: set[str] = set()
        self.found: dict[str, list[Example]] = {}

    def look(self, example: Example) -> None:
        prompt = example.prompt.content
        for said in (one.content for one in example.responses):
            if isinstance(prompt, str) or isinstance(said, str):
                continue
            every = (*prompt, *said)
            keys = {key for turn in every for key, value in turn.extra.items() if value not in (None, "", [], {})}
            for key in sorted(keys - OURS - self.used):
                examples = self.found.setdefault(key, [])
                if not examples or examples[-1] is not example:
                    examples.append(example)
                if len(examples) <= TRIES and self._rendered(example, every) != self._rendered(example, every, key):
                    self.used.add(key)

    def _rendered(self, example: Example, turns: tuple[Message, ...], without: str = "") -> str:
        plain = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in turns]
        kept = [{key: value for key, value in turn.items() if key != without} for turn in plain]
        tools = [dict(tool) for tool in example.prompt.tools] or None
        try:
            return str(self.tokenizer.apply_chat_template(kept, tools=tools, tokenize=False))
        except Exception as error:  # the template is a program of the model's author and may raise anything
            return f"refused: {error}"
