"""spent.json: what a run has spent on its annotator, so that its limits hold over all of its sittings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from trueup.annotators.annotator import Annotator
from trueup.annotators.budget import Budget
from trueup.errors import CheckpointError
from trueup.files import replaced_whole
from trueup.words import reason


def accounted(annotator: Annotator, file: Path) -> Annotator:
    """The annotator, going on from what the file says was spent, and writing there what it spends from here on.

    The file is written after every request that was answered, so that a process that is killed forgets only what was
    under way. An annotator without a budget is left as it is.

    Raises:
        CheckpointError: the file is damaged or cannot be read; later, that it cannot be written.
    """
    budget = getattr(getattr(annotator, "judge", None), "budget", None)
    if not isinstance(budget, Budget):
        return annotator
    if file.exists():
        budget.restore(_read(file))

    def keep(state: Mapping[str, float]) -> None:
        try:
            with replaced_whole(file) as opened:
                opened.write(json.dumps(dict(state)).encode() + b"\n")
        except OSError as error:
            raise CheckpointError(
                f"{file}: what the annotator took cannot be written: {reason(error)}. Make room and go on "
                "with --resume"
            ) from error

    budget.watched = keep
    return annotator


def _read(file: Path) -> Mapping[str, float]:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: what the annotator has taken so far cannot be read: {error}. Restore the file from a backup; "
            "without it the limits of the annotator count from 0 again"
        ) from error
    return state if isinstance(state, dict) else {}
