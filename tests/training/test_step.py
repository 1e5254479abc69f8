"""One step: whatever way the batch is cut, it is the same step, and what is not finite takes none."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support.method_batches import cut_into, method_groups, mismatched_of, policy_for, text_policy
from support.waits import Waits
from torch.utils._python_dispatch import _disable_current_modes

from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch, Stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import NumericsError
from trueup.feedback.records import PairRelation
from trueup.methods import METHODS, Method
from trueup.models.attention import grouped
from trueup.models.attention.grouped import plan_attention
from trueup.models.causal import CausalModel
from trueup.objectives.loss import Loss, Selected, StepObjective
from trueup.references.build import build
from trueup.references.choices import Frozen, NoReference
from trueup.references.reference import NullReference, Reference
from trueup.sources.source import Step
from trueup.training.optimizer import Optimizer
from trueup.training.step import Sums, evaluate, train_step

CUTS = ([6], [3, 2, 1], [1] * 6, [2, 4])  # in the last one the groups are laid in the opposite order


def take_step(
    policy: CausalModel, reference: Reference, method: Method, batches: list[Batch[Any]], *,
    optimizer: Optimizer | None = None, mismatched: Sequence[Batch[Any]] = (),
) -> dict[str, float]:  # fmt: skip
    optimizer = optimizer or Optimizer(policy.network, weight_decay=0.1)
    data = Step(batches, mismatched)
    return train_step(policy, reference, method, data, optimizer, step=1, learning_rate=1e-2)


def reference_of(method: Method, policy: CausalModel) -> Reference:
    """A frozen one, of other weights than the policy's: at equal weights every log-ratio would be 0."""
    if isinstance(method.reference, NoReference):
        return NullReference()
    reference = build(Frozen(), policy, starts_from_adapter=False, offline=True)
    with torch.no_grad():
        for value in reference.model.network.parameters():  # type: ignore[attr-defined]
            value.mul_(0.8)
    return reference


@pytest.mark.parametrize("name", METHODS)
def test_a_step_does_not_depend_on_how_its_batch_is_cut_and_ordered(name: str, tmp_path: Path) -> None:
    """Weights, and every metric of a batch in one order, in float64. A first step of AdamW divides each gradient by
    its own size, which leaves the sign: rounding of 1e-17 in a gradient counts against epsilon, 1e-8, times the
    learning rate of 1e-2. Normalising each micro-batch by itself, the usual mistake, moves these weights by 1e-2."""
    method, groups = method_groups(name, tmp_path)
    results = []
    for sizes in CUTS:
        policy, order = policy_for(method, double=True), groups if sizes != CUTS[-1] else groups[::-1]
        batches, others = cut_into(method, order, sizes), mismatched_of(method, order, sizes)
        metrics = take_step(policy, reference_of(method, policy), method, batches, mismatched=others)
        results.append((metrics, torch.cat([value.detach().flatten() for value in policy.network.parameters()])))
    start = torch.cat([value.detach().flatten() for value in policy_for(method, double=True).network.parameters()])
    for (metrics, weights), sizes in zip(results[1:], CUTS[1:], strict=True):
        if sizes != CUTS[-1]:
            assert metrics == pytest.approx(results[0][0], rel=1e-9, abs=1e-12)
        torch.testing.assert_close(weights, results[0][1], rtol=0, atol=1e-8)
    assert (results[0][1] - start).abs().max() > 5e-3


def spoiled(method: Method, row: int, value: float) -> Method:
    """The method with the loss of one row replaced, in the micro-batches that have as many."""

    def objective(policy: LogProbs, reference: Any, index: Any, *measured: Any) -> Loss:
        loss = inner(policy, reference, index, *measured)
        mask = torch.arange(len(loss.per_example)) == row
        return replace(loss, per_example=torch.where(mask, loss.per_example * 0 + value, loss.per_example))

    measured = method.objective if isinstance(method.objective, StepObjective) else None
    inner: Any = measured.objective if measured else method.objective
    return replace(method, objective=replace(measured, objective=objective) if measured else objective)


def needs_reference(name: str) -> bool:
    return not isinstance(METHODS[name].build().reference, NoReference)


class Spoiled:
    """A reference with one value replaced, of the group whose prompt is that of `at`."""

    identity, exact = "spoiled", True

    def __init__(self, policy: CausalModel, value: float, at: TokenGroup[Any]) -> None:
        self.policy, self.value, self.at = policy, value, at

    @torch.no_grad()
    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        found = self.policy.log_probs(batch.stream)
        scored = 0
        for group in batch.groups:
            if group.prompt.tobytes() == self.at.prompt.tobytes():
                found.token_S[scored] = self.value
            scored += sum(int(row.scored.sum()) for row in group.responses)
        return found


