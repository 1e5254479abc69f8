"""trueup aligns language models with feedback. Importing it loads neither torch nor transformers.

import trueup
trueup.train(trueup.methods.tr_dpo(beta=0.05), model="MODEL", data="pairs.jsonl", output="runs/tr-dpo")
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trueup import methods as methods
    from trueup.methods import Method
    from trueup.training.api import Result

__version__ = "0.1.0"
__all__ = ["__version__", "methods", "train"]


def train(
    method: Method,
    *,
    model: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    output: str | Path,
    **settings: Any,
) -> Result:
    """Align a model with feedback; see `trueup.training.api.train`.

    Args:
        method: for example `trueup.methods.tr_dpo(beta=0.05)`.
        model: folder of a model or adapter in Hugging Face format, or `world`.
        data: files with feedback, or names such as `world:pairs`; left out where feedback is gathered, as by
            `prompts="prompts.jsonl", reward="runs/rm/model"`.
        output: folder of the run; it must not hold one already.
        settings: any setting in docs/settings.md by name.

    Raises:
        InputError, CheckpointError, NumericsError: see `trueup.errors`; the message is one line.
    """
    from trueup.training import api

    return api.train(method, model=model, data=data, output=output, **settings)


def __getattr__(name: str) -> Any:
    if name == "methods":
        return importlib.import_module("trueup.methods")
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")
