"""Means and KL, by hand and against sampling."""

import math
from itertools import product

import pytest
import torch
from support.tiny_models import EOS, naive_log_probs, token_group, toy_network

from trueup.estimates import Mean, mean
from trueup.evaluate import likelihoods
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.sampling.decoding import Decoder, draw
from trueup.sampling.sampler import Completion
from trueup.settings.gathering_settings import SamplerSettings

TOKENS = 5
"""A vocabulary so small that every response of three tokens can be listed."""
LONGEST = 3


def model(seed: int) -> CausalModel:
    network = toy_network(seed=seed, vocab_size=TOKENS)
    with torch.no_grad():
        network.lm_head.weight.mul_(0.3)  # every response has a chance worth counting
    return CausalModel(network)


def responses() -> list[list[int]]:
    """All that sampling can give: ended by EOS, or cut after three tokens."""
    others = [token for token in range(TOKENS) if token != EOS]
    ended = [[*start, EOS] for length in range(LONGEST) for start in product(others, repeat=length)]
    return ended + [list(cut) for cut in product(others, repeat=LONGEST)]


def sequence_log_probs(of: CausalModel, prompt: list[int]) -> torch.Tensor:
    """In float64, by the model library's own forward pass, of every response."""
    listed = responses()
    network = toy_network(vocab_size=TOKENS).double()
    network.load_state_dict(of.network.state_dict())
    with torch.no_grad():
        token_S = naive_log_probs(network, [token_group(prompt, listed)])
    return torch.stack([part.sum() for part in token_S.split([len(response) for response in listed])])


def sampled(of: CausalModel, prompts: list[list[int]]) -> list[Completion]:
    generator = torch.Generator().manual_seed(0)
    with of.plain() as network:
        return draw(
            Decoder(network, [EOS], batch_size=10_000),
            prompts,
            settings=SamplerSettings(max_new_tokens=LONGEST),
            generator=generator,
        )


def sequence_kl(
    policy: CausalModel, start: CausalModel, prompts: list[list[int]], completions: list[Completion],
    start_prompts: list[list[int]] | None = None,
) -> Mean:  # fmt: skip
    """Of the two, the start asked in other words where they are given."""
    rows = []
    for of, asked in ((policy, prompts), (start, start_prompts or prompts)):
        both = enumerate(zip(asked, completions, strict=True))
        groups = [token_group(ids, [list(one.written)], relation=at) for at, (ids, one) in both]
        read = likelihoods.of_groups(of, groups)
        rows.append([read[at] for at in range(len(groups))])
    found = likelihoods.sequence_kl(*rows)
    assert isinstance(found, Mean)
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_estimate_equals_the_sum_over_all_responses(seed: int) -> None:
    """sum_y pi(y) log(pi(y) / pi_start(y)), within four standard errors of 2000 draws from two prompts."""
    policy, start = model(0), model(seed)
    both = [[3, 4, 1], [4]]
    exact = []
    for prompt in both:
        ours, theirs = (sequence_log_probs(each, prompt) for each in (policy, start))
        assert ours.exp().sum().item() == pytest.approx(1, abs=1e-12)  # nothing is missing from the list
        exact.append((ours.exp() * (ours - theirs)).sum().item())
    prompts = both * 1000
    found = sequence_kl(policy, start, prompts, sampled(policy, prompts))
    assert found.count == 2000
    assert 0 < found.error < 0.1 * found.value
    assert abs(found.value - sum(exact) / 2) <= 4 * found.error
    backwards = sequence_kl(start, policy, prompts, sampled(start, prompts))
    assert abs(backwards.value - sum(exact) / 2) > 4 * found.error  # it is not symmetric


def test_an_end_counts_where_the_policy_wrote_it() -> None:
    """One response, ended and cut: the difference is the log-ratio of EOS."""
    policy, start, prompt = model(0), model(1), [3, 4]
    listed = responses()
    ratio = sequence_log_probs(policy, prompt) - sequence_log_probs(start, prompt)
    for response in ([1, 4, EOS], [1, 4, 3], [EOS]):
        ended = response[-1] == EOS
        one = Completion(tuple(response), ended)
        found = sequence_kl(policy, start, [prompt], [one])
        assert found.value == pytest.approx(ratio[listed.index(response)].item(), abs=1e-5)  # float32
        assert math.isnan(found.error)


def test_the_budget_and_dropout_take_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that is being trained has dropout, which is no part of the policy."""
    network = lora.add_lora(
        toy_network(vocab_size=TOKENS), rank=3, alpha=6.0, dropout=0.5, targets="all-linear", base="toy"
    )
    with torch.no_grad():
        for factor in lora.factors(network, lora.POLICY).values():
            factor.add_(0.1 * torch.randn_like(factor))
    policy, prompts = CausalModel(network.train()), [[3, 4], [4], [1, 3, 3]] * 4
    given = sampled(policy, prompts)
    found = sequence_kl(policy, model(0), prompts, given)
    with monkeypatch.context() as patched:
        patched.setattr(likelihoods, "TOKENS", 1)
        alone = sequence_kl(policy, model(0), prompts, given)
    assert alone.value == pytest.approx(found.value, abs=1e-5)  # float32, in other batches
    assert network.training
    network.eval()
    assert sequence_kl(policy, model(0), prompts, given) == found


def test_means_by_hand() -> None:
    """1, 2, 3, 6: mean 3, squares of distances 4 + 1 + 0 + 9 over 3, by 4 under the root."""
    found = mean([1.0, 2.0, 3.0, 6.0])
    assert (found.value, found.count) == (3.0, 4)
    assert found.error == pytest.approx(math.sqrt(14 / 3 / 4), rel=1e-15)
    assert math.isnan(mean([5.0]).error)


def test_each_model_is_asked_in_its_own_words() -> None:
    """The same response, behind one prompt for the policy and another for the start."""
    policy, start = model(1), model(2)
    asked, plain = [3, 2, 4], [3, 2]
    one = Completion((3, 4, EOS), True)
    found = sequence_kl(policy, start, [asked], [one], start_prompts=[plain])
    place = responses().index([3, 4, EOS])
    expected = sequence_log_probs(policy, asked)[place] - sequence_log_probs(start, plain)[place]
    assert found.value == pytest.approx(expected.item(), abs=1e-5)
