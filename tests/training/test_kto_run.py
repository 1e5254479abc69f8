"""KTO over several steps against its formula: one padded forward pass of the library's model for each quantity. Which
responses are mismatched is worked out here from the order of the pass, and the weights of the reference are kept here
as the definition of its kind says; nothing of the training loop is used but the step itself."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.policies import disturb, make_policy
from support.tiny_models import naive_log_probs, token_group
from torch import Tensor

from trueup import methods
from trueup.batch.rows import Points
from trueup.batch.tokens import TokenGroup, mismatched
from trueup.feedback.records import PointRelation, by_label
from trueup.models.causal import CausalModel
from trueup.references.build import build
from trueup.references.choices import AdapterOff, Cached, Frozen, TrustRegion
from trueup.sources.source import Batching, OfflineSource
from trueup.training.optimizer import Optimizer
from trueup.training.step import evaluate, train_step

BETA, GOOD, BAD = 0.5, 1.3, 0.7
METHOD = partial(methods.kto, beta=BETA, desirable_weight=GOOD, undesirable_weight=BAD)
STEPS = 4
ONE, MANY = 100_000, 8  # stream tokens of a micro-batch: the whole step in one, and hardly more than one group in each


def make_groups(count: int) -> list[TokenGroup[PointRelation]]:
    """Desirable responses share their tokens, so that learning one makes it likelier after every prompt. One or two
    responses each, and the same prompt in two groups one after the other."""
    made = []
    for number in range(count):
        prompt = 2 + (number - number % 2) // 2 % 3
        seed = number - number % 2 if number < 6 else number
        relations = (
            ([[5, 6, 7]], PointRelation((1.0,), (False,))),
            ([[5, 6], [20, 21, 22]], PointRelation((1.0, 0.0), (False, False))),
            ([[30, 31 + number % 3]], PointRelation((0.0,), (False,))),
            ([[6, 7, 5, 8]], PointRelation((0.75,), (False,))),
        )
        responses, relation = relations[number % 4]
        group = token_group(prompt, [prompt], seed)  # random ids, the same for the same seed
        made.append(TokenGroup(group.prompt, token_group(1, responses).responses, relation))
    return made


def make_source(budget: int) -> OfflineSource:
    """Two passes of two steps."""
    groups = make_groups(14)
    return OfflineSource(
        groups[:10], groups[10:], Batching(Points.collate, budget, partial(mismatched, max_length=64)),
        batch_size=5, seed=3, total=20, stratum=by_label,
    )  # fmt: skip


def others_of(asked: list[TokenGroup[Any]], laid: list[TokenGroup[Any]], first: int) -> list[TokenGroup[Any]]:
    """Each prompt with the responses of the next group of the pass, around its end, that has another one."""
    made = []
    for place, group in enumerate(asked, start=first):
        around = [laid[(place + more) % len(laid)] for more in range(1, len(laid))]
        other = next(one for one in around if one.prompt.tolist() != group.prompt.tolist())
        made.append(TokenGroup(group.prompt, other.responses, None))
    return made


def sums(network: Any, groups: list[TokenGroup[Any]]) -> Tensor:
    """[N] log-probability of each response, by the model library alone."""
    lengths = [len(response.ids) for group in groups for response in group.responses]
    return torch.stack([part.sum() for part in naive_log_probs(network, groups).split(lengths)])


@dataclass
class Naive:
    """KTO in plain torch, on padded rows of two models."""

    policy: Any
    reference: Any
    context: Callable[[], Any] = nullcontext

    def expected(
        self, groups: list[TokenGroup[Any]], others: list[TokenGroup[Any]]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics, and the gradient of the mean loss."""
        label = torch.tensor([value for group in groups for value in group.relation.labels]).double()
        with torch.no_grad(), self.context():
            anchored, far_anchored = sums(self.reference, groups), sums(self.reference, others)
        with torch.no_grad():
            far = sums(self.policy, others) - far_anchored
        z0 = max(0.0, far.mean().item())
        rho = sums(self.policy, groups) - anchored
        gain = GOOD * (1 - torch.sigmoid(BETA * (rho - z0)))
        risk = BAD * (1 - torch.sigmoid(BETA * (z0 - rho)))
        loss = (label * gain + (1 - label) * risk).mean()
        named = {name: value for name, value in self.policy.named_parameters() if value.requires_grad}
        found = torch.autograd.grad(loss, list(named.values()))
        good = label > 0.5
        metrics = {
            "loss": loss.item(), "kto/z0": z0, "kto/z0_error": far.std().item() / len(far) ** 0.5,
            "kl": rho.mean().item(), "rewards/chosen": BETA * rho[good].mean().item(),
            "rewards/rejected": BETA * rho[~good].mean().item(),
        }  # fmt: skip
        return metrics, dict(zip(named, found, strict=True))


