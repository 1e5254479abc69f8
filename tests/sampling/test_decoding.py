"""Copies of a cache are the prompt computed again, and a response is that of its own numbers alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.scripted_model import random_prompts, script
from support.tiny_models import CONFIGS, EOS, toy_network

from trueup.models.causal import CausalModel
from trueup.sampling.decoding import generate
from trueup.sampling.sampler import Completion, uniforms
from trueup.settings.gathering_settings import SamplerSettings

ENDS = [EOS, 9, 17, 33, 40]
"""Of 64 tokens, so that most responses end and leave."""
COPIES = 3
DRAWN, GREEDY = SamplerSettings(), SamplerSettings(decode="greedy", responses=1)


def numbers(place: int, copy: int) -> NDArray[np.float64]:
    return uniforms(b"%d/%d" % (place, copy), 12)


@pytest.mark.parametrize("name", CONFIGS)
def test_copies_are_what_each_would_be_alone(name: str) -> None:
    model, given = CausalModel(toy_network(name)), random_prompts(1, 9, 4, 6)
    with model.plain() as network, torch.no_grad():
        found = generate(
            network, given, COPIES, end_ids=ENDS, settings=DRAWN, rooms=[12, 5, 12, 1], streams=numbers
        )
        alone: list[list[Completion]] = [
            [
                generate(
                    network, [prompt], 1, end_ids=ENDS, settings=DRAWN, rooms=[room],
                    streams=lambda _, __, place=place, copy=copy: numbers(place, copy),
                )[0][0]
                for copy in range(COPIES)
            ]
            for place, (prompt, room) in enumerate(zip(given, (12, 5, 12, 1), strict=True))
        ]  # fmt: skip
    assert found == alone
    assert {one.ended for several in found for one in several} == {True, False}
    assert len({one.written for one in found[0]}) == COPIES
    got = [value for several in found for one in several for value in one.log_probs]
    expected = [value for several in alone for one in several for value in one.log_probs]
    assert got == pytest.approx(expected, abs=1e-4)


def test_a_prompt_is_computed_once() -> None:
    """Two prompts with three responses each; and copies are computed together even if they do not fit into a batch."""
    model = script([3], [4])
    generate(
        model,
        [[1], [1]],
        COPIES,
        end_ids=[EOS],
        settings=DRAWN,
        rooms=[2, 2],
        streams=numbers,
        batch_size=6,
    )
    assert model.sizes == [2, 6]
    generate(model, [[1]], 9, end_ids=[EOS], settings=DRAWN, rooms=[2], streams=numbers, batch_size=4)
    assert model.sizes == [1, 9]


def test_what_watches_ends_a_response_and_it_is_not_the_model_that_did() -> None:
    def fourth(token: int) -> bool:
        assert token != EOS
        return token == 4

    model = script([3, 4, 5], [3, 5, EOS], [5, 5, 5])
    found = generate(
        model,
        [[1]] * 3,
        1,
        end_ids=[EOS],
        settings=GREEDY,
        rooms=[3] * 3,
        streams=numbers,
        watch=lambda: fourth,
    )
    assert [several[0] for several in found] == [
        Completion((3, 4), False),
        Completion((3, 5), True),
        Completion((5, 5, 5), False),
    ]
