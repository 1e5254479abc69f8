"""AdamW by hand, clipping by value, and what is refused before anything moves."""

import math

import pytest
import torch
from support.policies import make_policy, make_source
from torch import nn

from trueup import methods
from trueup.errors import CheckpointError, NumericsError
from trueup.references.reference import NullReference
from trueup.training.optimizer import BLOCK, Optimizer, by_muon, bytes_of, pack, unpack
from trueup.training.step import train_step


class Toy(nn.Module):
    """A matrix, which decays, and a vector, which does not."""

    def __init__(self, value: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.full((1, 1), value, dtype=dtype))
        self.vector = nn.Parameter(torch.full((1,), value, dtype=dtype))

    def give(self, matrix: float, vector: float) -> None:
        self.matrix.grad = torch.full_like(self.matrix, matrix)
        self.vector.grad = torch.full_like(self.vector, vector)

    def values(self) -> list[float]:
        return [self.matrix.item(), self.vector.item()]

    def gradients(self) -> list[float]:
        return [self.matrix.grad.item(), self.vector.grad.item()]  # type: ignore[union-attr]


def step(optimizer: Optimizer, divide_by: float = 1.0, learning_rate: float = 0.1) -> float:
    norm = optimizer.grad_norm()
    assert norm is not None
    grad_norm = norm.item() / divide_by
    optimizer.step(divide_by=divide_by, grad_norm=grad_norm, learning_rate=learning_rate)
    return grad_norm


def test_two_steps_by_hand() -> None:
    """Loshchilov and Hutter, Algorithm 2, with gradients 0.5 and then -0.5. Step 1: m / (1 - b1) = g and v / (1 - b2)
    = g^2, so that the parameter moves by lr g / |g| = 0.1, after it decayed by lr times 0.2. Step 2: m = 0.9 0.05 -
    0.1 0.5 = -0.005, corrected by 1 - 0.81 to -1/38, over sqrt(0.25): a move of +0.1 2/38."""
    toy = Toy()
    optimizer = Optimizer(toy, weight_decay=0.2, max_grad_norm=0.0, epsilon=1e-12)
    toy.give(0.5, 0.5)
    step(optimizer)
    assert toy.values() == pytest.approx([1 - 0.02 - 0.1, 1 - 0.1], abs=1e-11)  # epsilon over the gradient
    toy.give(-0.5, -0.5)
    step(optimizer)
    back = 0.1 * 2 / 38
    assert toy.values() == pytest.approx([0.88 * (1 - 0.02) + back, 0.9 + back], abs=1e-11)


@pytest.mark.parametrize(
    "limit, divide_by, norm, clipped",
    [
        (1.0, 1.0, 5.0, [0.6, 0.8]), (1.0, 2.0, 2.5, [0.6, 0.8]), (1.0, 10.0, 0.5, [0.3, 0.4]),
        (2.5, 1.0, 5.0, [1.5, 2.0]), (0.0, 1.0, 5.0, [3.0, 4.0]),
    ],
)  # fmt: skip
def test_the_whole_gradient_is_clipped_after_it_was_averaged(
    limit: float, divide_by: float, norm: float, clipped: list[float]
) -> None:
    """The norm that is reported is the one before clipping; 1e-6 stands in torch's own formula, too."""
    toy = Toy()
    optimizer = Optimizer(toy, max_grad_norm=limit)
    toy.give(3.0, 4.0)
    assert step(optimizer, divide_by) == pytest.approx(norm, rel=1e-15)
    assert toy.gradients() == pytest.approx(clipped, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float) -> None:
    """Neither the weights nor what the optimizer remembers."""
    policy = make_policy()
    optimizer = Optimizer(policy.network)
    batches = make_source(4, 0, batch_size=2).step(1)

    def take(step: int) -> None:
        train_step(policy, NullReference(), methods.sft(), batches, optimizer, step=step, learning_rate=1e-3)

    take(1)
    before = {key: value.clone() for key, value in [*policy.trainable().items(), *optimizer.state().items()]}
    policy.network.lm_head.weight.register_hook(lambda grad: grad + bad)
    with pytest.raises(NumericsError, match=r"step 2: the gradient is not finite"):
        take(2)
    after = {**policy.trainable(), **optimizer.state()}
    assert all(torch.equal(value, before[key]) for key, value in after.items())


@pytest.mark.parametrize(
    "change",
    [lambda saved: saved.pop("matrix.exp_avg"), lambda saved: saved.update({"matrix.exp_avg": torch.zeros(2)})],
)
def test_a_state_that_does_not_fit_is_refused(change: object) -> None:
    toy = Toy()
    optimizer = Optimizer(toy)
    toy.give(1.0, 1.0)
    step(optimizer)
    saved = dict(optimizer.state())
    change(saved)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="optimizer state of matrix does not fit"):
        Optimizer(Toy()).restore(saved)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_in_low_precision_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError, match=r"low precision.*matrix"):
        Optimizer(Toy(dtype=dtype))


def test_frozen_parameters_are_left_alone() -> None:
    """Also those of a lower precision: a frozen base model under an adapter may be in bfloat16."""
    toy = Toy()
    toy.matrix = nn.Parameter(torch.ones(1, 1, dtype=torch.bfloat16), requires_grad=False)
    optimizer = Optimizer(toy, weight_decay=0.5)
    assert list(optimizer.parameters) == ["vector"]
    toy.vector.grad = torch.ones_like(toy.vector)
    step(optimizer)
    assert toy.matrix.item() == 1.0


