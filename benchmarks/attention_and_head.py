"""How long do the pieces of a step take by themselves, and how exact are they?

Of each attention backend one layer over a stream, of the head the log-probabilities of its tokens: forward and
backward, beside the plain form (one mask over all scores; all logits at once), in float32 and bfloat16. An error is
relative, of the result or of a gradient, whichever is larger, against the plain form in float32.

    python benchmarks/attention_and_head.py --output benchmarks/attention_and_head.json    # on a GPU if there is one
"""

import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import gpu
import torch
import typer
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trueup.batch.rows import Pairs
from trueup.batch.stream import collate_batch
from trueup.models.attention import UnsupportedAttention, backend, names
from trueup.models.head import Head, token_outputs

HEADS, KEY_HEADS, WIDTH = 8, 4, 64
VOCABULARY, HIDDEN = 16_000, 512
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def normal(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


def measured(
    form: Callable[..., Tensor], given: Sequence[Tensor], dtype: torch.dtype, exact: list[Tensor], rounds: int
) -> dict[str, float]:
    """Milliseconds of one call with its backward pass, and the error of results and gradients; the first form is
    the exact one."""
    inputs = [one.to(dtype).detach().requires_grad_() for one in given]
    results: list[Tensor] = []

    def once() -> None:
        made = form(*inputs)
        slope = torch.linspace(-1, 1, made.numel(), device=made.device).view_as(made).to(made.dtype)
        results[:] = [made.detach(), *torch.autograd.grad(made, inputs, slope)]

    taken = gpu.seconds(once, given[0].device, rounds)
    exact[:] = exact or results
    errors = [float((one.float() - other).norm() / other.norm()) for one, other in zip(results, exact, strict=True)]
    return {"ms": 1e3 * taken, "error": max(errors)}


def attention(device: torch.device, tokens: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of each kind of lengths, precision and backend."""
    rows: list[dict[str, Any]] = []
    for kind in gpu.LENGTHS:
        stream = collate_batch(gpu.groups(kind, VOCABULARY, tokens), Pairs.collate).to(device).stream
        given = [normal(device, 1, heads, stream.num_tokens, WIDTH) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
        exact: list[Tensor] = []
        for precision, dtype in PRECISIONS.items():
            for name in sorted(names(), key=lambda name: name != "dense"):
                if (implementation := backend(name).implementation) is None:
                    continue
                plan = backend(name).inputs(stream).keywords["trueup_plan"]
                call = ALL_ATTENTION_FUNCTIONS[implementation]

                def form(*qkv: Tensor, call: Any = call, plan: Any = plan) -> Tensor:
                    made: Tensor = call(nn.Module(), *qkv, None, trueup_plan=plan)[0]
                    return made

                told = {"kernel": name, "lengths": kind, "tokens": stream.num_tokens, "precision": precision}
                try:
                    rows.append(told | measured(form, given, dtype, exact, rounds))
                except (UnsupportedAttention, RuntimeError, ImportError) as error:
                    rows.append(told | {"refused": str(error).splitlines()[0]})
    return rows


def head(device: torch.device, tokens: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of the head that makes logits as it needs them, and of all logits at once."""
    target = torch.randint(VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(0)).to(device)
    given = [normal(device, tokens, HIDDEN), normal(device, VOCABULARY, HIDDEN) / HIDDEN**0.5]

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        return (hidden @ weight.T).float().log_softmax(-1).gather(1, target[:, None])[:, 0]

    def fused(hidden: Tensor, weight: Tensor) -> Tensor:
        return token_outputs(hidden, Head(weight, None, 1.0, None), target)[0]

    rows: list[dict[str, Any]] = []
    exact: list[Tensor] = []
    for precision, dtype in PRECISIONS.items():
        for name, form in {"all logits": plain, "fused head": fused}.items():
            told = {"kernel": name, "lengths": "", "tokens": tokens, "precision": precision}
            rows.append(told | measured(form, given, dtype, exact, rounds))
    return rows


def main(
    output: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    tokens: Annotated[int, typer.Option(help="Of a stream, at most.")] = 2048,
    rounds: int = 5,
) -> None:
    """Time every kernel, and print a table."""
    torch.set_num_threads(1)
    where = torch.device(device)
    rows = attention(where, tokens, rounds) + head(where, tokens // 2, rounds)
    for one in rows:
        print(json.dumps(one))
    if output is not None:
        revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        record = {
            "command": f"python benchmarks/attention_and_head.py --device {device} --tokens {tokens} --rounds {rounds}",
            "commit": revision, "device": gpu.device_name(where), "torch": torch.__version__,
            "python": platform.python_version(), "seed": 0, "rows": rows,
        }  # fmt: skip
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
