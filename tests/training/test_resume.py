"""A run that was killed and resumed is the run that was not: weights and metrics, bit for bit."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support import small_runs

from trueup.errors import Stopped
from trueup.feedback.condition import read_condition
from trueup.methods import METHODS
from trueup.objectives.loss import StepObjective
from trueup.references.choices import NoReference
from trueup.training import api, loop, optimizer

SOFT = {"reference.kind": "trust-region", "reference.alpha": 0.6, "reference.every": 2}
HARD = {"reference.kind": "trust-region", "reference.alpha": 1.0, "reference.every": 3}
REFERENCES = {
    "none": {}, "frozen": {"reference.kind": "frozen"}, "cached": {"reference.kind": "cached"},
    "soft": SOFT, "hard": HARD, "adapter-off": {"reference.kind": "adapter-off"},
}  # fmt: skip
ANY = ("frozen", "cached", "soft", "hard")
BOTH = ("full", "lora")
EVERY = tuple((reference, weights) for reference in ANY for weights in BOTH)
NONE = (("none", "full"),)
APPLIES: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("simpo", "cpo", "orpo", "pro"), NONE),
    **dict.fromkeys(("dpo-positive", "ld-dpo", "f-dpo", "exo", "sppo", "rso"), (("frozen", "full"),)),
    **dict.fromkeys(("apo-zero", "apo-down", "nca"), (("soft", "full"),)), "wpo": (("hard", "full"),),
    "bco": (("cached", "full"), ("soft", "lora")), "sft": (("none", "full"), ("none", "lora")),
    "rrhf": (("none", "full"), ("none", "lora")), "dpo": EVERY, "tr-dpo": (("soft", "lora"), ("hard", "full")),
    "robust-dpo": (("frozen", "lora"),), "ipo": (("cached", "full"),), "tr-ipo": (("hard", "full"),),
    "slic": (("soft", "full"),), "slic-hf": NONE, "unlikelihood": (("none", "lora"),),
    "pointwise-dpo": (("soft", "lora"),), "ulma": (("cached", "lora"), ("hard", "full")),
    "ulma-group-means": (("frozen", "full"), ("hard", "lora")), "kto": (*EVERY, ("adapter-off", "lora")),
    "tr-kto": (("soft", "full"), ("hard", "lora")),
    "paired-kto": (("cached", "lora"), ("soft", "full"), ("adapter-off", "lora")), "fa": NONE,
    "rwr": (("none", "full"), ("none", "lora")), "ca": (("none", "lora"),),
    "reward-model": (("none", "full"), ("none", "lora")),
}  # fmt: skip
"""Of each method, or variant of one, the references and weights it is killed with. What a checkpoint holds besides
the weights is the optimizer, the place in the order, and the reference; none of it depends on a plain objective,
which is a function of one micro-batch. So DPO goes through all of it and the other plain methods share out the rest:
each is there, those of one place in `make test-many`, and each reference with more than one. An objective that
measures the whole step reads its policy, its reference and the source's pairing a second time before a loss, which
KTO does with every reference; the other two share them out likewise."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"ulma-group-means": ("ulma", {"group_means": True})}
"""Methods whose settings choose an objective of another kind."""
DEFAULTS = {"optimizer": "adamw", "optimizer_states": "fp32"}
LORA = {"lora.rank": 3, "lora.dropout": 0.1}
CASES = [
    pytest.param(
        name, reference, weights, id=f"{name}-{reference}-{weights}", marks=[pytest.mark.many] * (len(places) == 1)
    )
    for name, places in APPLIES.items()
    for reference, weights in places
]


def variant(name: str) -> tuple[str, dict[str, Any]]:
    """The method and its settings."""
    return VARIANTS.get(name, (name, {}))


def test_no_method_is_missing() -> None:
    """Those that gather their own feedback alone are killed in test_online.py."""
    assert {variant(name)[0] for name in APPLIES} == {
        name for name, info in METHODS.items() if "offline" in info.sources
    }
    for name, places in APPLIES.items():
        method, more = variant(name)
        made = METHODS[method].build(**more)
        without = isinstance(made.reference, NoReference)
        assert without == all(reference == "none" for reference, _ in places), name
    shared = Counter(place for places in APPLIES.values() for place, _ in places)
    for name in ("dpo", "kto"):
        assert set(APPLIES[name]) >= set(EVERY)
    assert isinstance(METHODS["kto"].build().objective, StepObjective)
    assert all(shared[reference] > 4 for reference in (*ANY, "none"))


KILLED = {("dpo", "soft", "lora"), ("dpo", "hard", "full"), ("kto", "cached", "lora")}
"""In a process of its own that gets SIGKILL; of the others' folders a copy is taken, which holds the same."""


