"""metrics.jsonl, and the trackers beside it, none of which can stop a run."""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.small_runs import break_off, command, in_child, metrics_of, options, settings, write_feedback

from trueup import metrics as module
from trueup.display import collected
from trueup.errors import CheckpointError
from trueup.metrics import TRACKERS, Metrics, Tracker, open_trackers, read_lines


def metrics(path: Path, keep_until: int = 0, trackers: Sequence[Tracker] = ()) -> Metrics:
    made = Metrics(path, keep_until=keep_until)
    made.trackers = list(trackers)
    return made


@pytest.mark.parametrize("torn", ["", '{"step": 5, "lo', "\x00\x00\n", "[5]\n"])
def test_a_resumed_run_continues_the_file_where_it_was_saved(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    first = metrics(path)
    for step in range(1, 5):
        first.write(step, {"loss": float(step)})
        if step % 2 == 0:
            first.write(step, {"eval_loss": float(step)})
    path.write_text(path.read_text() + torn)
    again = metrics(path, keep_until=3)
    assert [line["step"] for line in read_lines(path)] == [1, 2, 2, 3]
    assert again.evaluated == {2}
    again.write(4, {"loss": 4.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2, 3, 4]


def test_lines_that_are_lost_are_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for content, said in (
        ('{"step": 1}\n{"step": "x"}\n\x00\x00\n{"step": 3}\n{"ste', "left out: lines 2, 3;"),
        ('{"step": 1}\n{"step": 2, "loss": "0"}\n{"step": 4, "loss": []}\n{"step": 3}\n', "left out: lines 2, 3;"),
        ('{"step": 3}\n{"step": 1}\n{"step": 3}\n', "metrics of earlier steps are gone: 2 lines"),
        ("", "metrics of earlier steps are gone: 4 lines"),
    ):
        path.write_text(content)
        with collected(module.words.logger) as warnings:
            metrics(path, keep_until=4).expect(4)
        assert len(warnings) == 1 and said in warnings[0]
        assert [line["step"] for line in read_lines(path)] == ([1, 3] if content else [])


def test_a_line_that_does_not_fit_is_left_out_whole(tmp_path: Path) -> None:
    """One warning, however many lines; those that come after room was made stand on lines of their own."""
    path, said = tmp_path / "metrics.jsonl", tmp_path / "said"

    def body() -> None:
        with collected(module.words.logger) as warnings:
            written = metrics(path)
            for step in range(1, 10):
                room = 100 if step < 7 else resource.RLIM_INFINITY
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
                written.write(step, {"loss": 0.5, "eval_loss": 0.5})
        said.write_text(json.dumps([warnings, sorted(written.evaluated)]))

    assert in_child(body) == 0
    warnings, evaluated = json.loads(said.read_text())
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 7, 8, 9]
    assert len(warnings) == 1
    assert "metrics are not written: File too large; training goes on" in warnings[0]
    assert evaluated == list(range(1, 10))


def test_a_file_that_cannot_be_cut_back_is_named(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    """Were the lines of steps that are taken again left there, the file would tell them twice."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    full_disk()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: it cannot be written: No space left on device"):
        metrics(path, keep_until=1)
    assert [line["step"] for line in read_lines(path)] == [1, 2]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


class Fragile:
    """A tracker that works until a step."""

    name = "fragile"

    def __init__(self, until: int, closes: bool = True) -> None:
        self.until, self.closes = until, closes
        self.seen: list[int] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.until:
            raise ConnectionError("the service is down")
        self.seen.append(step)

    def close(self) -> None:
        if not self.closes:
            raise ConnectionError("still down")


def test_a_tracker_that_fails_is_reported_once_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fails, works, sticks = Fragile(3), Fragile(99), Fragile(99, closes=False)
    written = metrics(tmp_path / "metrics.jsonl", trackers=(fails, works, sticks))
    for step in range(1, 6):
        written.write(step, {"loss": 0.5})
    written.close()
    assert caplog.messages == [
        "tracker fragile failed and is left out from now on: the service is down",
        "tracker fragile failed while closing: still down",
    ]
    assert fails.seen == [1, 2]
    assert works.seen == sticks.seen == [1, 2, 3, 4, 5]
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 5


def test_a_tracker_that_cannot_start_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> Fragile:
        raise OSError("no account")

    monkeypatch.setitem(TRACKERS, "wandb", refused)
    monkeypatch.setitem(TRACKERS, "trackio", lambda *_: Fragile(9))
    (opened,) = open_trackers(("wandb", "trackio"), tmp_path, "run", {}, 0)
    assert opened.name == "fragile"
    assert caplog.messages == ["tracker wandb could not start and is left out: no account"]


Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(params=["wandb", "trackio"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Calls]:
    """The name of a package that speaks W&B's dialect, replaced by one that notes what is said to it, in order."""
    calls: Calls = []
    module = ModuleType(request.param)
    module.__spec__ = ModuleSpec(request.param, None)
    for function in ("init", "log", "finish"):
        setattr(module, function, lambda *a, _name=function, **k: calls.append((_name, a, k)))
    monkeypatch.setitem(sys.modules, request.param, module)
    return request.param, calls


def test_modules_that_speak_wandb(service: tuple[str, Calls], tmp_path: Path) -> None:
    name, calls = service
    (tracker,) = open_trackers((name,), tmp_path, "a run", {"beta": 0.1}, 0)
    tracker.log(3, {"loss": 0.5})
    tracker.close()
    extra = {}
    if name == "wandb":
        extra = {"dir": str(tmp_path), "id": (tmp_path / "wandb.id").read_text().strip(), "resume": "allow"}
    assert calls == [
        ("init", (), {"project": "trueup", "name": "a run", "config": {"beta": 0.1}, **extra}),
        ("log", ({"loss": 0.5},), {"step": 3}),
        ("finish", (), {}),
    ]


def test_a_resumed_run_is_the_same_run_to_the_service(
    service: tuple[str, Calls], tiny_model: Path, tmp_path: Path
) -> None:
    """W&B tells runs apart by their ids, trackio by their names; another run has another id."""
    name, calls = service
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", trackers=name)
    break_off("dpo", values, before_step=8)
    assert command("train", "dpo", "--resume", tmp_path / "run") == 0
    assert command("train", "dpo", *options({**values, "output": tmp_path / "other"})) == 0
    first, again, other = (more for function, _, more in calls if function == "init")
    assert again["resume"] == "allow"
    assert (first["name"], first.get("id")) == (again["name"], again.get("id"))
    assert (first["name"], first.get("id")) != (other["name"], other.get("id"))
    assert (first.get("id") is None) is (name == "trackio")
    steps = [more["step"] for function, _, more in calls if function == "log"]
    assert steps == [*range(1, 8), *range(7, 13), *range(1, 13)]  # what is new, and what is taken again


def test_a_missing_package_is_refused_before_anything_is_read(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", trackers="trackio")
    assert command("train", "dpo", *options(values)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "trueup: tracker trackio needs the package trackio, which is not installed. Install trueup[trackio]"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_writes_what_tensorboard_reads(tiny_model: Path, tmp_path: Path) -> None:
    """Of one that was killed, too, no step twice that was taken again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = tmp_path / "run"
    values = settings("dpo", tiny_model, write_feedback(tmp_path), output, trackers="tensorboard")
    break_off("dpo", {**values, "eval_fraction": 0.25, "eval_every": 3}, before_step=9)
    assert command("train", "dpo", "--resume", output) == 0
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    lines = metrics_of(output)
    charted = {"loss", "kl", "learning_rate", "rewards/margins", "eval_loss"}
    assert charted <= set(events.Tags()["scalars"])
    for name in charted:
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]
        assert [(event.step, event.value) for event in events.Scalars(name)] == expected  # TensorBoard holds float32
        assert expected
