"""Several processes that train one model: which of them this is, and what they tell each other.

`torchrun` starts them and says in the environment which each is. The first one owns what is written and shown; the
others compute. In one process every function here is its simplest case, and nothing of torch is imported.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from trueup.errors import InputError, LostProcess, Stopped, TrueupError, is_out_of_memory
from trueup.words import one_line

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long the others wait for one that gathers feedback; one that ends is noticed at once."""
ENDED, ALIVE, OVER = "trueup/ended", "trueup/alive/", b"over"
"""Under which a process that fails by itself says so to the others; and each that it lives, or needs to no longer."""
BEAT, SILENT, LATE = 1.0, 25.0, 600.0
"""Seconds after which each says so again; after which one that does not is given up; and one that never has."""
READS = {"x86_64": (0, 17, 19, 217, 257, 262, 332), "aarch64": (63, 67, 65, 61, 56, 79, 291)}
"""Numbers of Linux's calls that read files: read, pread, readv, getdents64, openat, newfstatat, statx."""
LOST, GONE = "it was stopped, or its machine is lost", "its disk, or the server of it, does not answer"

_store: Any = None
"""What all processes can read and write; None where there is one, or they have not joined yet."""


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if size() > 1 else 0


def inside(shard: int | None, replicate: int | None) -> int:
    """How many processes one copy of the weights is sharded over."""
    found = shard or size() // (replicate or 1)
    if found * (replicate or max(1, size() // found)) != size():
        raise InputError(
            f"parallel.shard {shard} and parallel.replicate {replicate} do not make {size()}, the number of processes. "
            "Give numbers of which the product does, or leave them out; torchrun --nproc-per-node starts several"
        )
    return found


def owns() -> bool:
    """Whether this process is the one that writes and shows."""
    return rank() == 0


def first_here() -> bool:
    """Whether this process is the first one on its machine."""
    return size() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes while the block runs; inside another such block, nothing changes.

    An error that one process alone meets ends all of them, and is shown by the first that meets one.

    Raises:
        LostProcess: another process ended.
    """
    global _store
    if size() == 1 or _store is not None:
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    found, number, count = next(rendezvous("env://", timeout=PATIENCE))
    rest = _watched(found)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=found, rank=number, world_size=count, timeout=PATIENCE)
    _store = found
    try:
        yield
        dist.barrier()
        rest()
        dist.barrier()  # from here on none asks the store
        dist.destroy_process_group()
    except (TrueupError, Stopped) as error:
        raise _ended(error) from error
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            less = "Give a smaller --micro_batch_tokens or --max_length"
            raise _ended(TrueupError(f"memory ran out: {one_line(error)}. {less}")) from error
        if "peer" not in str(error) and "onnection" not in str(error):
            raise
        raise _ended(LostProcess("another process ended, so that none can go on")) from error
    finally:
        rest()
        _store = None


def _watched(store: Any) -> Callable[[], None]:
    """Say from now on that this process lives, and end it where the next one, around a ring, no longer does.

    Threads do, so that one that computes, reads or waits for long is not given up, and one that was stopped is, or that
    waits in a single call for a file. They count turns and no time: where all were stopped and go on, so does the run.
    Until what is returned is called.
    """
    own, over, turns, other = store.clone(), Event(), [0], (rank() + 1) % size()  # `store` may be waiting
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("GROUP_RANK") == "0"

    def beat() -> None:
        heard, silent, known, waits = b"", 0, f"{ALIVE}{other}", dict[str, int]()
        here = f"({platform.node()}, process id {os.getpid()})"
        with suppress(RuntimeError):  # the store is gone
            while not over.is_set():
                turns[0] += 1
                own.set(f"{ALIVE}{rank()}", f"{turns[0]} {here}")
                said = own.get(known) if own.check([known]) else b""
                heard, silent = said, silent + 1 if said == heard != OVER else 0
                if silent * BEAT > (SILENT if heard else LATE):
                    where = heard.decode().partition(" ")[2] or "(not begun)"
                    _give_up(f"no sign of life of process {other} {where}", LOST, silent, own.add(ENDED, 1) == 1)
                found = _reading()
                waits = {call: waits.get(call, 0) + 1 for call in found}
                for call in [call for call, count in waits.items() if count * BEAT > SILENT]:
                    told = f"process {rank()} {here} waits for {found[call]}"
                    _give_up(told, GONE, waits[call], own.add(ENDED, 1) == 1)
                over.wait(BEAT)
            own.set(f"{ALIVE}{rank()}", OVER)

    def look() -> None:
        seen, silent = 0, 0
        while not over.wait(BEAT):
            seen, silent = turns[0], silent + 1 if turns[0] == seen else 0
            if silent * BEAT > SILENT and not hosted:  # by this machine's torchrun, which Ctrl-Z may have stopped
                _give_up("no sign of life of process 0", LOST, silent, other == 0)

    def rest() -> None:
        over.set()
        threads[0].join(BEAT)

    threads = [Thread(target=action, daemon=True) for action in (beat, look)]
    for one in threads:
        one.start()
    return rest


def _reading() -> dict[str, str]:
    """Files that threads of this process wait for, by the call and how often the thread ran before it; Linux tells."""
    found = {}
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError, ValueError):  # it has ended, or runs
            call, ran, stands = (task.joinpath(name).read_text() for name in ("syscall", "schedstat", "stat"))
            number, first, *_ = call.split()
            opened = f"/proc/self/fd/{int(first, 16)}"
            file = os.readlink(opened) if os.path.lexists(opened) else "/"
            mapped = number == "-1" and stands.rpartition(") ")[2].startswith("D")  # a page of a file is read
            read = int(number) in READS.get(platform.machine(), ()) and not file.startswith("/dev/")
            if mapped or (read and file.startswith("/")):  # a pipe or a socket has another name
                found[f"{task} {call} {ran}"] = "a file" if file == "/" else one_line(file)
    return found


def _give_up(told: str, why: str, turns: int, speaks: bool) -> None:
    """End this process, which may be waiting in vain for another, or for a file."""
    if speaks:
        cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # which a bar has hidden
        told = f"{told}, for {turns * BEAT:.0f} seconds: {why}. All end; go on with --resume"
        print(f"{cursor}trueup: {told}", file=sys.stderr, flush=True)
    os._exit(LostProcess.exit_code)


def gather(value: T) -> list[T]:
    """What each process gives, in order of their numbers; the same on all."""
    if _store is None:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * size()
    dist.all_gather_object(found, value)
    return found


def every(condition: bool) -> bool:
    """Whether it holds on every process."""
    return all(gather(condition))


def alike(action: Callable[[], T]) -> T:
    """What this process makes; where it fails on one, all raise that error, which the first shows."""
    if _store is None:
        return action()
    failed: tuple[type[Exception], str] | None = None
    try:
        made = action()
    except (TrueupError, Stopped) as error:
        failed = _kind(error), str(error)
    for number, other in enumerate(gather(failed)):
        if other is not None:
            raise shared(_said_by(*other, number))
    return made


def together(action: Callable[[], T]) -> list[T]:
    """What each process makes, in order of their numbers; where it fails on one, all raise that error."""
    return gather(alike(action))


def owned(action: Callable[[], T]) -> T:
    """What the first process makes, which alone does it; all have it, or raise its error."""
    return together(action if owns() else lambda: None)[0]  # type: ignore[return-value]  # of the first


def shared(error: Exception) -> Exception:
    """The error that every process raises here, and the first one shows."""
    error.__dict__ |= {"shown_elsewhere": not owns(), "shared": True}
    return error


def agreed(error: Exception) -> bool:
    """Whether every process has this error, so that they can still do something together."""
    return _store is None or "shared" in error.__dict__


def _kind(error: Exception) -> type[Exception]:
    """The kind of error that its exit code belongs to; those derived from one are made of other things than a text."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == TrueupError.__module__)


def _said_by(kind: type[Exception], text: str, number: int) -> Exception:
    return kind(f"process {number}: {text}" if number and issubclass(kind, TrueupError) else text)


def _ended(error: Exception) -> Exception:
    """An error that ends this process, shown here unless another has shown one."""
    if not isinstance(error, TrueupError) or "shared" in error.__dict__:
        return error
    made = _said_by(_kind(error), str(error), rank())
    assert isinstance(made, TrueupError)
    with suppress(Exception):  # the store is gone with the process that kept it
        made.shown_elsewhere = _store.add(ENDED, 1) != 1
    return made
