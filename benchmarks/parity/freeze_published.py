"""Freeze what published losses compute: `python benchmarks/parity/freeze_published.py PRO TRL` writes published.json.
PRO is the authors' PRO/train/utils/process_manager.py (https://github.com/AlibabaResearch/DAMO-ConvAI at 483554e), TRL
the folder `trl` of its release 0.29.0, the last with BCO, XPO and Nash-MD. Of each file some functions alone are run,
on log-probabilities that are made up, in float64."""

import ast
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer

FROZEN = Path(__file__).parents[2] / "tests/parity/published.json"
Rows = list[list[float]]


def part(path: Path, name: str, **given: Any) -> Any:
    """A function or class of a file, which is not run otherwise."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = next(node for node in ast.walk(tree) if isinstance(node, kinds) and node.name == name)
    scope = {"torch": torch, "F": F, "math": math, "dataclass": dataclass, "Accelerator": Any, **given}
    exec(compile(ast.Module([found], []), str(path), "exec"), scope)
    return scope[name]


def made_up(chance: random.Random, lengths: list[int]) -> Rows:
    return [[-chance.uniform(0.05, 3) for _ in range(length)] for length in lengths]


def leaves(rows: Rows) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in rows]


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def gradient(*sides: list[torch.Tensor]) -> Rows:
    return [[0.0] * len(row) if row.grad is None else row.grad.tolist() for side in sides for row in side]


def pro(compute_loss: Any, args: Any, chance: random.Random) -> dict[str, Any]:
    """Three prompts with four responses each. The model says what it is given: of two tokens the first is scored."""
    batch, ranks, prompt = 3, 4, 2
    lengths = [[chance.randint(1, 5) for _ in range(ranks)] for _ in range(batch)]
    rows = made_up(chance, [length for group in lengths for length in group])
    width = prompt + max(map(max, lengths))
    tokens = leaves(rows)
    scores = sorted((chance.uniform(-1, 2) for _ in range(ranks)), reverse=True)
    rewards = torch.tensor([[score + chance.uniform(0, 0.01) for score in scores] for _ in range(batch)]).double()
    mask = torch.zeros(batch, ranks, width, dtype=torch.long)
    logits = torch.zeros(batch, ranks, width, 2, dtype=torch.float64)
    for number, token in enumerate(tokens):
        at, rank = divmod(number, ranks)
        end = prompt + len(token)
        # What follows a padded row is its end of sequence, which the authors' mask lets in; a longest row has its own.
        mask[at, rank, : end if end == width else end - 1] = 1
        logits[at, rank, prompt - 1 : end - 1] = torch.stack([token, torch.log(-torch.expm1(token))], dim=1)

    def model(input_ids: torch.Tensor, **_: Any) -> Any:
        rank = int(input_ids[0, 0])
        return SimpleNamespace(logits=logits[:, rank], hidden_states=[logits])

    given = {
        "labels": torch.zeros(batch, ranks, width, dtype=torch.long),
        "input_ids": torch.arange(ranks)[None, :, None].expand(batch, ranks, width), "attention_mask": mask,
        "prefix_mask": (torch.arange(width) < prompt - 1).long().expand(batch, ranks, width),
        "rewards": rewards, "sft_index": torch.zeros(batch, dtype=torch.long),
    }  # fmt: skip
    losses: list[torch.Tensor] = []
    owner = SimpleNamespace(accelerator=SimpleNamespace(backward=losses.append))
    compute_loss(owner, model, given, [[] for _ in range(ranks)])
    losses[0].backward()
    return {
        "settings": {"sft_weight": args.sft_weight}, "policy": rows, "scores": rewards.flatten().tolist(),
        "ranks": ranks, "loss": losses[0].item(), "gradient": gradient(tokens),
    }  # fmt: skip


def bco(bco_loss: Any, moments: Any, chance: random.Random) -> list[dict[str, Any]]:
    """Three steps one after the other, of desirable responses first and then the others."""
    running = moments(SimpleNamespace(use_distributed=False))
    owner = SimpleNamespace(beta=0.1, running=running, match_underlying_distribution=False)
    steps = []
    for chosen in (3, 2, 4):
        lengths = [chance.randint(1, 6) for _ in range(5)]
        policy, reference = made_up(chance, lengths), made_up(chance, lengths)
        tokens = leaves(policy)
        own_N, base_N = (torch.stack([row.sum() for row in side]) for side in (tokens, leaves(reference)))
        losses, _, _, delta = bco_loss(
            owner, own_N[:chosen], own_N[chosen:], base_N[:chosen], base_N[chosen:], None, None
        )
        losses.mean().backward()
        steps.append(
            {
                "settings": {"beta": 0.1},
                "policy": policy,
                "reference": reference,
                "labels": [1.0] * chosen + [0.0] * (5 - chosen),
                "delta": delta.item(),
                "loss": losses.mean().item(),
                "gradient": gradient(tokens),
            }
        )
    return steps


def opponents(chance: random.Random, longest: int) -> tuple[Rows, Rows, Rows, Rows]:
    """Under policy and reference: five responses of the policy, and five of the other."""
    own, other = ([chance.randint(1, longest) for _ in range(5)] for _ in range(2))
    return made_up(chance, own), made_up(chance, other), made_up(chance, own), made_up(chance, other)


def xpo(compute_losses: Any, chance: random.Random, alpha: float) -> dict[str, Any]:
    mine, theirs, mine_reference, theirs_reference = opponents(chance, 6)
    mine_T, theirs_T = leaves(mine), leaves(theirs)
    wins = [chance.random() < 0.5 for _ in mine]
    owner = SimpleNamespace(args=SimpleNamespace(loss_type="sigmoid"), beta=0.1, alpha=alpha)
    loss, *_ = compute_losses(
        owner, padded(mine_T), padded(theirs_T), padded(leaves(theirs_reference)), padded(leaves(mine_reference)),
        torch.tensor(wins),
    )  # fmt: skip
    loss.backward()
    return {
        "settings": {"beta": 0.1, "alpha": alpha}, "policy": mine + theirs,
        "reference": mine_reference + theirs_reference, "wins": [float(won) for won in wins],
        "loss": loss.item(), "gradient": gradient(mine_T, theirs_T),
    }  # fmt: skip


def nash_md(compute_losses: Any, chance: random.Random, beta: float, longest: int) -> dict[str, Any]:
    mine, theirs, mine_reference, theirs_reference = opponents(chance, longest)
    mine_T = leaves(mine)
    wins = [chance.random() for _ in mine]
    loss, *_ = compute_losses(
        SimpleNamespace(beta=beta), padded(mine_T), padded(leaves(mine_reference)),
        torch.tensor(wins, dtype=torch.float64),
    )  # fmt: skip
    loss.backward()
    return {
        "settings": {"beta": beta}, "policy": mine + theirs, "reference": mine_reference + theirs_reference,
        "wins": wins, "gradient": gradient(mine_T, leaves(theirs)),
    }  # fmt: skip


def freeze(pro_file: Path, trl: Path, path: Annotated[Path, typer.Argument()] = FROZEN) -> None:
    """Write inputs and outputs to PATH, one case a line."""
    chance = random.Random(0)
    args = SimpleNamespace(sft_weight=0.0)
    of_pro = part(pro_file, "compute_loss", args=args)
    of_xpo = part(trl / "experimental/xpo/xpo_trainer.py", "_compute_losses")
    of_nash = part(trl / "experimental/nash_md/nash_md_trainer.py", "_compute_losses")
    made: dict[str, list[Any]] = {"PRO": []}
    for args.sft_weight in (0.0, 0.05, 1.0):
        made["PRO"].append(pro(of_pro, args, chance))
    file = trl / "experimental/bco/bco_trainer.py"
    made["BCO"] = bco(part(file, "bco_loss"), part(file, "RunningMoments"), chance)
    made["XPO"] = [xpo(of_xpo, chance, alpha) for alpha in (0.0, 1e-5, 0.1)]
    made["NashMD"] = [nash_md(of_nash, chance, *case) for case in ((0.0, 6), (0.1, 1), (0.1, 6))]
    parts = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in made.items()]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(freeze)
