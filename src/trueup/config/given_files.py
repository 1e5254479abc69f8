"""Files that a setting names: whether they are there and can be read."""

from __future__ import annotations

import os
from pathlib import Path

from trueup.errors import InputError
from trueup.feedback.containers import refuse_unreadable
from trueup.feedback.files import absent_hint, inside
from trueup.feedback.hub import is_hub
from trueup.feedback.saved import is_saved

FEEDBACK = "a file with feedback, hub:OWNER/NAME, or world:pairs, world:rankings, ..."


def check_feedback(name: str, what: str = FEEDBACK) -> None:
    """Check that a file of rows is there; the hub is asked only when it is read."""
    path = Path(name)
    if is_hub(name) or is_saved(path):
        refuse_unreadable(name)
    elif path.is_dir():
        raise InputError(f"{name} is a folder; name a file{inside(path)}")
    else:
        check_file(name, what)


def check_file(name: str, what: str) -> None:
    """Check that a file is there and can be read; `what` is what to give instead."""
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder; give {what}")
    if not path.exists():
        raise InputError(f"{name}: no such file{absent_hint(path)}; give {what}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} cannot be read by this user")
