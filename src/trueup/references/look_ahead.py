"""The hard trust region without a second model.

At a synchronisation the reference is the policy. The batches of the next `every` steps are known offline, so
they are run through the policy at once, and only their log-probabilities are kept until the next one.
"""

from __future__ import annotations

from typing import Any

from trueup.batch.batch import Batch
from trueup.batch.logprobs import LogProbs
from trueup.models.causal import CausalModel
from trueup.models.identity import model_identity
from trueup.references.choices import TrustRegion
from trueup.references.reference import Feed, State
from trueup.references.table import Table
from trueup.references.updates import due


class LookAhead:
    """reference <- policy every `region.every` steps, as scalars.

    Args:
        policy: the model whose log-probabilities are kept.
        region: the period; its alpha is 1.
    """

    exact = True

    def __init__(self, policy: CausalModel, region: TrustRegion) -> None:
        assert region.alpha == 1
        self.policy = policy
        self.region = region
        self.identity = ""
        self.table = Table()

    def start(self, feed: Feed) -> None:
        self._synchronise(0, feed)

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

    def update(self, step: int, feed: Feed) -> bool:
        if not due(self.region, step):
            return False
        self._synchronise(step, feed)
        return True

    def _synchronise(self, step: int, feed: Feed) -> None:
        upcoming = feed.upcoming(step, self.region.every)
        assert upcoming is not None
        # A new table in the order of training: the first entry of a repeated group is its next use.
        table = Table()
        table.fill(self.policy, upcoming)
        table.fill(self.policy, feed.held_out())
        self.table = table
        self.identity = model_identity(self.policy.network)

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.facts["identity"])
