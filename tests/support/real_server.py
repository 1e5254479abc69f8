"""`transformers serve` on this machine's processor."""

import importlib.util
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

STARTING = 300
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="transformers[serving] is not installed"),
]
"""Marks of a module that starts one."""


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """The address of a server that has a model, for as long as the block runs; what it says is in a file. It runs in
    a process of its own, which has the libraries of this one imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def serve() -> None:
        import torch
        from transformers.cli.serve import Serve

        torch.set_num_threads(1)  # before threads that load weights would begin a pool of a forked process together
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        Serve(str(folder), host="127.0.0.1", port=port, device="cpu", dtype="float32")

    process = multiprocessing.get_context("fork").Process(target=serve)
    process.start()
    try:
        until = time.monotonic() + STARTING
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.is_alive() and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.join(20)
        process.kill()
        process.join()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
