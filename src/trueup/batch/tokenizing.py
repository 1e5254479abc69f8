"""From groups of text to groups of tokens: what is cut or left out is counted and told.
Tokens are kept on disk by content, so that a second run, or one that goes on, does not make them again. They depend on
a group's texts and on the encoder, so both make their key; where the group came from and how its responses relate do
not, and are never read from the cache."""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trueup import batch, display, errors, feedback, record_cache, stop, words
from trueup.batch.chat_template import writes_date
from trueup.batch.encode import UNSPELLED, EncodedGroup, Encoder
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.feedback.records import Discarded, Group, Origin
from trueup.files import cache_folder

R = TypeVar("R")

LIBRARIES = ("transformers", "tokenizers", "jinja2")
MOST_KEPT = 8 * 2**30  # bytes of tokens on disk, beyond which the oldest are deleted


class TokenCache:
    """Encodes groups, or takes what was made of them before out of `path`, else out of the cache."""

    def __init__(self, encoder: Encoder, path: Path | None = None) -> None:
        self.encoder = encoder
        self.identity = encoder_identity(encoder)
        self._records = record_cache.RecordCache(
            path or cache_folder() / "tokens" / "tokens.sqlite", table="tokens_2", noun="tokens",
            without="give --token-cache false", most=MOST_KEPT,
        )  # fmt: skip
        self._new: dict[str, dict[str, Any]] = {}

    def encode(self, group: Group[R]) -> EncodedGroup[R] | Discarded:
        key = self._key(group)
        record = self._new.get(key) or self._records.get(key)
        if record is None:
            made = self.encoder.encode(group)
            self._new[key] = record_of(made)
            if len(self._new) >= record_cache.AT_ONCE:
                self.flush()
            return made
        return read_record(record, group)

    def flush(self) -> None:
        self._records.put_all(self._new)
        self._new = {}

    def _key(self, group: Group[Any]) -> str:
        texts = repr((self.identity, group.prompt.key, group.responses, group.tokens))
        return hashlib.blake2b(texts.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def record_of(made: EncodedGroup[Any] | Discarded) -> dict[str, Any]:
    if isinstance(made, Discarded):
        return {"discarded": made.reason}
    rows = made.tokens.responses
    return {
        "prompt": made.tokens.prompt.tolist(), "responses": [row.ids.tolist() for row in rows],
        "scored": ["".join("01"[one] for one in row.scored.tolist()) for row in rows],
        "prompt_cut": made.prompt_cut, "responses_cut": made.responses_cut, "notes": sorted(made.notes),
    }  # fmt: skip


def read_record(record: dict[str, Any], group: Group[R]) -> EncodedGroup[R] | Discarded:
    if "discarded" in record:
        return Discarded(record["discarded"], group.origin)
    rows = tuple(
        TokenRow(np.array(ids, np.int32), np.array(list(scored), "U1") == "1")
        for ids, scored in zip(record["responses"], record["scored"], strict=True)
    )
    tokens = TokenGroup(np.array(record["prompt"], np.int32), rows, group.relation, group.origin)
    return EncodedGroup(tokens, record["prompt_cut"], record["responses_cut"], frozenset(record["notes"]))


def tokenizer_identity(tokenizer: Any) -> str:
    """Hash of a tokenizer and its chat template, as it writes itself."""
    digest = hashlib.sha256(repr(type(tokenizer)).encode())
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except Exception as error:  # a tokenizer may be anybody's code
            raise errors.InputError(f"the tokenizer cannot be written, so not told from another: {error}") from error
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def encoder_identity(encoder: Encoder) -> str:
    """Hash of all that decides which tokens an encoder makes of a text, the day too where the template writes it."""
    digest = hashlib.sha256(tokenizer_identity(encoder.tokenizer).encode())
    for package in (batch, feedback):  # whose code makes tokens of texts
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    about = {
        "libraries": [version(name) for name in LIBRARIES], "end_ids": encoder.end_ids,
        "limits": encoder.limits, "condition": encoder.condition,
        "date": encoder.template.date if writes_date(encoder.tokenizer) else "", "opening": encoder.opening,
        "rows": encoder.rows,
    }  # fmt: skip
    digest.update(json.dumps(about, sort_keys=True, default=repr).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class Tokenized:
    groups: list[TokenGroup[Any]] = field(default_factory=list)
    dropped: dict[str, list[Origin | None]] = field(default_factory=dict)
    responses: int = 0
    responses_cut: int = 0
    prompts_cut: int = 0
    raw: int = 0  # groups of raw text, encoded without the chat template there is
    notes: Counter[str] = field(default_factory=Counter)
    """What the user should know of the groups, in order, and of how many."""


def tokenize(groups: Iterable[Group[Any]], encoder: Encoder, cache: TokenCache | None = None) -> Tokenized:
    made = Tokenized()
    for group in groups:
        stop.check()
        with errors.naming(group.origin):
            encoded = (cache or encoder).encode(group)
        if isinstance(encoded, Discarded):
            made.dropped.setdefault(encoded.reason, []).append(encoded.origin)
            continue
        made.groups.append(encoded.tokens)
        made.raw += encoder.bypasses_template(group.prompt)
        made.responses += len(group.responses)
        made.prompts_cut += encoded.prompt_cut
        made.responses_cut += encoded.responses_cut
        made.notes.update(sorted(encoded.notes))
    return made


def tokens_of(
    groups: Iterable[Group[Any]], encoder: Encoder, *, what: str, cache: TokenCache | None = None
) -> list[TokenGroup[Any]]:
    """As `tokenize`, for a whole data set: what was cut or left out is told."""
    made = tokenize(groups, encoder, cache)
    if cache:
        cache.flush()
    limits = encoder.limits
    lines = [f"{what} data left out: {reason}, {_rows(origins)}" for reason, origins in made.dropped.items()]
    if not made.groups:
        raise errors.InputError(
            f"nothing of the {what} data is left to train on: {'; '.join(lines)}. Raise --max-length, or set "
            "--max-prompt-length so that long prompts lose their beginning"
        )
    if made.dropped and limits.max_prompt_length is None:
        lines.append("long prompts can be kept, without their beginning, by --max-prompt-length")
    if made.responses_cut:
        lines.append(
            f"{what} data: {made.responses_cut} of {made.responses} responses lost their end to max_length "
            f"{limits.max_length} (no end of sequence is put there)"
        )
    if made.prompts_cut:
        lines.append(
            f"{what} data: {made.prompts_cut} of {len(made.groups)} prompts lost their beginning to max_prompt_length "
            f"{limits.max_prompt_length}"
        )
    for line in (*lines, *(f"note: {note}" for note in made.notes if note not in UNSPELLED)):
        display.data_logger.info(line)
    for note in UNSPELLED:
        if number := made.notes[note]:
            display.data_logger.warning(
                f"{what} data: {number} of {len(made.groups)} {note}. See which by `trueup inspect FILE "
                "--model MODEL`, and mend or remove them, or take another model"
            )
    warn_of_raw(made.raw, len(made.groups), f"{what} data", "examples")
    return made.groups


def warn_of_raw(raw: int, number: int, what: str, noun: str) -> None:
    """Warn where raw texts are encoded without the chat template that the model has."""
    if raw:
        display.data_logger.warning(
            f"{what}: {raw} of {number} {noun} are raw text, encoded as it is although the model has a chat template. "
            "Give --chat true to make turns of the user and the assistant of it, or --chat false if this is meant"
        )


def _rows(origins: Sequence[Origin | None]) -> str:
    """`3 examples (a.jsonl rows 1, 5; b.jsonl row 2)`."""
    files: dict[str, list[str]] = {}
    for origin in origins:
        if origin is not None:
            files.setdefault(origin.file, []).append(str(origin.row))
    places = [f"{file} row{'s' * (len(rows) > 1)} {words.listed(rows)}" for file, rows in files.items()]
    count = words.counted(len(origins), "example")
    return f"{count} ({'; '.join(places)})" if places else count
