"""The stream computes what the model library computes: values and gradients, for every architecture. A response sees
its prompt and itself. Tolerances: 1e-5 of a log-probability (of at least 1) and 1e-5 of a gradient's norm, in
float32. Both sides round about 1e-7 at each of some hundred additions; what is measured lies between 2e-7 and
4e-6."""

from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import (
    CONFIGS,
    HYBRID,
    OTHERS,
    SHARABLE,
    WINDOW,
    gradients,
    naive_log_probs,
    token_group,
    toy_network,
)
from torch import Tensor

from trueup.batch.rows import LogProbs
from trueup.batch.stream import build_stream
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.models.attention import names
from trueup.models.causal import CausalModel


def partly_scored(group: TokenGroup[Any]) -> TokenGroup[Any]:
    """Every third token of a response is not scored."""
    rows = [TokenRow(row.ids, np.arange(len(row.ids)) % 3 != 1) for row in group.responses]
    return TokenGroup(group.prompt, tuple(rows), group.relation)


STREAMS = {
    "several groups": [token_group(5, [3, 7], 1), token_group(90, [1, 4, 9], 2), token_group(1, [12], 3),
        token_group(70, [20, 90], 4)],
    "single responses": [token_group(17, [6], 5), token_group(2, [90], 6), token_group(30, [1], 7)],
    "one-token prompts, partly scored": [partly_scored(token_group(1, [9, 9, 2], 8)),
        partly_scored(token_group(1, [25], 9))],
}  # fmt: skip
every_stream = pytest.mark.parametrize("groups", STREAMS.values(), ids=STREAMS)


def assert_equal_to_naive(network: Any, layout: str, groups: list[TokenGroup[Any]], tolerance: float = 1e-5) -> None:
    expected_S = naive_log_probs(network, groups)
    pull_S = torch.linspace(-1, 1, len(expected_S))
    expected_grads = gradients(network, (pull_S * expected_S).sum())
    model = CausalModel(network, attention=layout)
    got_S = model.log_probs(build_stream(groups)).token_S
    tolerance_S = tolerance * expected_S.abs().clamp(min=1)
    assert ((got_S - expected_S).abs() <= tolerance_S).all()

    grads = gradients(network, (pull_S * got_S).sum())
    assert grads.keys() == expected_grads.keys()
    whole = torch.stack([grad.norm() for grad in expected_grads.values()]).norm()
    for name, expected in expected_grads.items():
        # A key bias, for one, has no gradient but rounding: nothing under 1 % of the whole is told apart.
        floor = torch.maximum(expected.norm(), 0.01 * whole)
        assert (grads[name] - expected).norm() <= tolerance * floor, name


@every_stream
@pytest.mark.parametrize("layout", [name for name in names() if name not in ("flex", "forked")])
@pytest.mark.parametrize("name", SHARABLE)
def test_every_layout_equals_the_padded_forward(name: str, layout: str, groups: list[TokenGroup[Any]]) -> None:
    assert_equal_to_naive(toy_network(name), layout, groups)


@every_stream
@pytest.mark.parametrize("layout", ["padded", "forked"])
def test_a_hybrid_is_right_padded_and_by_a_copied_cache(layout: str, groups: list[TokenGroup[Any]]) -> None:
    """The delta rule cut at another token rounds otherwise: in float64 a copied cache is off by 1e-12."""
    network, stream = toy_network(HYBRID), build_stream(groups)
    assert_equal_to_naive(network, layout, groups, 1e-5 if layout == "padded" else 1e-3)
    model = CausalModel(network, attention=layout)
    with torch.no_grad():
        reference_S = model.log_probs(stream).token_S
    assert torch.equal(reference_S, model.log_probs(stream).token_S)  # margins of a first step are exactly 0


@every_stream
@pytest.mark.parametrize(("name", "layout"), [*((name, "forked") for name in (*OTHERS, "gemma2")), ("gemma2", "flex")])
def test_a_copied_cache_and_the_mask_of_blocks(name: str, layout: str, groups: list[TokenGroup[Any]]) -> None:
    """Also where attention is not ours to compute."""
    assert_equal_to_naive(toy_network(name), layout, groups)


@pytest.mark.parametrize("layout", ["grouped", "dense"])
def test_a_hybrid_is_wrong_where_prompts_are_shared(layout: str) -> None:
    network, groups = toy_network(HYBRID), STREAMS["several groups"]
    expected_S = naive_log_probs(network, groups)
    got_S = CausalModel(network, attention=layout).log_probs(build_stream(groups)).token_S
    assert (got_S - expected_S).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {"sliding_window": 500}) for name, config in CONFIGS.items() if "sliding_window" in config),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("cohere", {"logit_scale": 1.0}),
        ("granite", {"logits_scaling": 1.0}),
    ],
)
def test_what_sets_an_architecture_apart_shows_in_these_streams(name: str, changes: dict[str, Any]) -> None:
    """Otherwise parity would prove nothing of windows, soft caps and scales."""
    groups = STREAMS["several groups"]
    difference = naive_log_probs(toy_network(name), groups) - naive_log_probs(toy_network(name, **changes), groups)
    assert CONFIGS[name].get("sliding_window") in (None, WINDOW)
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("layout", names())
@pytest.mark.parametrize(("heads", "key_heads", "width"), [(4, 4, 8), (4, 1, 6), (6, 2, 10)])
def test_heads_that_share_keys(heads: int, key_heads: int, width: int, layout: str) -> None:
    """Every size different, so that no two axes can be taken for each other."""
    changes = {"num_attention_heads": heads, "num_key_value_heads": key_heads, "head_dim": width}
    assert_equal_to_naive(toy_network("qwen3", **changes), layout, STREAMS["several groups"])


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