@pytest.mark.parametrize("name, reference, weights", CASES)
def test_killed_and_resumed_equals_uninterrupted(
    name: str, reference: str, weights: str, tiny_model: Path, tmp_path: Path
) -> None:
    """At a random moment, and those of `KILLED` once more after a resume, with dropout on where there is an adapter.
    Saved at steps 2, 4 and 6, the second time at the end of a pass; moved at every second or third."""
    method, chosen = variant(name)
    more = {**chosen, **REFERENCES[reference], **(LORA if weights == "lora" else {}), "eval_fraction": 0.2}
    more |= {"epochs": None, "steps": 6, "batch_size": 5, "save_every": 2, "eval_every": 4}
    uninterrupted, killed = tmp_path / "begun" / "run", tmp_path / "killed" / "run"
    values = small_runs.settings(method, tiny_model, small_runs.write_feedback(tmp_path), uninterrupted, **more)
    chance = random.Random(f"{name} {reference} {weights}")
    if (name, reference, weights) in KILLED:
        small_runs.run_here(method, values)
        small_runs.killed_and_resumed(method, {**values, "output": str(killed)}, chance, (0, 3), (3, 5))
    else:
        with small_runs.snapshot(uninterrupted, killed.parent, lines=chance.randint(2, 5), looks=1):
            small_runs.run_here(method, values)
        api.resume(killed, quiet=True)
    assert small_runs.model_bytes(killed) == small_runs.model_bytes(uninterrupted) != {}
    assert small_runs.metrics_of(killed) == small_runs.metrics_of(uninterrupted)
    assert read_condition(killed / "model") == read_condition(uninterrupted / "model")
    assert len([line for line in small_runs.metrics_of(uninterrupted) if "loss" in line]) == 6


@pytest.mark.parametrize("more", [{"optimizer": "muon"}, {"optimizer_states": "bf16"}, {"optimizer_states": "8bit"}])
def test_a_killed_run_goes_on_with_its_optimizer(
    more: dict[str, Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its momentum, or moments of few bits and the random numbers that round them; AdamW alone ends elsewhere."""
    monkeypatch.setattr(optimizer, "SMALL", 256)
    data = small_runs.write_feedback(tmp_path)
    values = small_runs.settings("dpo", tiny_model, data, tmp_path / "whole", **{"epochs": None, "steps": 5, **more})
    small_runs.run_here("dpo", values)
    small_runs.break_off("dpo", {**values, "output": str(tmp_path / "killed")}, before_step=5)
    api.resume(tmp_path / "killed", quiet=True)
    small_runs.run_here("dpo", {**values, **DEFAULTS, "output": str(tmp_path / "adamw")})
    whole, killed, adamw = (small_runs.model_bytes(tmp_path / name) for name in ("whole", "killed", "adamw"))
    assert whole == killed != {}
    assert whole != adamw


@pytest.mark.parametrize("weights, reference", [("full", "hard"), ("lora", "soft")])
def test_stopped_wherever_a_run_listens(
    weights: str, reference: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, between steps, while a reference looks ahead, in an evaluation: at every place. And again where the
    resumed run listens first once it has read its examples: there a move of the reference is made up for."""
    examples = 8
    more: dict[str, Any] = {"eval_fraction": 0.25, "eval_every": 2, "micro_batch_tokens": 60, "batch_size": 3}
    more |= {"epochs": None, "steps": 4, **REFERENCES[reference], **(LORA if weights == "lora" else {})}
    more |= {"reference.every": 2}
    uninterrupted = tmp_path / "whole"
    values = small_runs.settings(
        "dpo", tiny_model, small_runs.write_feedback(tmp_path, examples), uninterrupted, **more
    )
    looks = small_runs.stopping_at(monkeypatch, 0)
    small_runs.run_here("dpo", values)
    total, begun = len(looks), 0
    for number in range(examples, total):
        output = tmp_path / str(number)
        small_runs.stopping_at(monkeypatch, number)
        with pytest.raises(Stopped):
            small_runs.run_here("dpo", {**values, "output": str(output)})
        if not output.exists():
            continue  # it had not begun
        begun += 1
        small_runs.stopping_at(monkeypatch, examples + 2)
        with pytest.raises(Stopped):
            api.resume(output, quiet=True)
        assert '"stopped"' in (output / "status.json").read_text()
        small_runs.stopping_at(monkeypatch, 0)
        api.resume(output, quiet=True)
        assert small_runs.model_bytes(output) == small_runs.model_bytes(uninterrupted) != {}
        assert small_runs.metrics_of(output) == small_runs.metrics_of(uninterrupted)
    assert begun == {"full": 11, "lora": 5}[weights]


def test_a_run_that_began_on_a_gpu_goes_on_without_one(
    uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The random numbers of the GPU are of no use there; all else is as it was saved."""
    original, output = loop.random_state, tmp_path / "run"
    monkeypatch.setattr(loop, "random_state", lambda: {**original(), "cuda": torch.zeros(16, dtype=torch.uint8)})
    small_runs.break_off("dpo", {**uninterrupted[0], "output": str(output)}, before_step=11)
    monkeypatch.undo()
    api.resume(output, quiet=True)
    assert [line for line in caplog.messages if "the run began on a GPU and goes on without one" in line]
    assert small_runs.model_bytes(output) == small_runs.model_bytes(uninterrupted[1]) != {}