def test_master_weights_move_at_the_learning_rates_of_preference_training() -> None:
    """1e-6 is hundreds of units in the last place of a float32 weight, and nothing to a bfloat16 one. A step of AdamW
    moves every weight with a gradient by the learning rate; tokens that do not occur in the batch have none."""
    policy = make_policy(autocast=torch.bfloat16)
    before = {name: value.detach().clone() for name, value in policy.network.named_parameters()}
    train_step(
        policy, NullReference(), methods.sft(), make_source(2, 0, batch_size=2).step(1),
        Optimizer(policy.network), step=1, learning_rate=1e-6,
    )  # fmt: skip
    moved = rounded = total = 0
    for name, value in policy.network.named_parameters():
        if "embed" not in name:
            moved += int((value != before[name]).sum())
            rounded += int((value.bfloat16() != before[name].bfloat16()).sum())
            total += value.numel()
    assert moved > 0.9 * total
    assert rounded < 0.01 * total


@pytest.mark.parametrize("how, signed", [("bf16", True), ("8bit", True), ("8bit", False)])
def test_a_moment_held_in_few_bits(how: str, signed: bool) -> None:
    """Three blocks, the last one short and one of zeros, over five powers of ten. What is read and held again is the
    same to the bit, whatever the rounding; the largest number of a block is exact in 8 bits."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 300, generator=generator) * 10 ** (-5 * torch.rand(2, 300, generator=generator))
    value = value if signed else value**2
    value.view(-1)[256:512] = 0
    for chance in (None, generator):
        once = unpack(pack(value, how, signed=signed, chance=chance), value.shape, signed=signed)
        assert not once.view(-1)[256:512].any()
        assert 0 < (once - value).norm() < 0.02 * value.norm()
        assert once.abs().max() == value.abs().max() or how == "bf16"
        again = unpack(pack(once, how, signed=signed, chance=None), value.shape, signed=signed)
        assert torch.equal(again, once)


@pytest.mark.parametrize("how", ["bf16", "8bit"])
@pytest.mark.parametrize("number", [0.777, 0.0123, 3e-5])
def test_rounding_at_random_keeps_the_mean(how: str, number: float) -> None:
    """Of 25,600 roundings of a number in blocks whose largest is 1; alone, each is off by a thousandth and more."""
    value = torch.full((102, BLOCK), number)
    value[:, 0] = 1
    drawn = unpack(pack(value, how, signed=True, chance=torch.Generator().manual_seed(0)), value.shape, signed=True)
    assert drawn[:, 1:].mean().item() == pytest.approx(number, rel=1e-2)
    assert len(drawn.unique()) == 3


@pytest.mark.parametrize("how, close", [("bf16", 0.02), ("8bit", 0.1)])
def test_moments_in_few_bits_go_the_way_of_float32(how: str, close: float) -> None:
    """60 steps down a quadratic bowl: where they end, as a part of the way; and a quarter or half of the bytes."""
    ends: dict[str, torch.Tensor] = {}
    target = torch.linspace(-1, 1, 8192).view(64, 128)
    for states in ("fp32", how):
        weight = nn.Parameter(torch.zeros(64, 128))
        optimizer = Optimizer({"weight": weight}, max_grad_norm=0.0, states=states)
        for _ in range(60):
            optimizer.zero_grad()
            (weight - target).square().sum().backward()
            step(optimizer, learning_rate=0.01)
        ends[states] = weight.detach()
    assert 0 < (ends[how] - ends["fp32"]).norm() < close * ends["fp32"].norm()
    (state,) = optimizer.several[0].state.values()
    taken = sum(one.nbytes for key in ("exp_avg", "exp_avg_sq") for one in state[key])
    assert taken == 2 * bytes_of(8192, how) < 8 * 8192


def test_muon_moves_matrices_of_layers_by_updates_that_are_orthogonal() -> None:
    """Singular values of an update of a first step: about 0.2 sqrt(max(A, B)) lr each, within Muon's own 0.7 to 1.3.
    Embeddings, norms and the head go by AdamW, whose first step moves each weight by the learning rate."""
    policy = make_policy()
    before = {name: value.detach().clone() for name, value in policy.trainable().items()}
    optimizer = Optimizer(policy.network, by_muon=by_muon(policy))
    train_step(
        policy, NullReference(), methods.sft(), make_source(8, 0, batch_size=8).step(1), optimizer,
        step=1, learning_rate=1e-2,
    )  # fmt: skip
    kinds = {
        name: {key.rpartition(".")[2] for key in optimizer.state() if key.startswith(f"{name}.")} for name in before
    }
    for name, value in policy.trainable().items():
        update = (value.detach() - before[name]) / 1e-2
        if ".layers." in name and value.ndim == 2:
            assert kinds[name] == {"momentum_buffer"}
            found = torch.linalg.svdvals(update) / (0.2 * math.sqrt(max(value.shape)))
            assert 0.5 < found.median() < 1.4 and found.max() < 1.4
        else:
            assert kinds[name] == {"step", "exp_avg", "exp_avg_sq"}
            assert update.abs().max() == pytest.approx(1, rel=1e-3)
    assert sum(kind == {"momentum_buffer"} for kind in kinds.values()) == 14  # seven of each layer
