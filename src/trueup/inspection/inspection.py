"""The whole inspection: everything is read, no malformed row stops it, and all that is wrong is found."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from trueup import display, errors, words
from trueup.feedback import columns, containers, read, records, turns, views
from trueup.inspection import findings, statistics
from trueup.settings.data_settings import part_of
from trueup.sources.by_name import WORLD_PREFIX, examples_of_world

if TYPE_CHECKING:
    from trueup.inspection import encoded

FOR_PEOPLE = ("training", "evaluation", "coding", "turns")
TokenRole = Literal["prompt", "scored", "masked"]


@dataclass(frozen=True, slots=True)
class TokenRun:
    role: TokenRole
    ids: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownResponse:
    said: str
    """What the feedback says of it: `chosen`, `score 0.5, rejected`."""
    cut: bool
    runs: tuple[TokenRun, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    origin: str
    left_out: str | None = None
    prompt: TokenRun | None = None
    prompt_cut: bool = False
    responses: tuple[ShownResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    examples: tuple[records.Example, ...] = ()
    files: tuple[read.FileReport, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that was found; docs/inspect.md tells what the fields are to a program, but for those of `FOR_PEOPLE`."""

    training: Collected
    evaluation: Collected
    views: Mapping[str, statistics.Seen]
    lengths: Mapping[str, Any] | None
    longer_chosen: statistics.LongerChosen | None
    labels: statistics.Labels | None
    scores: statistics.Distribution | None
    overlap: Sequence[findings.Overlap]
    tokens: encoded.TokenCounts | None
    problems: Sequence[findings.Finding]
    shown: Sequence[Shown]
    coding: encoded.Coding | None = None
    turns: Sequence[str] = ()

    def count(self, severity: str) -> int:
        return sum(one.severity == severity for one in self.problems)

    @property
    def unreadable(self) -> bool:
        return bool(self.training.unreadable or self.evaluation.unreadable or not self.training.examples)

    def as_json(self) -> str:
        files = [
            {"path": one.path, "part": name}
            | {key: getattr(one, key) for key in ("layout", "rows", "examples", "sha256")}
            | {"report": one.lines()}
            for name, part in zip(findings.PARTS, (self.training, self.evaluation), strict=True)
            for one in part.files
        ]
        told = (one.name for one in fields(self) if one.name not in FOR_PEOPLE)
        return json.dumps({"files": files} | {name: getattr(self, name) for name in told}, default=asdict)


