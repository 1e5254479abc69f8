"""A response sees its prompt and itself: nothing of the others reaches it, in value or in gradient."""

from typing import Any

import pytest
import torch
from support.tiny_models import SHARABLE, naive_log_probs, token_group, toy_network
from torch import Tensor

from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import Stream, build_stream
from trueup.batch.tokens import TokenGroup
from trueup.models.causal import CausalModel

GROUPS = [token_group(12, [6, 9, 5], 1), token_group(30, [7, 7], 2)]
ROWS = 5


def rows_of(log_probs: LogProbs) -> list[Tensor]:
    return list(log_probs.token_S.split(log_probs.length_N.tolist()))


def with_other_response(number: int) -> list[TokenGroup[Any]]:
    """The groups with other tokens in one of their five responses."""
    groups, row = [], 0
    for group in GROUPS:
        responses = []
        for response in group.responses:
            other = (response.ids - 3 + 7) % 61 + 3
            responses.append(other.tolist() if row == number else response.ids.tolist())
            row += 1
        groups.append(token_group(group.prompt.tolist(), responses))
    return groups


@pytest.mark.parametrize("layout", ["grouped", "dense"])
@pytest.mark.parametrize("name", SHARABLE)
def test_other_tokens_in_one_response_leave_every_other_bit_as_it_was(name: str, layout: str) -> None:
    model = CausalModel(toy_network(name), attention=layout)
    with torch.no_grad():
        before = rows_of(model.log_probs(build_stream(GROUPS)))
        for number in range(ROWS):
            after = rows_of(model.log_probs(build_stream(with_other_response(number))))
            for row in range(ROWS):
                # Bit-equal: the same shapes, so the same additions in the same order.
                assert torch.equal(before[row], after[row]) == (row != number)


@pytest.mark.parametrize("name", SHARABLE)
def test_a_response_has_no_gradient_in_the_tokens_of_others(name: str) -> None:
    network = toy_network(name)
    stream = build_stream(GROUPS)
    embedded: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    network.get_input_embeddings().register_forward_hook(keep)
    rows = rows_of(CausalModel(network).log_probs(stream))
    (embedded_1TH,) = embedded
    row = 0
    for span in stream.spans:
        for response in span.responses:
            (grad_1TH,) = torch.autograd.grad(rows[row].sum(), embedded_1TH, retain_graph=True)
            felt_T = grad_1TH[0].abs().amax(-1)
            others_T = torch.ones_like(felt_T, dtype=torch.bool)
            for start, stop in (span.prompt, response):
                others_T[start:stop] = False
            assert (felt_T[others_T] == 0).all()
            # What it is predicted from: the prompt's end, and all of its own tokens but the last.
            assert (felt_T[[span.prompt[1] - 1, *range(response[0], response[1] - 1)]] > 0).all()
            row += 1
    assert row == ROWS


def stock_log_probs(network: Any, stream: Stream) -> list[Tensor]:
    """What the library makes of the stream's tokens and positions when it is given no mask."""
    network.set_attn_implementation("sdpa")
    with torch.no_grad():
        output = network(
            input_ids=stream.token_T[None], position_ids=stream.position_T[None], use_cache=False
        )
    logits_SV = output.logits[0, stream.source_S]
    token_S = logits_SV.log_softmax(-1).gather(-1, stream.target_S[:, None])[:, 0]
    return list(token_S.split(stream.length_N.tolist()))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt_neox"])
def test_the_library_would_take_the_positions_for_packed_sequences(name: str) -> None:
    """The trap: without a mask it cuts the stream wherever positions do not go on by one.

    The first response of every group is right, so that a test with one response would not notice; every
    other is computed without its prompt.
    """
    network, groups = toy_network(name), [token_group(12, [6, 9], 1)]
    stream = build_stream(groups)
    with torch.no_grad():
        right = naive_log_probs(network, groups).split([6, 9])
        ours = rows_of(CausalModel(network).log_probs(stream))
    stock = stock_log_probs(network, stream)
    assert torch.allclose(stock[0], right[0], atol=1e-4)
    assert (stock[1] - right[1]).abs().max() > 0.1
    for row in range(2):
        assert torch.allclose(ours[row], right[row], atol=1e-4)
