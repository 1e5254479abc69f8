"""The plan's blocks are the dense rule, cut up: every (query, key) pair once, and no other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import naive_log_probs, token_group, toy_network

from trueup.batch.stream import Stream, build_stream
from trueup.models.attention import grouped
from trueup.models.attention.dense import plan_dense
from trueup.models.attention.grouped import plan_attention
from trueup.models.causal import CausalModel

lengths = st.integers(1, 24)
shapes = st.lists(st.tuples(lengths, st.lists(lengths, min_size=1, max_size=4)), min_size=1, max_size=5)
windows = st.sampled_from([None, 1, 3, 10])
cuts = st.fixed_dictionaries(
    {
        "QUERY_BLOCK": st.integers(1, 9),
        "LONG_QUERY_BLOCK": st.integers(1, 40),
        "SHORT": st.sampled_from([0, 40, 10**6]),
        "OVERHEAD": st.sampled_from([0, 30, 10**6]),
    }
)


def streamed(shape: list[tuple[int, list[int]]]) -> Stream:
    return build_stream([token_group(prompt, responses, seed) for seed, (prompt, responses) in enumerate(shape)])


def counted(stream: Stream, window: int | None) -> torch.Tensor:
    """[T, T] how often the plan lets a query meet a key."""
    made = plan_attention(stream)
    places = [(block, piece, query) for block in made.blocks for piece, query in _ranges(block.query_BQ)]
    met_TT = torch.zeros(stream.num_tokens, stream.num_tokens, dtype=torch.int64)
    for token, place in enumerate(made.place_T.tolist()):
        block, piece, query = places[place]
        assert block.query_BQ[piece, query] == token
        keys = block.key_BK[piece][block.mask(window)[piece, 0, query]]
        met_TT[token].index_add_(0, keys, torch.ones_like(keys))
    return met_TT


def _ranges(query_BQ: torch.Tensor) -> Iterator[tuple[int, int]]:
    for piece in range(query_BQ.shape[0]):
        for query in range(query_BQ.shape[1]):
            yield piece, query


@settings(max_examples=80, deadline=None)
@given(shape=shapes, window=windows, cut=cuts)
def test_every_pair_of_the_dense_rule_once(
    shape: list[tuple[int, list[int]]], window: int | None, cut: dict[str, int]
) -> None:
    stream = streamed(shape)
    dense = plan_dense(stream)
    seen_TT = dense.seen_TT
    if window is not None:
        seen_TT = seen_TT & (dense.position_T[:, None] - dense.position_T < window)
    with mock.patch.multiple(grouped, **cut):
        assert torch.equal(counted(stream, window), seen_TT.long())


def test_the_dense_rule_is_the_one_of_the_docstring() -> None:
    """[p q][a b][c] [r][d]: a response sees its prompt and itself."""
    seen = plan_dense(build_stream([token_group([5, 6], [[7, 8], [9]]), token_group([10], [[11]])])).seen_TT
    assert seen.long().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


@settings(deadline=None)
@given(window=windows, dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_mask_and_bias_of_a_block_say_the_same(window: int | None, dtype: torch.dtype) -> None:
    for block in plan_attention(streamed([(9, [4, 12]), (3, [2])])).blocks:
        bias = block.bias(window, dtype)
        assert bias.dtype == dtype
        assert torch.equal(bias == 0, block.mask(window))
        assert torch.equal(bias == -torch.inf, ~block.mask(window))
        assert block.mask(window).any(-1).all()  # a row without any key would be NaN


def test_a_micro_batch_of_short_groups_is_a_handful_of_blocks() -> None:
    made = plan_attention(streamed([(20 + at, [10, 12 + at]) for at in range(16)]))
    assert sum(block.query_BQ.shape[0] for block in made.blocks) == 48
    assert len(made.blocks) <= 6


def test_long_segments_are_cut_so_that_most_of_the_triangle_is_skipped() -> None:
    blocks = plan_attention(streamed([(2000, [10])])).blocks
    assert any(not block.short for block in blocks)
    scores = sum(block.query_BQ.numel() * block.key_BK.shape[1] for block in blocks)
    # Half of 2000 x 2000, half a block of queries each, and what padding may cost.
    assert scores <= 1.2 * (2000 * 2000 / 2 + 2000 * 256 / 2 + 10 * 2010)


@contextmanager
def fused_everywhere(**changes: int) -> Iterator[mock.Mock]:
    """No block counts as short; yields a spy on the fused kernel."""
    fused = torch.nn.functional.scaled_dot_product_attention
    with (
        mock.patch.multiple(grouped, **{"SHORT": 0, **changes}),
        mock.patch.object(grouped.nn.functional, "scaled_dot_product_attention", side_effect=fused) as spy,
    ):
        yield spy


def compared(network: Any, layout: str) -> tuple[float, float]:
    """Largest difference from the library's own forward, in value, and relative in gradient."""
    groups = [token_group(40, [30, 7], 1), token_group(3, [2, 25, 1], 2)]
    expected_S = naive_log_probs(network, groups)
    got_S = CausalModel(network, attention=layout).log_probs(build_stream(groups)).token_S
    embedding = network.get_input_embeddings().weight
    (expected,) = torch.autograd.grad(expected_S.square().sum(), embedding)
    (got,) = torch.autograd.grad(got_S.square().sum(), embedding)
    return (got_S - expected_S).abs().max().item(), ((got - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("long_block", [8, 256])
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3_text", "gpt2"])
def test_the_fused_path_computes_the_same(name: str, long_block: int) -> None:
    network = toy_network(name)
    with fused_everywhere(LONG_QUERY_BLOCK=long_block) as spy:
        value, gradient = compared(network, "grouped")
    assert spy.call_count >= 2 * network.config.num_hidden_layers
    assert value <= 1e-4  # float32, log-probabilities of about 10
    assert gradient <= 1e-5


@pytest.mark.parametrize(("name", "changes"), [("gemma2", {}), ("llama", {"SHORT": 10**6})])
def test_soft_caps_and_short_blocks_are_written_out(name: str, changes: dict[str, int]) -> None:
    with fused_everywhere(**changes) as spy:
        value, gradient = compared(toy_network(name), "grouped")
    assert spy.call_count == 0
    assert value <= 1e-4
    assert gradient <= 1e-5


def test_a_plan_is_made_once_for_policy_and_reference() -> None:
    stream = streamed([(9, [4, 12])])
    policy, reference = CausalModel(toy_network("llama")), CausalModel(toy_network("llama", seed=1))
    with mock.patch.object(grouped, "plan_attention", side_effect=plan_attention) as planned, torch.no_grad():
        for model in (policy, reference, policy):
            model.log_probs(stream)
    assert planned.call_count == 1
