"""Losses, one objective and its variants a file; `trueup.objectives.NAME` is imported, and torch, once it is named.
An objective is a pure function of what the policy says of N responses, of what the reference says of the same N (None
where it is not used), and of an index of these rows: P pairs, G rankings, or labels or weights of each. It gives an
unreduced `Loss` of [P] pairs, [G] rankings or [N] responses. Log-probabilities are summed over the tokens of a response
where nothing else is said, rho(y) = log(pi / pi_ref)(y | x) in nats, and beta is the strength of the KL constraint, in
reward per nat; larger stays closer to the reference. Of a pair w is the better and l the worse response; one whose
order is right with the probability p gives the expectation over its order."""

# ruff: noqa: F401, I001
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers know of
    from trueup.objectives import bco, bradley_terry, dpo, dpo_variants, grpo, ipo, kto, loss, opponents
    from trueup.objectives import paired_kto, pointwise_dpo, ppo, reference_free, reinforce, rloo, rollout, rrhf
    from trueup.objectives import sft, slic, slic_hf, ulma, unlikelihood
else:

    def __getattr__(name: str) -> Any:
        return import_module(f"{__name__}.{name}")
