"""The geometric mixture of two models, token by token: what a plain loop over both without a cache finds."""

from contextlib import nullcontext

import pytest
import torch
from support.scripted_model import random_prompts
from support.tiny_models import EOS, toy_network

from trueup.models.causal import CausalModel
from trueup.sampling.decoding import Decoder, Mixture, generate
from trueup.settings.gathering_settings import SamplerSettings


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_it_is_decoded_as_by_a_plain_loop(weight: float) -> None:
    policy, other = (CausalModel(toy_network("llama", seed=seed)) for seed in (1, 2))
    prompts = random_prompts(5)
    settings = SamplerSettings(decode="greedy", responses=1)
    mixture = Mixture(weight, lambda: nullcontext(other), [other])
    with torch.no_grad(), policy.plain() as plain, mixture.over(plain) as network:
        decoder = Decoder(network, [EOS])
        made = generate(decoder, prompts, 1, settings=settings, rooms=[6] * 5, keys=[])
        for prompt, (one,) in zip(prompts, made, strict=True):
            ids = list(prompt)
            for token, log_prob in zip(one.written, one.log_probs, strict=True):
                given = torch.tensor([ids])
                ours, theirs = (
                    model(input_ids=given).logits[0, -1].log_softmax(-1) for model in (plain, other.network)
                )
                mixed = ((1 - weight) * ours + weight * theirs).log_softmax(-1)
                assert token == int(mixed.argmax())
                assert log_prob == pytest.approx(mixed[token].item(), abs=1e-5)
                ids.append(token)
