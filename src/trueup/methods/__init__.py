"""Methods of alignment, each a choice of feedback view, objective and reference. Imports no torch.

    trueup.train(trueup.methods.tr_dpo(beta=0.05), model=..., data=..., output=...)

Every file of this folder is found and its methods registered; what type checkers know of them is in `__init__.pyi`.
"""

import importlib
import pkgutil

from trueup.methods.kinds import Beta
from trueup.methods.method import METHODS, Method, MethodInfo, method

__all__ = ["METHODS", "Beta", "Method", "MethodInfo", "method"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
# Methods are listed by name, but for supervised fine-tuning, which comes before the others.
for _name in sorted(METHODS, key=lambda name: (name != "sft", name)):
    METHODS[_name] = METHODS.pop(_name)
# A submodule's import takes the name of the method in it; the name is the method's.
globals().update({info.build.__name__: info.build for info in METHODS.values()})
