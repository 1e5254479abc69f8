"""From a round's examples to token groups: transforms, view, tokens, and what fell away on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.batch.encode import Encoder
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.feedback.transforms.transform import fit_all
from trueup.methods.method import Method


@dataclass(frozen=True)
class RoundEncoder:
    """Makes of a round's examples what the method trains on; transforms see this round alone."""

    method: Method[Any, Any, Any]
    encoder: Encoder

    def __call__(self, examples: Sequence[Example]) -> tuple[list[TokenGroup[Any]], Mapping[str, float]]:
        groups: list[TokenGroup[Any]] = []
        lost: Counter[str] = Counter()
        rewritten = fit_all(self.method.transforms, examples).rewrite(examples) if examples else []
        for example in rewritten:
            viewed = self.method.view(example)
            if isinstance(viewed, Discarded):
                lost["online/not_used"] += 1
                continue
            try:
                encoded = self.encoder.encode(viewed)
            except InputError as error:
                raise InputError(f"{example.origin}: {error}" if example.origin else str(error)) from error
            if isinstance(encoded, Discarded):
                lost["online/too_long"] += 1
                continue
            lost["online/cut"] += encoded.responses_cut
            groups.append(encoded.tokens)
        return groups, {name: float(count) for name, count in lost.items() if count}
