"""A value head: from hidden states to what is expected of the rest of a response.

It shares the policy's body, as in trlX, and its loss trains that body too. It starts at 0 everywhere, so that the
first advantages are the rewards themselves and nothing is drawn at random.
"""

import torch
from torch import nn
from torch.nn.utils import skip_init

from trueup.errors import InputError
from trueup.models.causal import CausalModel
from trueup.models.head import UnsupportedHead, head_of


def add_value_head(model: CausalModel) -> None:
    """Give a model a linear value head in float32, all of it 0. Draws nothing from the random state.

    Raises:
        InputError: how wide the model's hidden states are cannot be told.
    """
    try:
        width = head_of(model.inner).weight_VH.shape[1]
    except UnsupportedHead as error:
        raise InputError(
            f"a value head cannot be put on this {type(model.inner).__name__}: {error}. Choose another model, or a "
            "method without one, such as rloo"
        ) from error
    head: nn.Linear = skip_init(nn.Linear, width, 1, device=model.device, dtype=torch.float32)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    model.value_head = head
