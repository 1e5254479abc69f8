"""Methods of alignment, each a choice of feedback view, objective and reference. Imports no torch.

    trueup.train(trueup.methods.tr_dpo(beta=0.05), model=..., data=..., output=...)

Every file of this folder is found and its methods registered; what type checkers know of them is in `__init__.pyi`.
"""

import importlib
import pkgutil

from trueup.methods.kinds import Beta
from trueup.methods.method import METHODS, Method, MethodInfo, method

__all__ = ["METHODS", "Beta", "Method", "MethodInfo", "method"]

# Methods are listed in the order of these imports: supervised fine-tuning, which comes before the others, first.
for _found in ("sft", *(_file.name for _file in pkgutil.iter_modules(__path__))):
    importlib.import_module(f"{__name__}.{_found}")
# A submodule's import takes the name of the method in it; the name is the method's.
globals().update({info.build.__name__: info.build for info in METHODS.values()})
