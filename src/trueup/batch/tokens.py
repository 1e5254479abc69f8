"""Token groups: a prompt and its responses as token ids, ready to be laid out in a stream."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from trueup.feedback.records import Origin, Relation


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """One response; `scored` marks the assistant's words and the token that ends them, not turns in between."""

    ids: npt.NDArray[np.int32]  # [R] token ids, R >= 1
    scored: npt.NDArray[np.bool_]  # [R], at least one of them True


@dataclass(frozen=True, slots=True, eq=False)
class TokenGroup(Generic[Relation]):
    prompt: npt.NDArray[np.int32]
    responses: tuple[TokenRow, ...]
    relation: Relation
    origin: Origin | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + sum(len(row.ids) for row in self.responses)

    @property
    def key(self) -> str:
        """Hash of what a model sees of the group: token ids and which of them are scored."""
        digest = hashlib.blake2b(digest_size=16)
        for piece in (self.prompt, *(part for row in self.responses for part in (row.ids, row.scored))):
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece.tobytes())
        return digest.hexdigest()


def mismatched(group: TokenGroup[Any], other: TokenGroup[Any], *, max_length: int) -> TokenGroup[None] | None:
    """The prompt of `group` with the responses of `other`, cut to `max_length`; None where nothing of them fits."""
    if np.array_equal(group.prompt, other.prompt):
        return None
    room = max_length - len(group.prompt)
    cut = (TokenRow(row.ids[:room], row.scored[:room]) for row in other.responses)
    rows = tuple(row for row in cut if row.scored.any())
    return TokenGroup(group.prompt, rows, None, group.origin) if room > 0 and rows else None


def tokens_identity(groups: Iterable[TokenGroup[Any]]) -> str:
    """Hash of what a model sees of the groups, in their order; the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(group.key.encode())
    return digest.hexdigest()[:16]
