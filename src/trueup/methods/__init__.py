"""Methods of alignment, each a choice of feedback view, objective and reference. Imports no torch.

    trueup.train(trueup.methods.tr_dpo(beta=0.05), model=..., data=..., output=...)

Every file of this folder is found and its methods registered. The imports below are for type checkers.
"""

import importlib
import pkgutil

from trueup.methods.ca import ca as ca
from trueup.methods.dpo import dpo as dpo
from trueup.methods.fa import fa as fa
from trueup.methods.ipo import ipo as ipo
from trueup.methods.kinds import Beta
from trueup.methods.kto import kto as kto
from trueup.methods.method import METHODS, Method, MethodInfo, method
from trueup.methods.oaif import oaif as oaif
from trueup.methods.paired_kto import paired_kto as paired_kto
from trueup.methods.pointwise_dpo import pointwise_dpo as pointwise_dpo
from trueup.methods.ppo import ppo as ppo
from trueup.methods.reinforce import reinforce as reinforce
from trueup.methods.reward_model import reward_model as reward_model
from trueup.methods.rloo import rloo as rloo
from trueup.methods.robust_dpo import robust_dpo as robust_dpo
from trueup.methods.rrhf import rrhf as rrhf
from trueup.methods.rwr import rwr as rwr
from trueup.methods.sft import sft as sft
from trueup.methods.slic import slic as slic
from trueup.methods.slic_hf import slic_hf as slic_hf
from trueup.methods.tr_dpo import tr_dpo as tr_dpo
from trueup.methods.tr_ipo import tr_ipo as tr_ipo
from trueup.methods.tr_kto import tr_kto as tr_kto
from trueup.methods.ulma import ulma as ulma
from trueup.methods.unlikelihood import unlikelihood as unlikelihood

__all__ = ["METHODS", "Beta", "Method", "MethodInfo", "method"]

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
# A submodule's import takes the name of the method in it; the name is the method's.
globals().update({info.build.__name__: info.build for info in METHODS.values()})