@contextmanager
def refused(policy: CausalModel, message: str) -> Iterator[None]:
    """A step is refused with this message, and nothing has moved."""
    before = [value.detach().clone() for value in policy.network.parameters()]
    with pytest.raises(NumericsError, match=message):
        yield
    assert all(torch.equal(*pair) for pair in zip(before, policy.network.parameters(), strict=True))


def file_of(group: TokenGroup[Any]) -> str:
    assert group.origin is not None
    return group.origin.file


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_row_and_moves_nothing(name: str, value: float, tmp_path: Path) -> None:
    """The third group of the second micro-batch: by then the first one's gradients have been summed."""
    method, groups = method_groups(name, tmp_path)
    policy = policy_for(method)
    batches = cut_into(method, groups, [2, 4])
    first = groups[0]  # of each group there are as many losses
    losses = len(first.relation.pairs) if isinstance(first.relation, PairRelation) else 1
    losses = len(first.responses) if method.rollout else losses
    others, odd = mismatched_of(method, groups, [2, 4]), spoiled(method, 2 * losses, value)
    message = rf"step 1: the loss of {file_of(groups[4])}:5 is not finite \({value}\); the step was not taken"
    with refused(policy, message):
        take_step(policy, reference_of(method, policy), odd, batches, mismatched=others)


@pytest.mark.parametrize("name", [name for name in METHODS if needs_reference(name)])
def test_a_reference_that_is_not_finite_in_a_later_micro_batch_names_its_row(name: str, tmp_path: Path) -> None:
    """Also where it went into something measured over the whole step: the rows before it are not to blame."""
    method, groups = method_groups(name, tmp_path)
    policy = text_policy()
    reference: Any = Spoiled(policy, float("nan"), at=groups[2])
    batches, others = cut_into(method, groups, [2, 4]), mismatched_of(method, groups, [2, 4])
    message = rf"step 1: the log-probability under the reference of {file_of(groups[2])}:3 is not finite \(nan\)"
    with refused(policy, message):
        take_step(policy, reference, method, batches, mismatched=others)


