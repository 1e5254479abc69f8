"""Single examples exactly as training gets them: their tokens, and which of them are scored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from trueup.errors import InputError
from trueup.feedback.records import Discarded, Example
from trueup.feedback.views import judged_pairs
from trueup.inspection.encoded import Coding, all_responses
from trueup.inspection.inspection import Collected
from trueup.sources.by_name import WORLD_PREFIX

TokenRole = Literal["prompt", "scored", "masked"]


@dataclass(frozen=True, slots=True)
class TokenRun:
    """Tokens in a row that are treated alike."""

    role: TokenRole
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    """What each token stands for; control characters are escaped."""


@dataclass(frozen=True, slots=True)
class ShownResponse:
    """A response as tokens."""

    said: str
    """What the feedback says of it: `chosen`, `score 0.5, rejected`."""
    cut: bool
    """Whether it lost its end."""
    runs: tuple[TokenRun, ...]
    """None of them is of the prompt."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as tokens."""

    origin: str
    left_out: str | None = None
    """Why training leaves it out; there are no tokens then."""
    prompt: TokenRun | None = None
    prompt_cut: bool = False
    responses: tuple[ShownResponse, ...] = ()


def choose(part: Collected, rows: Sequence[str], count: int) -> list[Example]:
    """The examples to show.

    Args:
        rows: `3`, or `pairs.jsonl:3` where there are several files.
        count: how many of the first to take where no rows are named.

    Raises:
        InputError: there is no such row, or nothing can be learned from it.
    """
    return [_named(part, row) for row in rows] if rows else list(part.examples[:count])


def show_example(example: Example, coding: Coding) -> Shown:
    """The tokens of one example."""
    origin = str(example.origin)
    try:
        encoded = coding.encoder.encode(all_responses(example))
        uncut = coding.uncut.encode(all_responses(example))
    except InputError as error:
        return Shown(origin, str(error))
    if isinstance(encoded, Discarded) or isinstance(uncut, Discarded):
        reason = encoded.reason if isinstance(encoded, Discarded) else ""
        return Shown(origin, reason)
    tokenizer = coding.tokenizer
    prompt = _run("prompt", [int(token) for token in encoded.tokens.prompt], tokenizer)
    judged = judged_pairs(example)
    responses = []
    for at, (row, full) in enumerate(zip(encoded.tokens.responses, uncut.tokens.responses, strict=True)):
        runs = _runs([int(token) for token in row.ids], [bool(one) for one in row.scored], tokenizer)
        responses.append(ShownResponse(_said(example, at, judged), len(row.ids) < len(full.ids), runs))
    return Shown(origin, None, prompt, encoded.prompt_cut, tuple(responses))


def _named(part: Collected, name: str) -> Example:
    file, _, row = name.rpartition(":")
    if not re.fullmatch("[0-9]+", row):
        raise InputError(f"--row {name}: give the number of a row, or FILE:NUMBER")
    files = [report for report in part.files if not file or _is_named(report.path, file)]
    if not files:
        raise InputError(f"--row {name}: no such file among {', '.join(one.path for one in part.files)}")
    if len(files) > 1:
        raise InputError(
            f"--row {name}: there are {len(files)} files; say which by --row {files[0].path}:{row}"
        )
    (report,) = files
    number = int(row)
    for example in part.examples:
        if example.origin and (example.origin.file, example.origin.row) == (origin_of(report.path), number):
            return example
    reasons = [reason for reason, numbers in report.unusable.items() if number in numbers]
    if number in report.skipped:
        raise InputError(f"--row {name}: the row is malformed: {report.skipped[number]}")
    if reasons:
        raise InputError(f"--row {name}: training leaves this row out: {reasons[0]}")
    raise InputError(f"--row {name}: {report.path} has no such row; it has {report.rows}")


def _is_named(path: str, name: str) -> bool:
    return name in (path, origin_of(path)) or path.endswith("/" + name)


def origin_of(path: str) -> str:
    """What the examples of a source are said to come from: its name, without the settings of a world."""
    return path.partition("?")[0] if path.startswith(WORLD_PREFIX) else path


def _said(example: Example, at: int, judged: Sequence[tuple[int, int]]) -> str:
    response = example.responses[at]
    said = []
    if response.demonstration:
        said.append("demonstration")
    if response.score is not None:
        said.append(f"score {response.score:g}")
    if response.label is not None:
        said.append(f"label {response.label:g}")
    if any(better == at for better, _ in judged):
        said.append("chosen")
    if any(worse == at for _, worse in judged):
        said.append("rejected")
    return ", ".join(said) or "nothing said"


def _runs(ids: Sequence[int], scored: Sequence[bool], tokenizer: Any) -> tuple[TokenRun, ...]:
    runs = groupby(zip(ids, scored, strict=True), key=lambda one: one[1])
    return tuple(
        _run("scored" if learned else "masked", [token for token, _ in run], tokenizer)
        for learned, run in runs
    )


def _run(role: TokenRole, ids: Sequence[int], tokenizer: Any) -> TokenRun:
    return TokenRun(role, tuple(ids), tuple(token_text(token, tokenizer) for token in ids))


def token_text(token: int, tokenizer: Any) -> str:
    """What a token stands for, in visible characters and spaces."""
    name = str(tokenizer.convert_ids_to_tokens(token))
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if name.startswith("\u2581"):  # decoding a token alone would lose the space it begins with
        text = name.replace("\u2581", " ")
    elif not text or "\ufffd" in text:  # part of a character
        text = name
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
