"""The toy reward model that TRL's numbers were frozen with."""

from typing import Any

import torch
from support.tiny_models import CONFIGS, char_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification


def reward_network(seed: int) -> Any:
    """A random Llama under a scalar head, far from uniform; see `support.tiny_models.toy_network`."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "llama", **{**CONFIGS["llama"], "vocab_size": len(char_tokenizer()), "num_labels": 1}
    )
    network = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return network.eval()
