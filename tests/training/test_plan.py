"""`trueup plan`: what is counted is exact, and what is seen of small passes holds for large ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.small_runs import command, options, settings, write_feedback
from support.tiny_models import toy_network

from trueup.batch.stream import collate_batch
from trueup.config.resolve import resolve
from trueup.models import head
from trueup.training import invariants, memory, setup

TOKENS, WIDTH, KEYS, INNER, LAYERS, RANK = 103, 32, 16, 64, 2, 3
MATRICES = LAYERS * (2 * WIDTH * (WIDTH + KEYS) + 3 * WIDTH * INNER)
WEIGHTS = 2 * TOKENS * WIDTH + WIDTH + MATRICES + LAYERS * 2 * WIDTH
"""Of the tiny model: embeddings and head, norms, and layers of attention with half as many keys as queries."""
ADAPTER = LAYERS * RANK * (2 * (WIDTH + WIDTH) + 2 * (WIDTH + KEYS) + 3 * (WIDTH + INNER))
LORA = {"lora.rank": RANK}
SOFT = {"reference.kind": "trust-region"}


def set_up(method: str, model: Path, folder: Path, **more: Any) -> tuple[Any, Any]:
    values = settings(method, model, write_feedback(folder, 16), folder / "run", **more)
    small = invariants.reduced(resolve(method, overrides=values), folder, 2, None)
    parts, _, source = invariants.set_up(small, resume=False)
    setup.choose_attention(parts, source)
    parts.reference.start(source)
    return parts, source


@pytest.mark.parametrize(
    "method, more, weights, trained, copied",
    [
        ("dpo", {}, WEIGHTS, WEIGHTS, WEIGHTS),
        ("dpo", {"reference.kind": "cached"}, WEIGHTS, WEIGHTS, 0),
        ("sft", {}, WEIGHTS, WEIGHTS, 0),
        ("dpo", LORA, WEIGHTS + ADAPTER, ADAPTER, 0),
        ("dpo", LORA | SOFT, WEIGHTS + ADAPTER, ADAPTER, ADAPTER),
        ("dpo", {"optimizer": "muon"}, WEIGHTS, WEIGHTS, WEIGHTS),
    ],
)
def test_parts_are_counted_exactly(
    method: str, more: dict[str, Any], weights: int, trained: int, copied: int, tiny_model: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    parts, _ = set_up(method, tiny_model, tmp_path, **more)
    expected = {"weights": weights, "gradients": trained, "optimizer": 2 * trained, "reference": copied}
    expected["optimizer"] -= MATRICES * ("optimizer" in more)
    assert memory.parts_held(parts) == {name: 4 * number for name, number in expected.items()}


def test_tensors_are_counted_while_they_are_there() -> None:
    known = torch.zeros(1000)
    with memory.LiveBytes([known]) as seen:
        one = known + 1
        other = one.view(10, 100) * 2  # a view takes nothing
        assert (seen.live, seen.peak) == (8000, 8000)
        del one
        assert (seen.live, seen.peak) == (4000, 8000)
        known.add_(1)
        del other
    assert (seen.live, seen.peak) == (0, 8000)


@pytest.mark.parametrize("kept", [head.KEPT, 500 * TOKENS], ids=["logits kept", "logits made again"])
@pytest.mark.parametrize("more", [{}, LORA], ids=["full", "lora"])
def test_a_large_pass_holds_what_small_ones_say(
    more: dict[str, Any], kept: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors alone, without what the C library keeps. Small passes keep logits that a large one does not."""
    monkeypatch.setattr(head, "KEPT", kept)
    monkeypatch.setattr(memory, "_tried", lambda *_: None)
    parts, source = set_up("dpo", tiny_model, tmp_path, micro_batch_tokens=2048, **more)
    groups = [group for batch in source.step(1).batches for group in batch.groups]
    seen = memory.memory_of(parts, groups)
    batch = collate_batch(groups * 12, parts.method.collate)
    tokens = batch.stream.num_tokens
    assert 700 < tokens < 2048
    found = memory.measured_pass(parts, batch)
    assert seen.fixed + seen.a_token * tokens == pytest.approx(found, rel=0.15)
    most = seen.largest(free := 10**9)
    assert seen.total(most) <= free < seen.total(most + 1)


@pytest.mark.parametrize(
    "width, device, tokens", [(32, "cpu", 8192), (512, "cpu", 1978), (1024, "cpu", 1024), (1024, "cuda", 8192)]
)
def test_a_cpu_takes_as_many_tokens_a_pass_as_half_a_gigabyte_holds(width: int, device: str, tokens: int) -> None:
    """Counted generously, 64 bytes for each input and output of a layer; 1,024 at least."""
    network = toy_network(hidden_size=width, intermediate_size=2 * width)
    assert memory.usual_tokens(SimpleNamespace(inner=network, device=torch.device(device))) == tokens


def test_the_command_says_it_all_and_leaves_nothing(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings("dpo", tiny_model, write_feedback(tmp_path, 8), tmp_path / "run")
    before = sorted(tmp_path.iterdir())
    assert command("plan", "dpo", *options(values), "--measure", 1) == 0
    said = capsys.readouterr().out
    assert "  optimizer        0.2 MB   two moments of each\n" in said
    assert "time         about " in said and ": 4 steps of " in said
    assert "disk         0.7 MB at most for checkpoints of 0.3 MB and a model of 0.1 MB" in said
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_judge_is_asked_is_counted_and_nothing_is_asked(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing answers at the address. 8 prompts, 2 passes over them, 3 responses: 3 pairs in both orders each."""
    values = settings("oaif", tiny_model, write_feedback(tmp_path, 8), tmp_path / "run")
    more = {"annotator": "openai", "annotator.base_url": "http://127.0.0.1:9/v1", "annotator.model": "judge"}
    more |= {"source": "online", "prompts": values.pop("data")[0], "sampler.responses": 3}
    more |= {"sampler.max_new_tokens": 4, "annotator.input_price": 1, "annotator.output_price": 0}
    assert command("plan", "oaif", *options(values | more), "--measure", 0) == 0
    said = capsys.readouterr().out
    assert "responses    48 to 16 prompts" in said
    assert "judge        96 requests and " in said and " at a cost of 0." in said
    assert "\ntime " not in said
