"""What several processes train equals what one trains, whatever is trained and measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.fake_vllm import FakeVllm
from support.faulty_server import FaultyServer
from support.several_processes import run_all
from support.small_runs import metrics_of, run_here, settings, write_feedback
from support.tiny_models import CONFIGS, HYBRID, save_tiny_model

from trueup.methods import METHODS

TRUST = {"reference.every": 2}
ROUNDS: dict[str, Any] = {
    "prompts": "pairs",
    "annotator": "letters",
    "data": None,
    "batch_size": 3,
    "steps": 2,
    "sampler.max_new_tokens": 6,
}
LETTERS = "def letters(prompt, response):\n    return sum(map(ord, response)) % 97 / 97\n"
"""A reward that may be anything from 0 to 1."""
CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "dpo": ("dpo", {}),
    "dpo, untied": ("dpo", {"model": "untied"}),
    "dpo, cached": ("dpo", {"reference.kind": "cached", "steps": 9, "eval_fraction": 0.25}),
    "dpo, hybrid": ("dpo", {"model": "hybrid", "attention": "forked"}),
    "dpo, fewer groups than processes": ("dpo", {"batch_size": 1}),
    "dpo, evaluated": ("dpo", {"eval_fraction": 0.25, "eval_every": 2}),
    "dpo, lora": ("dpo", {"lora.rank": 4}),
    "tr-dpo, soft": ("tr-dpo", {**TRUST, "reference.alpha": 0.5}),
    "tr-dpo, hard": ("tr-dpo", {**TRUST, "reference.alpha": 1.0}),
    "tr-dpo, bf16": ("tr-dpo", {**TRUST, "reference.alpha": 0.5, "precision": "bf16"}),
    "tr-dpo, lora": ("tr-dpo", {**TRUST, "reference.alpha": 0.5, "lora.rank": 4, "model": "untied"}),
    "kto": ("kto", {}),
    "paired-kto": ("paired-kto", {}),
    "ulma": ("ulma", {}),
    "rrhf": ("rrhf", {}),
    "reward-model": ("reward-model", {"eval_fraction": 0.25}),
    "ppo": ("ppo", ROUNDS),
    "rloo": ("rloo", ROUNDS),
    "oaif": ("oaif", ROUNDS),
    "oaif, weights kept": ("oaif", {**ROUNDS, "sampler.resync": 2}),
}
LORA = {"lora.rank": 4}
SOFT, HARD = ({**TRUST, "reference.alpha": alpha} for alpha in (0.5, 1.0))
FURTHER: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name, one in METHODS.items() if "offline" in one.sources and name not in CASES},
    **{
        f"{method}, {kind}, online": (method, {**ROUNDS, **more})
        for kind, more in {"all weights": {}, "lora": LORA}.items()
        for method in ("ppo", "rloo", "reinforce", "grpo", "oaif", "nash-md", "xpo")
        if f"{method}{kind}" not in ("ppoall weights", "rlooall weights", "oaifall weights")
    },
    "tr-dpo, soft, untied": ("tr-dpo", {**SOFT, "model": "untied"}),
    "tr-dpo, hard, lora": ("tr-dpo", {**HARD, **LORA}),
    "tr-dpo, hard, online": ("tr-dpo", {**ROUNDS, **HARD}),
    "tr-dpo, soft, online": ("tr-dpo", {**ROUNDS, **SOFT}),
    "tr-kto, lora": ("tr-kto", {**SOFT, **LORA}),
    "dpo, cached, lora": ("dpo", {"reference.kind": "cached", **LORA}),
    "dpo, adapter off": ("dpo", {"reference.kind": "adapter-off", **LORA}),
    "dpo, goes on with an adapter": ("dpo", {"model": "dpo, lora"}),
    "dpo, dora": ("dpo", {**LORA, "lora.dora": True}),
    "dpo, a module beside": ("dpo", {**LORA, "lora.modules_to_save": ["lm_head"], "model": "untied"}),
    "dpo, checkpointed": ("dpo", {"gradient_checkpointing": True}),
    "dpo, experts": ("dpo", {"model": "experts"}),
    "reward-model, lora": ("reward-model", LORA),
    "reward-model, bf16": ("reward-model", {"precision": "bf16", "gradient_checkpointing": True}),
    "ppo, lora, bf16": ("ppo", {**ROUNDS, **LORA, "precision": "bf16", "steps": 1}),
    "tr-dpo, two copies": ("tr-dpo", {**SOFT, "parallel.replicate": 2}),
    "dpo, replayed": ("oaif", {"source": "replay", "data": "oaif"}),
}
"""Every other method, and every reference and parametrization with one."""
OF_EITHER_SIGN = ("ppo", "rloo", "reinforce", "grpo", "nash-md")
"""Methods whose loss is a mean of numbers around 1 of either sign, and may be next to nothing."""
OFTEN = {
    2: ("dpo, untied", "dpo, cached", "dpo, hybrid", "tr-dpo, soft", "tr-dpo, bf16", "tr-dpo, lora", "kto", "ppo"),
    3: ("tr-dpo, soft",),
}
"""Cases by the number of processes; the others are for `make test-many`."""
SELDOM = [
    (2, tuple(name for name in CASES if name not in OFTEN[2])),
    (3, ("dpo, untied", "dpo, hybrid", "kto", "oaif")),
    (4, ("tr-dpo, two copies",)),
    *((2, ("dpo, lora", "oaif", *list(FURTHER)[at : at + 12])) for at in range(0, len(FURTHER), 12)),
]


def trained(folder: Path, count: int, names: Sequence[str]) -> None:
    """Train the cases in one process and in several, each in a folder of its name in that of its number."""
    save_tiny_model(folder / "tied", tie_word_embeddings=True)
    save_tiny_model(folder / "untied")
    save_tiny_model(folder / "experts", family="mixtral", num_local_experts=4)
    save_tiny_model(folder / "hybrid", family=HYBRID, **{**CONFIGS[HYBRID], "vocab_size": 103})
    data = write_feedback(folder)
    (folder / "rewards.py").write_text(LETTERS)

    def chosen(name: str, number: int) -> tuple[str, dict[str, Any]]:
        method, more = (CASES | FURTHER)[name]
        values = settings(method, folder / "tied", data, folder / str(number) / name, batch_size=5, steps=5)
        del values["epochs"]
        values |= more
        if number == 1:
            values.pop("parallel.replicate", None)
        named = {name: str(folder / name) for name in ("untied", "experts", "hybrid")}
        named |= {
            "dpo, lora": str(folder / "1/dpo, lora/model"),
            "oaif": str(folder / "1/oaif/examples.jsonl"),
            "pairs": str(data["pairs"]),
            "letters": f"{folder / 'rewards.py'}:letters",
        }
        for key in ("model", "data", "prompts", "annotator"):
            if isinstance(values.get(key), str):
                values[key] = named.get(values[key], values[key])
        return method, {key: value for key, value in values.items() if value is not None}

    for name in names:
        run_here(*chosen(name, 1))
    run_all(folder, count, [chosen(name, count) for name in names])


@pytest.mark.parametrize(
    ("count", "names"),
    [*OFTEN.items(), *(pytest.param(count, names, marks=pytest.mark.many) for count, names in SELDOM)],
)  # fmt: skip
def test_losses_norms_and_weights(count: int, names: Sequence[str], tmp_path: Path) -> None:
    trained(tmp_path, count, names)
    for name in names:
        alone, several = tmp_path / "1" / name, tmp_path / str(count) / name
        expected, found = metrics_of(alone), metrics_of(several)
        assert [line.keys() for line in found] == [line.keys() for line in expected], name
        near, close = (2e-2, 2e-2) if "bf16" in name else (1e-6, 1e-5)  # where all products are rounded to three digits
        for one, other in zip(expected, found, strict=True):
            for key in {"loss", "grad_norm", "eval_loss", "tokens"} & one.keys():
                less = 5e-7 if key == "loss" and name.partition(",")[0] in OF_EITHER_SIGN else 0.0
                assert other[key] == pytest.approx(one[key], rel=near, abs=less), (name, one["step"], key)
        (file,) = (alone / "model").glob("*.safetensors")
        weights, made = load_file(file), load_file(several / "model" / file.name)
        assert weights.keys() == made.keys(), name
        one, other = (torch.cat([each[key].flatten() for key in sorted(weights)]).double() for each in (weights, made))
        assert (one - other).norm() < close * one.norm(), name


@pytest.mark.many
def test_responses_of_a_server_are_of_weights_that_no_process_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All weights, and an adapter alone; the server has what several processes gathered, or what one has."""
    save_tiny_model(tmp_path / "tied", tie_word_embeddings=True)
    (tmp_path / "rewards.py").write_text(LETTERS)
    prompts = str(write_feedback(tmp_path)["pairs"])
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    fake = FakeVllm(tmp_path / "tied")
    with FaultyServer(fake) as server:

        def of(name: str, count: int) -> dict[str, Any]:
            return {
                "model": str(tmp_path / "tied"), "output": str(tmp_path / f"{name} {count}"), "prompts": prompts,
                "annotator": f"{tmp_path / 'rewards.py'}:letters", "steps": 3, "batch_size": 4,
                "learning_rate": 1e-2, "sampler.engine": "server", "sampler.base_url": [server.url],
                "sampler.max_new_tokens": 6, **(LORA if name == "lora" else {}),
            }  # fmt: skip

        for name in ("all", "lora"):
            run_here("oaif", of(name, 1))
        run_all(tmp_path, 2, [("oaif", of(name, 2)) for name in ("all", "lora")])
    for name in ("all", "lora"):
        alone, several = ((tmp_path / f"{name} {count}/examples.jsonl").read_text() for count in (1, 2))
        assert alone == several
    assert len(fake.loaded) == 12
