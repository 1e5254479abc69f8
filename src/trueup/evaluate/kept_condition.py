"""A model's folder, changed to ask for another reward."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import InputError
from trueup.feedback.condition import FILE, Condition
from trueup.files import replaced_whole

CARD = "README.md"


def keep(folder: Path, before: Condition, after: Condition) -> None:
    """Write what a model asks for from now on into its folder, and into its model card where that says it.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        after.save(folder)
        _mend_card(folder / CARD, before, after)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{folder / FILE} cannot be written: {reason}. Make room or mend the rights, or give --dry-run"
        ) from error


def _mend_card(card: Path, before: Condition, after: Condition) -> None:
    """The sentence that `trueup.training.export` writes; another card is left as it is."""
    if not card.exists():
        return
    text = card.read_text(encoding="utf-8")
    mended = text.replace(f"Write `{before.words()}` at", f"Write `{after.words()}` at")
    if mended != text:
        with replaced_whole(card) as file:
            file.write(mended.encode())
