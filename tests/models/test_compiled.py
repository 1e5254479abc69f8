"""Compiled layers: the same numbers and gradients, no graphs more for other lengths, resumed runs, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import small_runs
from support.tiny_models import token_group, toy_network
from torch._dynamo.utils import counters
from transformers import AttentionInterface

from trueup.batch.stream import build_stream
from trueup.models import selfcheck
from trueup.models.attention import grouped
from trueup.models.causal import CausalModel
from trueup.training import api

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it traces
GROUPS = [token_group(5, [3, 4], 0), token_group(7, [2, 6], 1)]


@pytest.fixture(autouse=True)
def without_inductor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Traced, differentiated and split as ever; what inductor would write in C++ is left to torch, in no time."""
    monkeypatch.setattr(selfcheck, "COMPILER", "aot_eager")
    torch._dynamo.reset()
    counters.clear()
    yield
    AttentionInterface.register("trueup_grouped", grouped.grouped_attention)


def read(model: CausalModel, longer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and gradients of a stream of a length of its own."""
    stream = build_stream([token_group(4 + longer, [3, 2 + longer], 5), GROUPS[1]])
    model.zero_grad()
    values = model.log_probs(stream).token_S
    (torch.linspace(-1, 1, len(values)) * values).sum().backward()
    with torch.no_grad():
        assert torch.equal(model.log_probs(stream).token_S, values)  # margins of a first step are exactly 0
    return values.detach(), torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def test_compiled_layers_compute_the_same_and_are_compiled_once() -> None:
    model, plain = (CausalModel(toy_network(num_hidden_layers=1)) for _ in range(2))
    expected = [read(plain, longer) for longer in range(4)]
    selfcheck.compile_layers([model], GROUPS)
    graphs = []
    for longer, (values, gradients) in enumerate(expected):
        found = read(model, longer)
        assert (found[0] - values).abs().max() < 1e-4
        assert (found[1] - gradients).norm() < 1e-5 * gradients.norm()
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[0] == graphs[-1] <= 8


def test_a_compiled_run_goes_on_after_it_was_killed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "COMPILER", "eager")
    data = small_runs.write_feedback(tmp_path)
    more: dict[str, Any] = {"epochs": None, "steps": 3, "save_every": 1, "compile": True}
    values = small_runs.settings("sft", tiny_model, data, tmp_path / "whole", **more)
    small_runs.run_here("sft", values)
    small_runs.break_off("sft", {**values, "output": str(tmp_path / "killed")}, before_step=3)
    api.resume(tmp_path / "killed", quiet=True)
    assert small_runs.model_bytes(tmp_path / "killed") == small_runs.model_bytes(tmp_path / "whole") != {}


def unable(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no C++ compiler was found")


def wrong(graph: Any, inputs: Any) -> Any:
    return lambda *given: tuple(one + 0.1 if isinstance(one, torch.Tensor) else one for one in graph(*given))


NEEDS = r"compile needs a C\+\+ compiler, .* Leave it out"


@pytest.mark.parametrize("compiler, message", [(unable, NEEDS), (wrong, "are off by .*; leave compile out")])
def test_a_compiler_that_fails_or_is_wrong(
    compiler: Any, message: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "COMPILER", compiler)
    values = small_runs.settings("sft", tiny_model, small_runs.write_feedback(tmp_path), tmp_path / "run", compile=True)
    with pytest.raises(selfcheck.InputError, match=message):
        small_runs.run_here("sft", values)
    assert not (tmp_path / "run").exists()


def test_a_run_that_samples_is_not_compiled(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"model": tiny_model, "data": "world:pairs", "output": tmp_path / "run", "compile": "true"}
    assert small_runs.command("train", "dpo", *small_runs.options({**values, "eval_prompts": "world:prompts"})) == 2
    assert "compile is for runs that sample nothing" in capsys.readouterr().err
