"""Methods of alignment, each a choice of feedback view, objective and reference. Imports no torch.

    trueup.train(trueup.methods.tr_dpo(beta=0.05), model=..., data=..., output=...)

Every file of this folder is found and its methods registered. The imports below are for type checkers.
"""

import importlib
import pkgutil

from trueup.methods.dpo import dpo
from trueup.methods.method import METHODS, Beta, Method, MethodInfo, method
from trueup.methods.rrhf import rrhf
from trueup.methods.sft import sft
from trueup.methods.tr_dpo import tr_dpo
from trueup.methods.ulma import ulma

__all__ = [
    "METHODS",
    "Beta",
    "Method",
    "MethodInfo",
    "dpo",
    "method",
    "rrhf",
    "sft",
    "tr_dpo",
    "ulma",
]

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
# A submodule's import takes the name of the method in it; the name is the method's.
globals().update({info.build.__name__: info.build for info in METHODS.values()})
