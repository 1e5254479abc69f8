"""A language model as an annotator: its own log-likelihood per token.

RRHF's policy is read as a reward model in this way: Yuan et al., 2023, https://arxiv.org/abs/2304.05302, Table 5.
"""

from __future__ import annotations

import torch

from trueup.annotators.model_scores import ModelAnnotator, model_annotator
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.prepare import pick_autocast, pick_device
from trueup.settings.annotator_settings import LikelihoodAnnotator


def load_likelihood_annotator(
    choice: LikelihoodAnnotator, *, device: str = "auto", trust_remote_code: bool = False
) -> ModelAnnotator:
    """The annotator that a choice describes, its model loaded and tried out.

    The score is (1 / |y|) log pi(y | x) in nats, over the response and the token that ends it. A model that was trained
    to be asked with a condition is asked with it.

    Raises:
        InputError: the folder cannot be used, or the model's log-probabilities cannot be reproduced.
    """
    placed = pick_device(device)
    precision = pick_autocast("auto", placed) or torch.float32
    loaded = load(choice.model, device=placed, dtype=precision, trust_remote_code=trust_remote_code)
    model = CausalModel(loaded.network)
    return model_annotator(
        model,
        lambda stream: model.log_probs(stream).mean,
        loaded,
        name=f"likelihood:{choice.model}",
    )