REFUSED: dict[str, Callable[[Loss], dict[str, torch.Tensor]]] = {
    r"gradient is not finite.*:1, .*:2, .*:5 and 1 more": lambda loss: {  # 0 more, with an infinite slope
        "per_example": loss.per_example + (loss.per_example - loss.per_example.detach()).sqrt()
    },
    "step 1: no weight that is trained has a gradient": lambda loss: {"per_example": loss.per_example.detach()},
    "step 1: the batch holds nothing to learn from": lambda loss: {"weight": torch.zeros_like(loss.weight)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_loss_of_which_nothing_can_be_learned_is_refused(message: str, tmp_path: Path) -> None:
    """And names the rows of the whole batch where its gradient is not finite."""
    method, groups = method_groups("sft", tmp_path)

    def objective(*given: Any) -> Loss:
        loss = method.objective(*given)
        return replace(loss, **REFUSED[message](loss))

    policy = text_policy()
    with refused(policy, message):
        take_step(policy, NullReference(), replace(method, objective=objective), cut_into(method, groups, [3, 3]))


def test_what_was_given_up_leaves_nothing_to_the_next_step(tmp_path: Path) -> None:
    """Gradients summed before the failure, or before a second signal, are not added to those of the next step."""
    method, groups = method_groups("sft", tmp_path)
    batches = cut_into(method, groups, [3, 3])

    def step_after(fail: Callable[[CausalModel, Optimizer], None]) -> torch.Tensor:
        policy = text_policy()
        optimizer = Optimizer(policy.network)
        fail(policy, optimizer)
        take_step(policy, NullReference(), method, batches, optimizer=optimizer)
        return torch.cat([value.detach().flatten() for value in policy.network.parameters()])

    def not_finite(policy: CausalModel, optimizer: Optimizer) -> None:
        odd = [batches[0], cut_into(method, groups[:4], [4])[0]]
        with pytest.raises(NumericsError):
            take_step(policy, NullReference(), spoiled(method, 3, float("nan")), odd, optimizer=optimizer)

    def interrupted(policy: CausalModel, optimizer: Optimizer) -> None:
        with mock.patch.object(Optimizer, "grad_norm", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            take_step(policy, NullReference(), method, batches, optimizer=optimizer)

    expected = step_after(lambda policy, optimizer: None)
    assert torch.equal(step_after(not_finite), expected)
    assert torch.equal(step_after(interrupted), expected)


def log_probs(*rows: float) -> LogProbs:
    return LogProbs(torch.tensor(rows), torch.ones(len(rows), dtype=torch.int64))


def selected(values: list[float], where: list[bool]) -> Selected:
    return Selected(torch.tensor(values), torch.tensor(where))


def test_means_by_hand() -> None:
    """Micro-batches of two and one: means over all, each by its own count, and none of nothing."""
    sums = Sums()
    first = Loss(
        torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([0, 1]),
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([]), "c": selected([9.0, 2.0], [False, True])},
    )  # fmt: skip
    second = Loss(
        torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([0]),
        {"a": torch.tensor([6.0]), "b": torch.tensor([4.0]), "c": selected([math.nan], [False]),
         "d": torch.tensor([]), "e": selected([1.0], [False])},
    )  # fmt: skip
    sums.add_batch(first, log_probs(-1.0, -2.0), log_probs(-1.5, -4.0))
    sums.add_batch(second, log_probs(-3.0), log_probs(-2.0))
    means, counts, more = sums.fetch(1, torch.tensor(0.25))
    assert more == [0.25]
    assert counts == {"loss": 5, "a": 3, "b": 1, "c": 1, "d": 0, "e": 0, "kl": 3, "drift": 3}
    assert means == pytest.approx(
        {
            "loss": (3 + 1 + 5) / (2 + 2 + 1),
            "a": (1 + 2 + 6) / 3,
            "b": 4.0,
            "c": 2.0,
            "kl": ((-1 + 1.5) + (-2 + 4) + (-3 + 2)) / 3,  # pi over pi_ref, not the other way round
            "drift": ((-1 + 1.5) + (-2 + 4) + (-3 + 2)) / 3,  # of one token each
        },
        rel=1e-15,
    )


def test_evaluation_is_the_same_means_and_moves_nothing(tmp_path: Path) -> None:
    method, groups = method_groups("dpo", tmp_path)
    policy = text_policy()
    reference = reference_of(method, policy)
    batches = cut_into(method, groups, [4, 2])
    evaluated = evaluate(policy, reference, method, Step(batches), step=1)
    assert all(value.grad is None for value in policy.network.parameters())
    trained = take_step(policy, reference, method, batches)
    trained.pop("grad_norm")
    assert evaluated == {f"eval_{name}": value for name, value in trained.items()}
    assert {"eval_loss", "eval_kl", "eval_rewards/accuracies", "eval_logps/chosen"} <= set(evaluated)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_waits_for_the_device_until_all_is_brought_over_at_once(name: str, tmp_path: Path) -> None:
    """With shared prompts: for padded rows the model library looks at the mask itself."""
    method, groups = method_groups(name, tmp_path)
    policy = policy_for(method)
    reference = reference_of(method, policy)
    batches, others = cut_into(method, groups, [2, 4]), mismatched_of(method, groups, [2, 4])
    waits, before = Waits(), list[str]()
    original = Sums.fetch

    def fetch(*arguments: Any) -> Any:
        before.extend(waits.found)
        return original(*arguments)

    def plan(stream: Stream) -> grouped.Plan:
        with _disable_current_modes():  # made on the host
            return plan_attention(stream)

    with (
        mock.patch.object(Sums, "fetch", autospec=True, side_effect=fetch) as fetched,
        mock.patch.object(grouped, "plan_attention", side_effect=plan),
        waits,
    ):
        take_step(policy, reference, method, batches, mismatched=others)
    assert (before, fetched.call_count) == ([], 1)


@pytest.mark.parametrize("name", METHODS)
def test_how_many_forward_passes_a_step_takes_is_known_before(name: str, tmp_path: Path) -> None:
    """Whatever its rows say: one a micro-batch, and those of what is measured first, on them or on mismatched ones."""
    method, groups = method_groups(name, tmp_path)
    policy = policy_for(method)
    batches, others = cut_into(method, groups, [1, 3, 2]), mismatched_of(method, groups, [2, 4])
    called: list[None] = []
    policy.register_forward_hook(lambda *unused: called.append(None))
    for _ in range(2):
        called.clear()
        take_step(policy, reference_of(method, policy), method, batches, mismatched=others)
        assert len(called) == 3 + (3 if name in ("bco", "paired-kto") else 0) + len(others)
