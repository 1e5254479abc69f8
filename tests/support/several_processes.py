"""Runs in several processes: started as users start them, or made of this one, with what it has imported."""

import json
import multiprocessing
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

SECONDS = 120
WRITER = "torch.distributed.checkpoint.HuggingFaceStorageWriter"


class Launched:
    """A program in several processes on this machine, started by `torchrun`, which computes in one thread."""

    def __init__(self, count: int, *program: str) -> None:
        import trueup

        path = os.pathsep.join([str(Path(trueup.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", "127.0.0.1:0", "--nproc-per-node", str(count), *program),
        ]
        given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        self.torchrun = subprocess.Popen(
            command, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    @property
    def ids(self) -> list[int]:
        """By which the system knows each process."""
        found, parent = {}, self.torchrun.pid
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            told = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(one[5:]): int(child) for one in told if one.startswith(b"RANK=")}
        return [found[rank] for rank in sorted(found)]

    def end(self, seconds: float = SECONDS) -> str:
        """What they said, once all have ended."""
        return self.torchrun.communicate(timeout=seconds)[0]

    @property
    def codes(self) -> list[int]:
        return [self.torchrun.returncode]


class Forked:
    """Several processes with what this one has imported, which find each other as those of `torchrun` do.

    `keeps`: the first of them keeps what all share, as without `torchrun`, and not one more, which outlives each.
    This one does not, as a process that is forked while another thread of its parent holds a lock waits for ever.
    """

    def __init__(self, count: int, body: Callable[[], int | None], *, keeps: bool = False) -> None:
        for name in ("fsdp", "checkpoint"):
            import_module(f"torch.distributed.{name}")  # once for all
        context = multiprocessing.get_context("fork")
        self.keepers: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            if not keeps:
                self.keepers.append(context.Process(target=_keep, args=(listening,), daemon=True))
                self.keepers[0].start()
        reads_writes = os.pipe()
        found = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0"}
        found |= {} if keeps else {"TORCHELASTIC_USE_AGENT_STORE": "True"}
        given = found, reads_writes[1], body
        self.processes: Any = [context.Process(target=_as_rank, args=(rank, *given)) for rank in range(count)]
        for one in self.processes:
            one.start()
        os.close(reads_writes[1])
        self.said = os.fdopen(reads_writes[0], errors="replace")

    def end(self, seconds: float = SECONDS) -> str:
        """What they said, once all have ended, or were killed as they did not."""
        timer = threading.Timer(seconds, lambda: [one.kill() for one in self.processes])
        timer.start()
        with self.said:
            said = self.said.read()
        for one in self.processes:
            one.join()
        timer.cancel()
        for one in self.keepers:
            one.kill()
            one.join()
        return said

    @property
    def ids(self) -> list[int]:
        """By which the system knows each process."""
        return [one.pid for one in self.processes]

    @property
    def codes(self) -> list[int]:
        return [one.exitcode for one in self.processes]


def _keep(listening: socket.socket) -> None:
    from torch.distributed import TCPStore

    host, port = listening.getsockname()
    kept = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.fileno())
    while kept:
        signal.pause()


def _as_rank(rank: int, found: Mapping[str, str], writes: int, body: Callable[[], int | None]) -> None:
    import torch

    os.dup2(writes, 1)
    os.dup2(writes, 2)
    sys.stdout = sys.stderr = os.fdopen(writes, "w", buffering=1)
    os.environ |= {**found, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    warnings.resetwarnings()  # as in a program, where none is an error
    try:
        code = body() or 0
    except BaseException as error:
        code = int(error.code or 0) if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def run_all(
    folder: Path, count: int, runs: Sequence[Sequence[Any]], *, ends: bool = True
) -> tuple[str, list[list[dict[str, Any]]]]:
    """Do one run after the other in the same processes; what they said, and how each run ended in each process.

    Args:
        runs: method ("resume" after a bit was turned, or "go on") and settings of each, and perhaps one of `FAULTS`
            with the process that has it.
        ends: whether the processes end well.
    """
    several = Forked(count, lambda: main(folder, runs))
    said = several.end(SECONDS * 2)
    assert (several.codes == [0] * count) == ends, said[-4000:]
    files = sorted(folder.glob(f"ended{count}-*.jsonl"))
    told = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    return said, [list(each) for each in zip(*told, strict=ends)]


@contextmanager
def not_a_number() -> Iterator[None]:
    """The losses of the sixth micro-batch."""
    from trueup.training.step import Sums

    plain, seen = Sums.expect, []

    def expect(sums: Any, values: Any, rows: Any, batch: Any, what: str) -> None:
        seen.extend([what] * (what == "loss"))
        plain(sums, values * float("nan") if what == "loss" and len(seen) == 6 else values, rows, batch, what)

    with mock.patch.object(Sums, "expect", expect):
        yield


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of the second checkpoint may have more than a few bytes."""
    from trueup.training import checkpoint

    plain, steps = checkpoint._write, set[str]()

    def write(part: Path, *more: Any) -> dict[str, str]:
        steps.add(part.name)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if len(steps) == 2 else limits[0], limits[1]))
        try:
            return plain(part, *more)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with mock.patch.object(checkpoint, "_write", write):
        yield


@contextmanager
def in_passes(action: Callable[[int], None]) -> Iterator[None]:
    """Something that a process does before each forward pass, counted from 1."""
    from trueup.training import step

    plain, seen = step.forward, []

    def forward(*arguments: Any) -> Any:
        seen.append(1)
        action(len(seen))
        return plain(*arguments)

    with mock.patch.object(step, "forward", forward):
        yield


@contextmanager
def no_memory(place: int) -> Iterator[None]:
    """Where room is made for a collective, counted from the begin of the third forward pass."""
    from trueup.parallel.collectives import Gather

    left, plain = list[int](), Gather.allocate

    def allocate(*arguments: Any, **more: Any) -> Any:
        if left and not left[0]:
            left.clear()
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        left[:] = [one - 1 for one in left]
        return plain(*arguments, **more)

    with (
        in_passes(lambda number: left.extend([place] * (number == 3))),
        mock.patch.object(Gather.__mro__[1], "allocate", allocate),
    ):
        yield


def no_memory_for_the_optimizer() -> Any:
    from trueup.training.optimizer import Optimizer

    return mock.patch.object(Optimizer, "step", side_effect=MemoryError("cannot allocate memory"))


def mean_of_gradients() -> Any:
    """As an engine does that is not told otherwise."""
    from torch.distributed.fsdp import FSDPModule

    return mock.patch.object(FSDPModule, "set_gradient_divide_factor", lambda module, factor: None)


def impatient() -> Any:
    """With servers that do not answer."""
    from trueup.sampling.engines import server

    return mock.patch.object(server, "PATIENCE", 1.0)


MOMENTS = {
    "shards begin": ("trueup.parallel.sharding.write", False),
    "shards are planned": (f"{WRITER}.write_data", False), "shards are written": (f"{WRITER}.write_data", True),
    "hashes are taken": ("trueup.training.checkpoint.file_hash", False),
    "there is no manifest": ("trueup.training.checkpoint._describe", False),
    "there is a manifest": ("trueup.training.checkpoint._describe", True),
    "it is renamed": ("trueup.files.os.rename", False), "it was renamed": ("trueup.files.os.rename", True),
    "others are removed": ("trueup.training.checkpoint.shutil.rmtree", False),
    "others were removed": ("trueup.training.checkpoint.shutil.rmtree", True),
}  # fmt: skip
"""Of a checkpoint: before or after what is called."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@contextmanager
def at_checkpoint(moment: str, number: signal.Signals, target: int) -> Iterator[None]:
    """Send a signal to one of the processes when this one comes to a moment of its third checkpoint."""
    from trueup.training import checkpoint

    name, after = MOMENTS[moment]
    save, plain, saved, sent = checkpoint.save, pkgutil.resolve_name(name), list[int](), list[int]()

    def counted(*arguments: Any, **more: Any) -> Path:
        saved.append(1)
        return save(*arguments, **more)

    def called(*arguments: Any, **more: Any) -> Any:
        made = plain(*arguments, **more) if after else None
        old = not name.endswith("rmtree") or arguments[0].name == checkpoint.name_of(2)
        if len(saved) == 3 and old and not sent:
            sent.append(1)
            os.kill(numbers[target], number)
        return made if after else plain(*arguments, **more)

    with mock.patch.object(checkpoint, "save", counted), mock.patch(name, called):
        yield


numbers: list[int] = []  # by which the system knows each process
FAULTS: dict[str, Callable[[], Any]] = {
    "not a number": not_a_number,
    "full disk": full_disk,
    "slow": lambda: in_passes(lambda _: time.sleep(0.1)),
    **{f"no memory {place}": partial(no_memory, place) for place in range(20)},
    "no memory for the optimizer": no_memory_for_the_optimizer,
    "mean of gradients": mean_of_gradients,
    "impatient": impatient,
    **{
        f"{number.name} to {target} when {moment}": partial(at_checkpoint, moment, number, target)
        for moment in MOMENTS
        for number in SIGNALS
        for target in range(2)
    },
}


def one_run(method: str, settings: Mapping[str, Any], fault: str, number: int | None) -> dict[str, Any]:
    """A run with a fault in one process, or in all; how it ended here."""
    from trueup.config.resolve import resolve
    from trueup.errors import Stopped, TrueupError
    from trueup.parallel import processes
    from trueup.training import api

    begun, ended = time.monotonic(), {}
    with FAULTS[fault]() if number in (None, processes.rank()) else mock.MagicMock():
        try:
            if method in ("resume", "go on"):
                if method == "resume":
                    damage(Path(settings["output"]))
                api.resume(settings["output"], quiet=True)
            else:
                api.run(resolve(method, overrides=dict(settings)), quiet=True)
        except (TrueupError, Stopped) as error:
            if not processes.agreed(error):
                raise
            ended = {
                "error": type(error).__name__,
                "said": str(error),
                "shown": not getattr(error, "shown_elsewhere", False),
            }
    return {"seconds": time.monotonic() - begun, **ended}


def damage(run: Path) -> None:
    """Turn a bit of a file of the newest checkpoint, which the first process does for all."""
    from trueup.parallel import processes

    def turn() -> None:
        file = max(run.glob("checkpoints/step-*/**/*.safetensors"))
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)

    processes.owned(turn)


def main(folder: Path, runs: Sequence[Sequence[Any]]) -> None:
    from trueup.errors import TrueupError
    from trueup.parallel.processes import gather, joined, rank, size

    with (folder / f"ended{size()}-{rank()}.jsonl").open("w") as told:
        try:
            with joined():
                numbers.extend(gather(os.getpid()))
                for method, settings, *fault in runs:
                    name, number = fault or ("slow", -1)
                    print(json.dumps(one_run(method, settings, name, number)), file=told, flush=True)
        except TrueupError as error:
            ended = {"error": type(error).__name__, "said": str(error), "shown": not error.shown_elsewhere}
            print(json.dumps(ended), file=told)
            raise SystemExit(error.exit_code) from None
