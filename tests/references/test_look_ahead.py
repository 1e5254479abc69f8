"""The hard trust region without a second model is the one with a second model."""

from typing import Any

import pytest
import torch
from references.policies import Training, forwards, make_policy, make_source, token_log_probs

from trueup.references.choices import TrustRegion
from trueup.references.copies import ModelCopy
from trueup.references.table import LookAhead


def look_ahead(choice: TrustRegion, policy: Any, **_: Any) -> LookAhead:
    return LookAhead(policy, choice)


def model_copy(choice: TrustRegion, policy: Any, **_: Any) -> ModelCopy:
    return ModelCopy(policy, choice)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_scalars_equal_a_copy_of_the_model_at_every_step(every: int) -> None:
    """Bit for bit: the same weights see the same micro-batches through the same code, only earlier.

    It holds as long as no group comes twice within `every` steps, in other micro-batches; hence one pass.
    """
    region = TrustRegion(alpha=1.0, every=every)
    source = make_source(count=24, total=24)
    ours = Training(make_policy(), region, source=source, make=look_ahead)
    theirs = Training(make_policy(), region, source=source, make=model_copy)
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


def test_a_group_that_comes_twice_between_two_moves_has_one_value() -> None:
    """Longer than a pass: what its first micro-batch gave, bit for bit there, and to rounding in the second.

    See `test_table.py` for which of the two it is, as on so small a model both may be the same.
    """
    source = make_source(total=24)
    region = TrustRegion(alpha=1.0, every=6)
    ours = Training(make_policy(), region, source=source, make=look_ahead)
    theirs = Training(make_policy(), region, source=source, make=model_copy)
    for step in range(1, 7):
        batches = source.step(step).batches
        got, expected = (token_log_probs(one.reference, batches) for one in (ours, theirs))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)  # float32, values up to 10
        assert step > 3 or torch.equal(got, expected)


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
