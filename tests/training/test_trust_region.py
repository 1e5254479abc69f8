"""The trust region is a choice of reference, not of method: every method that has one trains with one that moves."""

from pathlib import Path
from typing import Any

import pytest
from support.small_runs import first_of_each_kind, metrics_of, run_here, settings, write_feedback

from trueup.config.resolve import resolve
from trueup.methods import METHODS
from trueup.training import api

REFERENCED = [
    name
    for name in dict.fromkeys((*first_of_each_kind(), "ipo", "slic"))
    if "reference" in METHODS[name].settings.model_fields and "offline" in METHODS[name].sources
]
"""A few of those that differ in their loss alone; those that gather their own feedback are run with a reference that
moves in test_online.py."""
EVERY, STEPS = 3, 7
HARD = {"reference.alpha": 1.0, "reference.every": EVERY}
SOFT = {"reference.alpha": 0.5, "reference.every": EVERY}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_feedback(tmp_path_factory.mktemp("feedback"), easy=True)


def drifts(method: str, model: Path, data: dict[str, Path], output: Path, **region: Any) -> list[dict[str, Any]]:
    """The metrics of each step."""
    more = {"reference.kind": "trust-region", **region, "epochs": None, "steps": STEPS, "save_every": 100}
    run_here(method, settings(method, model, data, output, **more))
    return metrics_of(output)


def test_they_are_many() -> None:
    known = {"bco", "dpo", "ipo", "kto", "paired-kto", "pointwise-dpo", "slic", "tr-dpo", "tr-kto", "ulma"}
    assert known <= set(REFERENCED)


@pytest.mark.parametrize("method", REFERENCED)
def test_it_trains_and_moves_its_reference(
    method: str, data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """After a hard move the policy has not drifted at all, after a soft one by less than before. Until then the three
    runs are one."""
    still = drifts(method, tiny_model, data, tmp_path / "still", **{**HARD, "reference.every": 100})
    soft = drifts(method, tiny_model, data, tmp_path / "soft", **SOFT)
    hard = drifts(method, tiny_model, data, tmp_path / "hard", **HARD)
    for lines in (soft, hard):
        assert [line["step"] for line in lines if line["reference/moved"]] == [EVERY, 2 * EVERY]
        for before, unmoved in zip(lines[:EVERY], still[:EVERY], strict=True):
            assert before["loss"] == pytest.approx(unmoved["loss"], rel=1e-6)
        assert lines[EVERY]["loss"] != still[EVERY]["loss"]
    assert not any(line["reference/moved"] for line in still)
    drift = [abs(lines[EVERY]["kl"]) for lines in (still, soft, hard)]
    assert drift[2] == 0 == hard[2 * EVERY]["kl"] == still[0]["kl"]
    assert 0 < drift[1] < 0.8 * drift[0]
    if "kto/z0" in hard[0]:
        assert hard[EVERY]["kto/z0"] == 0


@pytest.mark.parametrize("every, warned", [(2, False), (3, True), (512, True)])
def test_a_reference_that_never_moves_is_warned_of(
    every: int, warned: bool, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings("tr-dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", epochs=0.5)
    api.run(resolve("tr-dpo", overrides={**values, "reference.every": every}))
    said = capsys.readouterr().err
    assert (f"the reference moves every {every} steps, and the run has 3: it never does" in said) == warned
