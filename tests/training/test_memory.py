"""Memory that runs out in mid-step: the step is made again of smaller micro-batches, and the run is one of those."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support import small_runs

from trueup.training import api, loop, memory, step

FROZEN = {"reference.kind": "frozen"}
LORA = {**FROZEN, "lora.rank": 3, "lora.dropout": 0.2}


@contextmanager
def lacking(place: int, most: int) -> Iterator[list[int]]:
    """From forward pass `place` on one of more than `most` tokens fails once its graph is there; sizes of all."""
    original, sizes = step.forward, list[int]()

    def forward(policy: Any, reference: Any, objective: Any, batch: Any, *more: Any) -> Any:
        sizes.append(batch.stream.num_tokens)
        loss = original(policy, reference, objective, batch, *more)
        if len(sizes) >= place and sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has 80 GiB.")
        return loss

    with mock.patch.object(step, "forward", forward):
        yield sizes


@pytest.mark.parametrize("method, more", [("dpo", LORA), ("kto", FROZEN), ("bco", FROZEN)])
def test_a_step_that_found_too_little_memory(
    method: str, more: dict[str, Any], tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Given up in its second pass: gradients, random numbers and what BCO remembers are as if it had not begun.
    Killed after that, and resumed where there is enough: it goes on with the smaller passes."""
    data = small_runs.write_feedback(tmp_path)
    more = {**more, "epochs": None, "steps": 4, "save_every": 1, "batch_size": 8}
    values = small_runs.settings(method, tiny_model, data, tmp_path / "short", **more, micro_batch_tokens=100)
    with lacking(2, 50) as sizes:
        small_runs.break_off(method, values, before_step=3)
    (told,) = (line for line in caplog.messages if "memory ran out" in line)
    assert told.startswith("step 1: memory ran out (CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0")
    budget = int(told.removesuffix(" tokens").rpartition(" ")[2])
    assert sizes[1] > 50 >= budget >= max(sizes[2:])
    api.resume(tmp_path / "short", quiet=True)
    small = {**values, "output": str(tmp_path / "small"), "micro_batch_tokens": budget}
    small_runs.run_here(method, small)
    assert small_runs.model_bytes(tmp_path / "short") == small_runs.model_bytes(tmp_path / "small") != {}
    assert small_runs.metrics_of(tmp_path / "short") == small_runs.metrics_of(tmp_path / "small")


def test_a_group_for_which_there_is_no_memory(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In step 2: the weights of step 1 are saved, and the run goes on from them where there is more."""
    data, whole, short = small_runs.write_feedback(tmp_path), tmp_path / "whole", tmp_path / "short"
    values = {"epochs": None, "steps": 3, "batch_size": 2, "micro_batch_tokens": 1}
    run = small_runs.settings("sft", tiny_model, data, short, **values)
    with lacking(3, 10):
        assert small_runs.command("train", "sft", *small_runs.options({k: v for k, v in run.items() if v})) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trueup: step 2: memory ran out (CUDA out of memory.")
    assert "one group a pass is the least. Give a smaller --micro_batch_tokens or" in said
    api.resume(short, quiet=True)
    small_runs.run_here("sft", {**run, "output": str(whole)})
    assert small_runs.model_bytes(short) == small_runs.model_bytes(whole) != {}


@pytest.mark.parametrize("error", [RuntimeError("alloc_cpu.cpp: can't allocate memory"), MemoryError(), ValueError()])
def test_memory_that_runs_out_elsewhere(
    error: Exception, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, wherever it was; any other error of a program is one of ours, and keeps its traceback."""
    values = small_runs.settings("sft", tiny_model, small_runs.write_feedback(tmp_path), tmp_path / "run")
    arguments = ["train", "sft", *small_runs.options(values)]
    with mock.patch.object(loop, "train", side_effect=error):
        if isinstance(error, ValueError):
            with pytest.raises(ValueError):
                small_runs.command(*arguments)
            return
        assert small_runs.command(*arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("trueup: memory ran out: ")


def test_a_run_begins_with_what_there_is_memory_for(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for some 60 tokens beside the moments: the run is that of the smaller budget, its dropout included."""
    more = {**LORA, "epochs": None, "steps": 3, "batch_size": 8}
    values = small_runs.settings("dpo", tiny_model, small_runs.write_feedback(tmp_path), tmp_path / "free", **more)
    found: list[memory.Memory] = []
    original = memory.memory_of
    monkeypatch.setattr(memory, "memory_of", lambda *given: found.append(original(*given)) or found[-1])
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    small_runs.run_here("dpo", {**values, "output": str(tmp_path / "none")})
    (seen,) = found
    free = int(seen.total(60) - seen.weights - seen.reference)
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    small_runs.run_here("dpo", values)
    told = [line for line in caplog.messages if "of memory are free" in line]
    assert told[0].endswith("it has as few as there can be at most")
    budget = int(told[1].removesuffix(" at most").rpartition(" ")[2])
    assert budget in (59, 60)
    for name, tokens in (("none", 1), ("free", budget)):
        other = {**values, "output": str(tmp_path / f"{name} small"), "micro_batch_tokens": tokens}
        monkeypatch.setattr(memory, "free_memory", lambda device: 10**12)
        small_runs.run_here("dpo", other)
        assert small_runs.model_bytes(tmp_path / name) == small_runs.model_bytes(Path(other["output"])) != {}
    assert len(found) == 2  # with plenty nothing is looked at
