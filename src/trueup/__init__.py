"""trueup aligns language models with feedback. Importing it loads neither torch nor transformers.

import trueup
trueup.train(trueup.methods.tr_dpo(beta=0.05), model="MODEL", data="pairs.jsonl", output="runs/tr-dpo")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup import methods as methods
    from trueup.training.api import train as train

__version__ = "0.1.0"
__all__ = ["__version__", "methods", "train"]


def __getattr__(name: str) -> Any:
    if name == "methods":
        return importlib.import_module("trueup.methods")
    if name == "train":
        return importlib.import_module("trueup.training.api").train
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")
