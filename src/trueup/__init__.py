"""trueup aligns language models with feedback. Importing it loads neither torch nor transformers.
import trueup trueup.train(trueup.methods.tr_dpo(beta=0.05), model="MODEL", data="pairs.jsonl", output="runs/tr-dpo")"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup import methods
    from trueup.errors import InputError, Stopped, TrueupError
    from trueup.training.api import Result, resume, train

__version__ = "0.2.0"
__all__ = ["InputError", "Result", "Stopped", "TrueupError", "__version__", "methods", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name == "methods":
        return importlib.import_module("trueup.methods")
    if name in __all__:
        module = "training.api" if name in ("Result", "resume", "train") else "errors"
        return getattr(importlib.import_module(f"trueup.{module}"), name)
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")
