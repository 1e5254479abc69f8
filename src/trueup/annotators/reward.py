"""A reward model as an annotator."""

from __future__ import annotations

import torch

from trueup.annotators.model_scores import ModelAnnotator, model_annotator
from trueup.models.prepare import pick_autocast, pick_device
from trueup.models.reward import RewardModel
from trueup.models.reward_load import load_reward
from trueup.settings.annotator_settings import RewardAnnotator


def load_reward_annotator(
    choice: RewardAnnotator, *, device: str = "auto", trust_remote_code: bool = False
) -> ModelAnnotator:
    """The annotator that a choice describes, its model loaded and tried out.

    Raises:
        InputError: the folder cannot be used, holds a causal language model, or one whose scores cannot be reproduced.
    """
    placed = pick_device(device)
    precision = pick_autocast("auto", placed) or torch.float32
    loaded = load_reward(choice.model, device=placed, dtype=precision, trust_remote_code=trust_remote_code)
    model = RewardModel(loaded.network)
    return model_annotator(
        model, lambda stream: model.outputs(stream).score_N, loaded, name=f"reward:{choice.model}"
    )
