"""Where trueup keeps what several runs can share."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$TRUEUP_CACHE`, else `trueup` under `$XDG_CACHE_HOME`, else `~/.cache/trueup`."""
    given = os.environ.get("TRUEUP_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trueup"
