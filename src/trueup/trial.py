"""Code of others that may never end, such as a template, is tried once in a process of its own."""

import json
import subprocess
import sys

CALL = (
    "import json, sys; from importlib import import_module; module, _, name = sys.argv[1].partition(':'); "
    "getattr(import_module(module), name)(*json.load(sys.stdin))"
)


def try_in_child(function: str, *arguments: object, seconds: float) -> None:
    """Call `MODULE:FUNCTION` with JSON-ready arguments in another process; TimeoutError or RuntimeError."""
    try:
        call, given = [sys.executable, "-c", CALL, function], json.dumps(arguments)
        done = subprocess.run(call, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{function} took more than {seconds:g} seconds") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if said else f"the process ended with {done.returncode}")
