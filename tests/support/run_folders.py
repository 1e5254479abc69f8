"""Folders of runs as training leaves them, made without training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LOG = "2026-11-30 10:00:00,000 INFO pairs: 4 examples gave 4 groups, 8 responses, 4 pairs\n" + (
    "2026-11-30 10:00:01,000 INFO M: LlamaForCausalLM on cpu, 100 of 1,000 weights trained\n"
)
HOSTILE = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'>\"'></textarea></svg>"
RIGHT_TO_LEFT = "\u0634\u0643\u0631\u0627 \u202ereversed \U0001f600"


def dpo_lines(steps: int, chosen: float = -0.5) -> list[dict[str, Any]]:
    """Metrics of a run whose chosen responses go to a reward; accuracies and margins get better."""
    return [
        {
            "step": step + 1, "loss": 0.693 - 0.4 * (at := step / max(1, steps - 1)), "rewards/chosen": chosen * at,
            "rewards/rejected": -2 * at, "rewards/margins": (chosen + 2) * at, "rewards/accuracies": 0.5 + 0.4 * at,
            "drift/chosen": chosen * at / 4, "logps/chosen": -20 + chosen * at, "logps/rejected": -22 - 2 * at,
            "kl": -at, "tokens": 10.0, "seconds": 0.5, "learning_rate": 1e-3,
        }
        for step in range(steps)
    ]  # fmt: skip


def make_run(
    folder: Path, lines: Sequence[Mapping[str, Any]] = (), *, method: str = "dpo",
    status: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, data: str = "1",
    rows: Sequence[Mapping[str, Any]] = (), rounds: Sequence[Mapping[str, Any]] = (),
) -> Path:  # fmt: skip
    """A run's folder with these metrics, samples and facts of rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"beta": 0.1, "reference": {"kind": "frozen"}} if method == "dpo" else {}
    record = {
        "method": method, "method_settings": own,
        "settings": {"model": "M", "data": ["pairs.jsonl"], "output": str(folder), **(settings or {})},
        "data_fingerprints": {"pairs.jsonl": data}, "model_identity": "m",
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(record, allow_unicode=True))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = {"state": "done", "step": len(lines), "steps": len(lines)} if status is None else status
    (folder / "status.json").write_text(json.dumps(state))
    (folder / "run.log").write_text(LOG)
    if rows:
        (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if rounds:
        told = [{"round": at, "rows": 0, "facts": dict(one), "sha256": ""} for at, one in enumerate(rounds, 1)]
        (folder / "rounds.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    return folder


def sampled(number: int, prompt: str, *answers: tuple[str, float]) -> dict[str, Any]:
    """A row of examples.jsonl."""
    responses = [{"content": text, "score": score, "source": f"M@{number}"} for text, score in answers]
    return {"prompt": prompt, "responses": responses, "round": {"number": number, "of": 9, "prompts": 1}}


def evaluation(*names: str, wins: float = 0.75, prompts: Sequence[str] = ("p.jsonl",)) -> dict[str, Any]:
    """What evaluation.json holds of models with rewards 0, 1, ..., the last of which is the reference."""
    models = [
        {"name": name, "step": None, "reference": names[-1], "kl": {"value": 2.0 + at, "error": 0.1, "count": 4},
         "reward": {"value": float(at), "error": 0.2, "count": 4}}
        for at, name in enumerate(names)
    ]  # fmt: skip
    models[-1] |= {"reference": None, "kl": None}
    interval = {"value": wins, "low": wins - 0.1, "high": wins + 0.1}
    rewarded = [
        {"one": names[0], "other": other, "prompts": 4, "wins": interval, "p": 0.1, "p_corrected": 0.2}
        for other in names[1:]
    ]
    cost = {"judge": {"verdicts": 8, "unreadable": 2, "first": 4.5}}
    return {
        "prompts": 4, "models": models, "rewarded": rewarded, "cost": cost,
        "settings": {"prompts": list(prompts)},
    }  # fmt: skip
