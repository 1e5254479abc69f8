"""What every kind of reference keeps to: where it starts, what it is called, and that it can be restored."""

import gc
from typing import Any

import pytest
import torch
from support.policies import WEIGHTS, Training, make_policy, make_source, token_log_probs

from trueup.errors import InputError
from trueup.models import causal, lora
from trueup.models.causal import model_identity, moved_identity
from trueup.references.build import build, check_first_batch
from trueup.references.choices import AdapterOff, Cached, Frozen, NoReference, TrustRegion
from trueup.references.reference import State

SOFT, HARD = TrustRegion(alpha=0.6, every=2), TrustRegion(alpha=1.0, every=2)
KINDS = [
    pytest.param(choice, weights, id=f"{choice.kind}-{getattr(choice, 'alpha', '')}-{weights}")
    for choice in (Frozen(), Cached(), SOFT, HARD, AdapterOff())
    for weights in WEIGHTS
    if choice.kind != "adapter-off" or weights == "lora"
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache filled in other batches agrees to rounding only."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))


@pytest.mark.parametrize("choice, weights", KINDS)
def test_at_the_start_every_log_ratio_is_exactly_zero(
    choice: Any, weights: str, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(make_policy(weights), choice, weights)
    for step in (1, 2):
        batches = training.source.step(step).batches
        ours, theirs = (token_log_probs(one, batches) for one in (training.policy, training.reference))
        assert torch.equal(ours, theirs)
    with caplog.at_level("INFO", logger="trueup"):
        check_first_batch(training.policy, training.reference, training.source.step(1).batches[0])
    agrees = f"reference {training.reference.identity}: first batch agrees with the policy exactly"
    assert caplog.messages == [agrees]


@pytest.mark.parametrize("choice, weights", KINDS)
def test_the_optimizer_sees_the_policy_alone(choice: Any, weights: str) -> None:
    expected = {name for name, value in make_policy(weights).network.named_parameters() if value.requires_grad}
    training = Training(make_policy(weights), choice, weights)
    training.advance(2)
    assert set(training.optimizer.parameters) == expected
    training.optimizer.zero_grad()
    assert training.reference.log_probs(training.source.step(3).batches[0]).token_S.requires_grad is False
    trainable = {name for name, value in training.policy.network.named_parameters() if value.requires_grad}
    assert trainable == expected


@pytest.mark.parametrize("choice, weights", KINDS)
def test_identity_says_which_weights_it_stands_for(choice: Any, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal for equal weights, another for other weights; a move is named by where it began and when it was."""
    one, same = (Training(make_policy(weights), choice, weights) for _ in range(2))
    other = Training(make_policy(weights, seed=7), choice, weights)
    started = one.reference.identity
    assert len(started) == 16 and int(started, 16) > 0
    assert same.reference.identity == started != other.reference.identity
    if choice is HARD and weights == "full":
        assert started == model_identity(make_policy().network)
    monkeypatch.setattr(causal, "identity_of", None)  # nothing is hashed at a move
    names = [one.reference.identity for _ in range(6) if one.advance() is not None]
    second = moved_identity(started, 2)
    fourth = moved_identity(second, 4)
    moved = [started, second, second, fourth, fourth, moved_identity(fourth, 6)]
    assert names == (moved if isinstance(choice, TrustRegion) else [started] * 6)
    assert one.reference.state().metadata["identity"] == names[-1]


@pytest.mark.parametrize("choice, weights", KINDS)
def test_a_restored_reference_goes_on_bit_for_bit(choice: Any, weights: str) -> None:
    """Saved between two moves, and restored beside a policy that stands where the first one stood."""
    first = Training(make_policy(weights), choice, weights)
    first.advance(3)
    state = first.reference.state()
    saved = State({key: value.detach().clone() for key, value in state.tensors.items()}, dict(state.metadata))
    second = Training(make_policy(weights), choice, weights, begin=False)
    second.reference.restore(saved)
    with torch.no_grad():
        for name, parameter in second.optimizer.parameters.items():
            parameter.copy_(first.optimizer.parameters[name])
    second.optimizer.restore({key: value.clone() for key, value in first.optimizer.state().items()})
    second.step = first.step
    for _ in range(2):
        batches = first.source.step(first.step + 1).batches
        assert torch.equal(*(token_log_probs(one.reference, batches) for one in (first, second)))
        assert first.reference.identity == second.reference.identity
        assert first.advance() == second.advance()
    assert torch.equal(*(token_log_probs(one.policy, batches) for one in (first, second)))


@pytest.mark.parametrize("choice", [Frozen(), Cached(), SOFT, HARD], ids=lambda choice: choice.kind)
def test_a_reference_has_no_dropout_and_draws_nothing(choice: Any) -> None:
    """Though the policy that it stands for is in training, and has."""
    policy = make_policy("started", dropout=0.5)
    training = Training(policy, choice, "started", begin=False)
    batches, before = training.source.step(1).batches, torch.get_rng_state()
    training.reference.start(training.source)
    found = token_log_probs(training.reference, batches)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, token_log_probs(make_policy("started"), batches))
    assert not torch.allclose(token_log_probs(policy, batches), found, atol=1e-3)


def test_no_reference_offers_nothing() -> None:
    absent = build(NoReference(), make_policy(), starts_from_adapter=False, offline=True)
    source = make_source()
    absent.start(source)
    assert absent.log_probs(source.step(1).batches[0]) is None
    assert not absent.update(1, source)
    assert absent.state() == State(metadata={"identity": ""})
    check_first_batch(make_policy(), absent, source.step(1).batches[0])


def test_an_adapter_that_is_continued_is_not_switched_off() -> None:
    """What else does not fit is refused with the settings."""
    with pytest.raises(InputError, match="not where it starts: the model given is an adapter"):
        build(AdapterOff(), make_policy("started"), starts_from_adapter=True, offline=True)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_frozen_does_not_follow(weights: str) -> None:
    """Under an adapter to continue it is that adapter, and not the base model, where a fresh adapter starts."""
    training = Training(make_policy(weights), Frozen(), weights)
    batches = training.source.step(1).batches
    start, base = (token_log_probs(make_policy(of), batches) for of in (weights, "full"))
    assert training.advance(4) == [False] * 4
    assert torch.equal(token_log_probs(training.reference, batches), start)
    assert ((start - base).abs().max() > 0.1).item() is (weights == "started")
    assert (token_log_probs(training.policy, batches) - start).abs().max() > 1e-3


def parameters_alive() -> int:
    """How many numbers all parameters in this process hold."""
    gc.collect()
    return sum(one.numel() for one in gc.get_objects() if type(one) is torch.nn.Parameter)


@pytest.mark.parametrize(
    "choice, weights, holds",
    [
        (Frozen(), "full", "model"), (SOFT, "full", "model"), (HARD, "full", None), (Cached(), "full", None),
        (Frozen(), "lora", None), (Frozen(), "started", "adapter"),
    ],
)  # fmt: skip
def test_a_second_model_is_held_only_in_parameter_space(choice: Any, weights: str, holds: str | None) -> None:
    policy = make_policy(weights)
    held = {
        None: [],
        "model": list(policy.network.parameters()),
        "adapter": list(lora.factors(policy.network, lora.POLICY).values()) if weights == "started" else [],
    }[holds]
    expected, before = sum(one.numel() for one in held), parameters_alive()
    training = Training(policy, choice, weights)
    training.advance(3)
    assert parameters_alive() - before == expected