def inspect(
    data: Sequence[str],
    eval_data: Sequence[str] = (),
    *,
    table: columns.Table = columns.AS_IT_IS,
    min_characters: int = 3,
    coding: encoded.Coding | None = None,
    show: int = 2,
    rows: Sequence[str] = (),
) -> Inspection:
    """Look at feedback from every side; nothing that is wrong with it stops this.
    `coding` None looks at the text alone; `show` examples, or those of `rows`, are shown as tokens; responses with
    fewer visible characters than `min_characters` are near-empty. InputError: no file, or no such row to show."""
    if not data:
        raise errors.InputError("no file of feedback was given; name at least one")
    training, evaluation = collect(data, table), collect(eval_data, table)
    if coding is not None and coding.chat:
        training = replace(training, examples=tuple(map(turns.as_chat, training.examples)))
        evaluation = replace(evaluation, examples=tuple(map(turns.as_chat, evaluation.examples)))
    examples = training.examples
    overlap, overlapping = findings.prompt_overlap(examples, evaluation.examples)
    problems = findings.in_part(problems_of_reading(training), "training")
    if eval_data:
        problems += findings.in_part(problems_of_reading(evaluation), "evaluation")
    for name, part in zip(findings.PARTS, (training, evaluation), strict=True):
        problems += findings.in_part(findings.problems_of_examples(part.examples, min_characters=min_characters), name)
    problems += findings.in_part(overlapping, "evaluation")
    lengths: list[statistics.Lengths | None] = [statistics.character_lengths(one) for one in examples]
    unit = "characters"
    tokens: encoded.TokenCounts | None = None
    shown: tuple[Shown, ...] = ()
    of_turns: list[str] = []
    if coding is not None:
        from trueup.inspection.encoded import EncodedFeedback  # which needs numpy
        from trueup.models.tokenizer import quiet_library

        learned = turns.turns_in_loss(examples, coding.turns)
        of_turns = [turns.what_turns_did(examples, learned)] if coding.turns == "all" else []
        held_out = turns.turns_in_loss(evaluation.examples, coding.turns)
        named = replace(training, examples=learned)
        chosen = [_named(named, row) for row in rows if training.files] if rows else learned[:show]
        with quiet_library():  # the library warns of long texts, which are counted here
            everything = display.track([*learned, *held_out], "tokenizing")
            tokenized = EncodedFeedback(everything, coding, training=len(learned))
            shown = tuple(show_example(one, coding) for one in chosen)
        problems += tokenized.problems
        tokens = tokenized.counts
        unit, lengths = "tokens", tokenized.lengths[: len(examples)]
    by_kind, longer = statistics.lengths_by_kind(examples, lengths)
    return Inspection(
        training=training,
        evaluation=evaluation,
        views=statistics.seen_by_views(examples),
        lengths=statistics.length_table(unit, by_kind),
        longer_chosen=longer if longer.pairs else None,
        labels=statistics.label_counts(examples),
        scores=statistics.distribution(records.scores_of(examples)),
        overlap=overlap,
        tokens=tokens,
        problems=tuple(sorted(problems, key=lambda one: findings.SEVERITIES.index(one.severity))),
        shown=shown,
        coding=coding,
        turns=of_turns,
    )


def collect(names: Sequence[str], table: columns.Table = columns.AS_IT_IS) -> Collected:
    examples: list[records.Example] = []
    reports: list[read.FileReport] = []
    unreadable: list[str] = []
    for name in names:
        try:
            part = part_of(name)
            if part.name.startswith(WORLD_PREFIX):
                made, digest = examples_of_world(part.name)
                found, rows = list(made), len(made)
                report = read.FileReport(part.name, "the built-in world", rows, rows, digest, records.count(made))
            else:
                found, report = read.read_source(containers.opened(part.name, table), skip_bad=sys.maxsize)
        except errors.InputError as error:
            unreadable.append(str(error))
            continue
        examples += found[: part.limit]
        reports.append(report)
    return Collected(tuple(examples), tuple(reports), tuple(unreadable))


def problems_of_reading(part: Collected) -> list[findings.Finding]:
    problems = [findings.problem("unreadable-file", details=[error]) for error in part.unreadable]
    bad: dict[records.Origin, str] = {}
    reasons: dict[str, list[records.Origin]] = {}
    for report in part.files:
        bad |= {records.Origin(report.path, row): error for row, error in report.skipped.items()}
        for reason, numbers in report.unusable.items():
            reasons.setdefault(reason, []).extend(records.Origin(report.path, row) for row in numbers)
    if bad:
        problems.append(findings.problem("malformed-row", bad, bad.values()))
    problems += [findings.problem("unusable-row", origins, about=reason) for reason, origins in reasons.items()]
    for report in part.files:
        problems += _of_keys(report)
    if not part.examples and not part.unreadable:
        problems.append(findings.problem("no-examples"))
    return problems


def _of_keys(report: read.FileReport) -> list[findings.Finding]:
    problems = []
    by_kind: dict[tuple[str, str], list[str]] = {("misspelt-key", key): [key] for key in report.near_keys}
    for key in report.unused_rows:
        if key not in report.near_keys:
            by_kind.setdefault((findings.kind_of_key(key), ""), []).append(key)
    for (kind, near), keys in by_kind.items():
        rows = sorted({row for key in keys for row in report.unused_rows[key]})
        about = words.listed(map(words.printable, keys), 12) + report.near_keys.get(near, "")
        problems.append(findings.problem(kind, [records.Origin(report.path, row) for row in rows], about=about))
    return problems


