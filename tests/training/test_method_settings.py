"""Runs of SLiC-HF whose target is a demonstration beside the pairs."""

import json
from pathlib import Path

import pytest
from support.refusals import refused
from support.small_runs import metrics_of, run_here, settings, write_feedback


@pytest.mark.parametrize("demonstrated", [True, False])
def test_the_demonstration_is_what_is_imitated(demonstrated: bool, tiny_model: Path, tmp_path: Path) -> None:
    """The likelihood of the demonstration rises beside the same pairs, which are of no use without one."""
    said = [{"content": " yes"}, {"content": " no"}, {"content": " yes!", "demonstration": True}]
    judged = {"responses": said, "comparisons": [{"better": 0, "worse": 1}]}
    data = write_feedback(tmp_path, 32, easy=True)
    more = {"target": "demonstration", "regularization": 1.0, "epochs": None, "steps": 40, "learning_rate": 1e-2}
    values = settings("slic-hf", tiny_model, data, tmp_path / "run", **more)
    if not demonstrated:
        with refused("no pairs with demonstration can be made of that .*32 for no demonstration beside the pairs"):
            run_here("slic-hf", values)
        return
    rows = [{"prompt": f"say {number}:", **judged} for number in range(32)]
    data["pairs"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_here("slic-hf", values)
    first, *_, last = metrics_of(tmp_path / "run")
    assert last["loss/sft"] < 0.2 * first["loss/sft"]
    # The chosen response is a beginning of the demonstration, and is only asked to beat the rejected one.
    assert last["rewards/accuracies"] == 1.0
    assert -last["logps/chosen"] > 2 * last["loss/sft"]
