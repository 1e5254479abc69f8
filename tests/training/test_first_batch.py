"""Before step 1 the policy is its reference, or the run does not begin."""

from typing import Any

import pytest
import torch
from support.policies import Training, make_policy, make_source

from trueup.batch.rows import LogProbs
from trueup.errors import NumericsError
from trueup.models.causal import CausalModel
from trueup.references.build import ROUNDING, check_first_batch
from trueup.references.choices import Frozen

BATCH = make_source().step(1).batches[0]


class Off:
    """The policy itself, its log-probabilities moved by a constant."""

    identity = "0123456789abcdef"

    def __init__(self, policy: CausalModel, by: float, exact: bool) -> None:
        self.policy, self.by, self.exact = policy, by, exact

    @torch.no_grad()
    def log_probs(self, batch: Any) -> LogProbs:
        found = self.policy.log_probs(batch.stream)
        return LogProbs(found.token_S + self.by, found.length_N)


@pytest.mark.parametrize(
    "by, exact, autocast, agrees",
    [
        (0.0, True, None, True), (1e-5, True, None, False), (1e-5, False, None, True),
        (2 * ROUNDING, False, None, False), (0.05, False, torch.bfloat16, True),
        (0.2, False, torch.bfloat16, False), (0.05, True, torch.bfloat16, False),
    ],
)  # fmt: skip
def test_how_far_they_may_differ(
    by: float, exact: bool, autocast: Any, agrees: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at all on the same code path; by rounding where a cache was filled in other batches."""
    policy = make_policy(autocast=autocast)
    reference: Any = Off(policy, by, exact)
    if agrees:
        with caplog.at_level("INFO"):
            check_first_batch(policy, reference, BATCH)
        (said,) = caplog.messages
        assert said.startswith("reference 0123456789abcdef: first batch agrees with the policy ")
        assert said.endswith("exactly") is (by == 0)
    else:
        with pytest.raises(
            NumericsError, match=r"differs from its reference 0123456789abcdef by up to .* nats"
        ) as raised:
            check_first_batch(policy, reference, BATCH)
        assert raised.value.exit_code == 5


def test_another_model_as_reference_is_refused() -> None:
    training = Training(make_policy(), Frozen())
    with torch.no_grad():
        next(training.reference.model.network.parameters()).mul_(1.01)  # type: ignore[attr-defined]
    with pytest.raises(NumericsError, match=r"though it should start from it.*not started.*adapter were given$"):
        check_first_batch(training.policy, training.reference, BATCH)


def test_only_a_reference_that_was_kept_is_said_to_be_stale() -> None:
    policy = make_policy()
    with pytest.raises(NumericsError, match=r"Check which model.*, and remove a stale cache$"):
        check_first_batch(policy, Off(policy, 1.0, exact=False), BATCH)  # type: ignore[arg-type]


def test_nan_is_no_agreement() -> None:
    """A comparison with NaN is false whichever way it is written."""
    policy = make_policy()
    with pytest.raises(NumericsError):
        check_first_batch(policy, Off(policy, float("nan"), True), BATCH)  # type: ignore[arg-type]


def test_the_policy_stays_in_training() -> None:
    training = Training(make_policy("lora"), Frozen(), "lora")
    check_first_batch(training.policy, training.reference, BATCH)
    assert training.policy.network.training
    assert all(value.grad is None for value in training.policy.network.parameters())