def show_example(example: records.Example, coding: encoded.Coding) -> Shown:
    from trueup.inspection.encoded import all_responses

    origin = str(example.origin)
    try:
        made, uncut = (one.encode(all_responses(example)) for one in (coding.encoder, coding.uncut))
    except errors.InputError as error:
        return Shown(origin, str(error))
    if isinstance(made, records.Discarded) or isinstance(uncut, records.Discarded):
        return Shown(origin, made.reason if isinstance(made, records.Discarded) else "")
    prompt = _run("prompt", made.tokens.prompt, coding.tokenizer)
    judged = views.judged_pairs(example)
    responses = []
    for at, (row, full) in enumerate(zip(made.tokens.responses, uncut.tokens.responses, strict=True)):
        runs = []
        for learned, run in groupby(zip(row.ids, row.scored, strict=True), key=lambda one: bool(one[1])):
            role: TokenRole = "scored" if learned else "masked"
            runs.append(_run(role, [token for token, _ in run], coding.tokenizer))
        cut = len(row.ids) < len(full.ids)
        responses.append(ShownResponse(_said(example, at, judged), cut, tuple(runs)))
    return Shown(origin, None, prompt, made.prompt_cut, tuple(responses))


def _named(part: Collected, name: str) -> records.Example:
    """The example of a row named `3`, or `pairs.jsonl:3` of several files."""
    file, _, row = name.rpartition(":")
    if not re.fullmatch("[0-9]+", row):
        raise errors.InputError(f"--row {name}: give the number of a row, or FILE:NUMBER")
    known = {one.path: ("", one.path, origin_of(one.path)) for one in part.files}
    files = [one for one in part.files if file in known[one.path] or one.path.endswith(f"/{file}")]
    if not files:
        raise errors.InputError(f"--row {name}: no such file among {', '.join(one.path for one in part.files)}")
    if len(files) > 1:
        which = f"say which by --row {files[0].path}:{row}"
        raise errors.InputError(f"--row {name}: there are {len(files)} files; {which}")
    (report,) = files
    number = int(row)
    for example in part.examples:
        if example.origin and (example.origin.file, example.origin.row) == (origin_of(report.path), number):
            return example
    reasons = [reason for reason, numbers in report.unusable.items() if number in numbers]
    if number in report.skipped:
        raise errors.InputError(f"--row {name}: the row is malformed: {report.skipped[number]}")
    if reasons:
        raise errors.InputError(f"--row {name}: training leaves this row out: {reasons[0]}")
    raise errors.InputError(f"--row {name}: {report.path} has no such row; it has {report.rows}")


def origin_of(path: str) -> str:
    """What the examples of a source are said to come from: its name, without the settings of a world."""
    return path.partition("?")[0] if path.startswith(WORLD_PREFIX) else path


def _said(example: records.Example, at: int, judged: Sequence[tuple[int, int]]) -> str:
    one = example.responses[at]
    said = ["demonstration"] if one.demonstration else []
    numbers = (("score", one.score), ("label", one.label))
    said += [f"{name} {number:g}" for name, number in numbers if number is not None]
    said += ["chosen"] if any(better == at for better, _ in judged) else []
    said += ["rejected"] if any(worse == at for _, worse in judged) else []
    return ", ".join(said) or "nothing said"


def _run(role: TokenRole, tokens: Iterable[Any], tokenizer: Any) -> TokenRun:
    ids = tuple(map(int, tokens))
    return TokenRun(role, ids, tuple(token_text(token, tokenizer) for token in ids))


def token_text(token: int, tokenizer: Any) -> str:
    name = str(tokenizer.convert_ids_to_tokens(token))
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if name.startswith("\u2581"):  # decoding a token alone would lose the space it begins with
        text = name.replace("\u2581", " ")
    elif not text or "\ufffd" in text:  # part of a character
        text = name
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
