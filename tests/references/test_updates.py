"""How a reference follows the policy: exactly, and when it is due; by scalars as by a second model."""

import pytest
import torch
from support.policies import Training, disturb, forwards, make_policy, make_source, token_log_probs

from trueup.models import lora
from trueup.references.build import AdapterCopy, ModelCopy, interpolate_
from trueup.references.choices import TrustRegion
from trueup.references.reference import LookAhead

EPSILON = torch.finfo(torch.float32).eps


def test_alpha_one_copies_bit_for_bit() -> None:
    """Adding a difference would keep an infinity, lose -0.0 and round a small value beside a large one."""
    new = torch.tensor([-0.0, 1e-45, 1.0000001, 3e38, 0.1])
    old = torch.tensor([0.0, 1e30, float("inf"), -3e38, float("nan")])
    interpolate_([old], [new], 1.0)
    assert torch.equal(old.view(torch.int32), new.view(torch.int32))


@pytest.mark.parametrize("weights", ["full", "lora", "started"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_trust_region_moves_on_its_period_and_not_between(weights: str, alpha: float) -> None:
    training = Training(make_policy(weights), TrustRegion(alpha=alpha, every=2), weights)
    batches = list(training.source.held_out())
    for _ in range(5):
        before, identity = token_log_probs(training.reference, batches), training.reference.identity
        (moved,) = training.advance()
        after = token_log_probs(training.reference, batches)
        assert moved is (training.step % 2 == 0)
        assert torch.equal(after, before) is not moved
        assert (training.reference.identity == identity) is not moved
        if moved:
            same = torch.equal(after, token_log_probs(training.policy, batches))
            assert same is (alpha == 1)


@pytest.mark.parametrize("alpha", [0.3, 0.6])
def test_soft_updates_equal_the_closed_form(alpha: float) -> None:
    """theta_ref after n updates is sum_k alpha (1 - alpha)^(n - k) theta_k + (1 - alpha)^n theta_0. Three updates in
    float32 round three times: a few units in the last place."""
    policy = make_policy()
    reference = ModelCopy(policy, TrustRegion(alpha=alpha, every=1))
    reference.start(make_source())
    expected = [parameter.detach().double() for parameter in policy.network.parameters()]
    for step in (1, 2, 3):
        disturb(policy.network)
        assert reference.update(step, make_source())
        moved = [parameter.detach().double() for parameter in policy.network.parameters()]
        expected = [alpha * new + (1 - alpha) * old for new, old in zip(moved, expected, strict=True)]
    for got, wanted in zip(reference.model.network.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=8 * EPSILON * wanted.abs().max().item())
        assert not got.requires_grad


def products(policy: object, adapter: str) -> dict[str, torch.Tensor]:
    """B A of every layer in float64."""
    found = {name: value.detach().double() for name, value in lora.factors(policy, adapter).items()}
    names = [name.removesuffix(".A") for name in found if name.endswith(".A")]
    return {name: found[f"{name}.B"] @ found[f"{name}.A"] for name in names}


@pytest.mark.parametrize("weights", ["lora", "started"])
def test_soft_updates_of_an_adapter_mix_its_products(weights: str) -> None:
    """B A against a dense float64 recursion; factors are float32 and truncated below their own rounding. Averaging A
    and B by themselves, the usual mistake, is off by the size of the products."""
    alpha, policy = 0.3, make_policy(weights)
    reference = AdapterCopy(policy, TrustRegion(alpha=alpha, every=1))
    reference.start(make_source())
    expected = products(policy.network, lora.POLICY)
    for step in range(1, 5):
        disturb(policy.network)
        assert reference.update(step, make_source())
        moved = products(policy.network, lora.POLICY)
        expected = {name: alpha * moved[name] + (1 - alpha) * old for name, old in expected.items()}
    got = products(policy.network, lora.REFERENCE)
    assert got.keys() == expected.keys() != set()
    for name, wanted in expected.items():
        torch.testing.assert_close(got[name], wanted, rtol=0, atol=16 * EPSILON * wanted.norm().item())


def test_a_soft_reference_of_an_adapter_computes_with_its_mixed_weights() -> None:
    """The reference's log-probabilities are those of a full model with base + scale B A of the mixture."""
    training = Training(make_policy("lora"), TrustRegion(alpha=0.4, every=1), "lora")
    training.advance(3)
    mixed = products(training.policy.network, lora.REFERENCE)
    dense = make_policy()
    scale = 6.0 / 3
    with torch.no_grad():
        for name, module in dense.network.named_modules():
            key = f"base_model.model.{name}"
            if key in mixed:
                module.weight += scale * mixed[key].float()
    batches = training.source.step(1).batches
    torch.testing.assert_close(
        token_log_probs(training.reference, batches), token_log_probs(dense, batches), rtol=1e-5, atol=1e-5
    )  # float32 sums in another order: weights are merged in one and added at run time in the other
    assert not torch.allclose(
        token_log_probs(make_policy(), batches), token_log_probs(dense, batches), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("every", [1, 2, 3])
def test_scalars_equal_a_copy_of_the_model_at_every_step(every: int) -> None:
    """Bit for bit: the same weights see the same micro-batches through the same code, only earlier. It holds as long
    as no group comes twice within `every` steps, in other micro-batches; hence one pass. See `test_cached.py` for which
    value a group has then."""
    source, region = make_source(count=24, total=24), TrustRegion(alpha=1.0, every=every)
    ours, theirs = (
        Training(make_policy(), region, source=source, make=lambda choice, policy, made=made, **_: made(policy, choice))
        for made in (LookAhead, ModelCopy)
    )
    drift = []
    for step in range(1, source.num_steps + 1):
        batches = source.step(step).batches
        expected = token_log_probs(theirs.reference, batches)
        assert torch.equal(token_log_probs(ours.reference, batches), expected)
        held_out = list(source.held_out())
        assert torch.equal(*(token_log_probs(one.reference, held_out) for one in (ours, theirs)))
        drift.append((token_log_probs(ours.policy, batches) - expected).abs().max().item())
        assert ours.advance() == theirs.advance() == [step % every == 0]
        assert ours.reference.identity == theirs.reference.identity
    assert torch.equal(token_log_probs(ours.policy, batches), token_log_probs(theirs.policy, batches))
    assert [value == 0 for value in drift] == [step % every == 0 for step in range(len(drift))]


def test_nothing_but_the_next_period_is_kept() -> None:
    source = make_source(count=24, total=24)
    training = Training(make_policy(), TrustRegion(alpha=1.0, every=2), source=source)
    assert isinstance(training.reference, LookAhead)
    for _ in range(3):
        steps = range(training.step + 1, training.step + 3)
        coming = {group.key for step in steps for group in source.step_groups(step)}
        held_out = {group.key for group in source.held_out_groups}
        assert set(training.reference.table.entries) == coming | held_out
        if steps.stop <= source.num_steps:
            with pytest.raises(KeyError):
                training.reference.log_probs(source.step(steps.stop).batches[0])
        training.advance(2)
    assert set(training.reference.table.entries) == held_out  # the run is over


def test_it_costs_one_forward_pass_for_each_micro_batch() -> None:
    source = make_source(count=12, total=12)
    training = Training(make_policy(), TrustRegion(alpha=1.0, every=3), source=source)
    batches = sum(len(source.step(step).batches) for step in (1, 2, 3))
    with forwards() as seen:
        training.advance(2)
    assert len(seen) == len(source.step(1).batches) + len(source.step(2).batches)  # the policy's own
    with forwards() as seen:
        Training(make_policy(), TrustRegion(alpha=1.0, every=3), source=source)
    assert len(seen) == batches + len(list(source.held_out()))