KINDS = {
    "frozen": (Frozen(), False), "cached": (Cached(), False), "soft": (TrustRegion(alpha=0.6, every=2), False),
    "hard": (TrustRegion(alpha=1.0, every=2), False), "adapter-off": (AdapterOff(), True),
    "lora-hard": (TrustRegion(alpha=1.0, every=3), True),
}  # fmt: skip


def in_double(adapted: bool, dropout: float = 0.0) -> CausalModel:
    policy = make_policy("lora" if adapted else "full", dropout=dropout)
    policy.network.double()
    return policy


@dataclass
class Followed:
    """A policy in training, and beside it what its reference has to be."""

    choice: Any
    policy: CausalModel

    def __post_init__(self) -> None:
        self.start = copy.deepcopy(self.policy.network)
        self.anchor = self.start

    def twin(self) -> Any:
        """A copy of the policy as it is now, without the adapter of its reference."""
        twin = copy.deepcopy(self.start)
        now = self.policy.network.state_dict()
        twin.load_state_dict({key: now[key] for key in twin.state_dict()})
        return twin

    def naive(self) -> Naive:
        bare = isinstance(self.choice, AdapterOff)
        reference = copy.deepcopy(self.anchor)
        return Naive(self.twin(), reference, reference.disable_adapter if bare else nullcontext)

    def move(self) -> None:
        """The definition of the trust region."""
        now, alpha = self.twin(), self.choice.alpha
        if alpha == 1:
            self.anchor = now
            return
        mixed = copy.deepcopy(self.anchor)
        with torch.no_grad():
            for old, new in zip(mixed.parameters(), now.parameters(), strict=True):
                old.copy_(alpha * new + (1 - alpha) * old)
        self.anchor = mixed


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    """Equal up to the norms of the layers, which the library computes in float32 for any precision."""
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("kind", "budget"), [("soft", ONE), ("lora-hard", ONE), *((one, MANY) for one in KINDS)])
def test_every_step_is_that_of_the_formula(
    kind: str, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """z0, its error, loss, rewards and the gradient of every step; and the same of the held-out data."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    choice, adapted = KINDS[kind]
    source, policy, method = make_source(budget), in_double(adapted), METHOD(reference=choice)
    followed = Followed(choice, policy)
    reference = build(choice, policy, starts_from_adapter=False, offline=True)
    reference.start(source)
    optimizer = Optimizer(policy.network, max_grad_norm=1e9)
    z0, moves = [], []
    for step in range(1, STEPS + 1):
        place, groups = (step - 1) % 2 * 5, source.step_groups(step)
        first = step - (step - 1) % 2  # of the pass
        laid = [*source.step_groups(first), *source.step_groups(first + 1)]
        metrics, gradient = followed.naive().expected(groups, others_of(groups, laid, place))
        data = source.step(step)
        sizes = len(data.batches), len(data.mismatched)
        assert set(sizes) == {1} if budget == ONE else min(sizes) > 2
        found = train_step(policy, reference, method, data, optimizer, step=step, learning_rate=3e-3)
        close(found, metrics)
        z0.append(found["kto/z0"])
        grads = {name: one.grad for name, one in policy.network.named_parameters() if one.requires_grad}
        assert grads.keys() == gradient.keys()
        ours, theirs = (torch.cat([one[name].flatten() for name in gradient]) for one in (grads, gradient))
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()
        if reference.update(step, source):
            moves.append(step)
            followed.move()
    assert moves == [step for step in range(1, STEPS + 1) if step % getattr(choice, "every", 99) == 0]
    assert z0[0] == 0  # and its loss 0.5, by the formula
    assert max(z0) > 0.1  # not clamped everywhere, or there was nothing to compare
    held_out = list(source.held_out_groups)
    found = evaluate(policy, reference, method, source.held_out(), step=STEPS)
    metrics, _ = followed.naive().expected(held_out, others_of(held_out, held_out, 0))
    close({name.removeprefix("eval_"): value for name, value in found.items()}, metrics)


@pytest.mark.parametrize("kind", ["frozen", "soft"])
def test_nothing_of_dropout_is_seen_in_the_reference_point(kind: str) -> None:
    """A policy that starts from a trained adapter: its loss is one with dropout, the measurement without."""
    policy, source, choice = in_double(True, dropout=0.5), make_source(MANY), KINDS[kind][0]
    torch.manual_seed(1)
    disturb(policy.network)
    reference = build(choice, policy, starts_from_adapter=True, offline=True)
    reference.start(source)
    found = train_step(
        policy, reference, methods.kto(reference=choice), source.step(1), Optimizer(policy.network),
        step=1, learning_rate=1e-3,
    )  # fmt: skip
    assert (found["kto/z0"], found["kto/z0_error"]) == (0.0, 0.0)
    assert abs(found["loss"] - 0.5) > 1e-3
