"""Prompts computed once into the library's own cache, which is copied for each response.

For models whose state is sequential (linear attention, state spaces), and those whose attention is not ours to compute.
Copies are made by `index_select`, so that gradients flow through the cache and those of its copies are summed.

Shape suffixes: G groups, P longest prompt, N rows, R longest response, T tokens of the stream.
"""

from typing import Any

import torch

from trueup.batch.stream import Stream, on_device
from trueup.models.attention import Backend, Inputs, UnsupportedAttention


def inputs(stream: Stream) -> Inputs:
    """Prompts padded on the left and responses on the right: what is next to each other stays so."""
    device = stream.token_T.device
    prompts = [torch.arange(*span.prompt) for span in stream.spans]
    own = [torch.arange(*response) for span in stream.spans for response in span.responses]
    own.append(torch.full((2,), -1))  # a width of one token would be decoding; the row is cut off again
    pad = torch.nn.utils.rnn.pad_sequence
    place_GP, place_NR = pad(prompts, True, -1, padding_side="left"), pad(own, True, -1)[:-1]
    group_N = torch.repeat_interleave(torch.tensor([len(span.responses) for span in stream.spans]))
    length_G = torch.tensor([len(prompt) for prompt in prompts])
    position_NR = length_G[group_N][:, None] + torch.arange(place_NR.shape[1])
    position_GP = ((place_GP >= 0).cumsum(1) - 1).clamp(min=0)
    mask_NL = torch.cat([place_GP[group_N], place_NR], 1) >= 0
    flat = torch.cat([place_GP.flatten(), place_NR.flatten()])
    output_T = torch.empty(stream.num_tokens, dtype=torch.int64)
    output_T[flat[flat >= 0]] = (flat >= 0).nonzero()[:, 0]

    def passed(place: torch.Tensor, position: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        place, position, mask = (on_device(one, device) for one in (place, position, mask))
        tokens = torch.where(place >= 0, stream.token_T[place.clamp(min=0)], 0)
        return {"input_ids": tokens, "position_ids": position, "attention_mask": mask.long()}

    keywords = {
        "prompts": passed(place_GP, position_GP, place_GP >= 0),
        "responses": passed(place_NR, position_NR, mask_NL),
        "group_N": on_device(group_N, device),
    }
    return Inputs(keywords, on_device(output_T, device)[stream.source_S])


def run(body: Any, given: Inputs) -> torch.Tensor:
    """[G * P + N * R, H] final hidden states of prompts, then of responses."""
    if any(getattr(module, "gradient_checkpointing", False) for module in body.modules()):
        raise UnsupportedAttention("a model that computes activations again keeps no cache")
    prompts = body(**given.keywords["prompts"], use_cache=True)
    name = next((key for key in ("past_key_values", "cache_params") if key in prompts), "")
    cache: Any = getattr(prompts, name, None)
    if not hasattr(cache, "reorder_cache"):
        raise UnsupportedAttention("the model keeps no cache that can be copied")
    cache.reorder_cache(given.keywords["group_N"])
    for layer in cache.layers:  # states are written in place for decoding, which autograd does not allow
        if hasattr(layer, "conv_states"):
            layer.update_conv_state = _extending(layer)
            layer.update_recurrent_state = lambda states, *_, **__: states
    responses = body(**given.keywords["responses"], **{name: cache}, use_cache=True)
    return torch.cat([one.last_hidden_state.flatten(0, 1) for one in (prompts, responses)])


def _extending(layer: Any) -> Any:
    return lambda states, state_idx=0, **_: torch.cat([layer.conv_states[state_idx], states], -1)


BACKEND = Backend(
    "forked", None, inputs, "a copied cache", "prompts are computed once into a cache, copied for every response",
    order=50, run=run, foreign=True,
)  # fmt: skip
