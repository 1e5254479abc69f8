"""Whole runs: every method learns from a file, from Python as from the command line, and goes on where it may."""

import math
import re
import threading
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from peft import PeftModel
from support import small_runs
from support.small_runs import command, losses, metrics_of, model_bytes, run_here, settings, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import trueup
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.models.tokenizer import quiet_library
from trueup.references.build import AdapterCopy
from trueup.references.choices import NoReference
from trueup.training import api, setup

LORA = {"lora.rank": 4}
OFFLINE = [name for name, info in METHODS.items() if "offline" in info.sources]
ADAPTED = ("sft", "rrhf", "dpo", "tr-kto", "paired-kto", "ulma", "reward-model")
"""One of each kind of feedback, reference and output."""


@pytest.mark.parametrize(
    ("name", "weights", "steps"),
    [
        *(pytest.param(name, {}, 16, id=name) for name in OFFLINE),
        *(pytest.param(name, LORA, 30, id=f"{name}-lora") for name in ADAPTED),
    ],
)
def test_every_method_learns_from_a_file(
    name: str, weights: dict[str, Any], steps: int, tiny_model: Path, tmp_path: Path
) -> None:
    """Its loss falls, on what it trains on and on what it does not; DPO starts at ln 2, not having learned. KTO's by
    less than others': it saturates, and with a moving reference it starts again and again."""
    values = settings(
        name, tiny_model, write_feedback(tmp_path, 32, easy=True), tmp_path / "run",
        epochs=None, steps=steps, learning_rate=1e-2, eval_fraction=0.25, eval_every=2, save_every=100, **weights,
    )  # fmt: skip
    result = run_here(name, values)
    found, held_out = losses(tmp_path / "run"), losses(tmp_path / "run", "eval_loss")
    assert result.steps == len(found) == 2 * len(held_out) == steps
    assert all(math.isfinite(value) for value in found)
    for each in (found, held_out):
        assert fmean(each[-3:]) < 0.97 * each[0]
    if "dpo" in name:
        assert found[0] == pytest.approx(math.log(2), abs=1e-6)
        assert losses(tmp_path / "run", "eval_rewards/accuracies")[-1:] in ([], [1.0])
    last = metrics_of(tmp_path / "run")
    assert result.metrics["loss"] == last[-2]["loss"]
    assert result.metrics["eval_loss"] == last[-1]["eval_loss"]
    lines = [line for line in last if "loss" in line]
    for line in lines:
        assert {"loss", "grad_norm", "tokens", "reference/moved"} <= set(line)
        assert ("kl" in line) is not isinstance(METHODS[name].build().reference, NoReference)
    imitates = name in ("ca", "fa", "rwr", "sft")
    charted = {"logps/demonstrations"} if imitates else {"rewards/chosen"}
    if not imitates and METHODS[name].build().output != "scores":
        charted.add("logps/chosen")
    assert charted <= set().union(*lines)  # a batch of points may hold none of the chosen


def test_every_line_tells_its_step_and_learning_rate(tiny_model: Path, tmp_path: Path) -> None:
    more = {"warmup_steps": 2, "schedule": "linear"}
    run_here("dpo", settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", **more))
    lines = metrics_of(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["epoch"] for line in lines] == [pytest.approx(step / 6) for step in range(1, 13)]
    assert [line["learning_rate"] for line in lines][:4] == pytest.approx([1.5e-3, 3e-3, 3e-3, 2.7e-3])


def test_a_run_from_python(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the same settings from the command line: the same weights."""
    data = write_feedback(tmp_path)["pairs"]
    result = trueup.train(
        trueup.methods.dpo(beta=0.3), model=tiny_model, data=data, output=tmp_path / "python", batch_size=4,
        learning_rate=1e-3, seed=5, chat=False, quiet=True,
    )  # fmt: skip
    assert capsys.readouterr().err == ""
    assert result.folder == tmp_path / "python"
    assert result.model == tmp_path / "python" / "model"
    assert result.steps == 6
    assert result.metrics["loss"] == losses(tmp_path / "python")[-1]
    arguments = {
        "model": tiny_model, "data": data, "output": tmp_path / "command", "batch-size": 4, "learning-rate": "1e-3",
        "seed": 5, "beta": 0.3,
    }  # fmt: skip
    assert command("train", "dpo", *small_runs.options(arguments)) == 0
    assert model_bytes(tmp_path / "command") == model_bytes(tmp_path / "python") != {}
    assert metrics_of(tmp_path / "command") == metrics_of(tmp_path / "python")
    said = capsys.readouterr().err
    assert "24 rows" in said
    assert "first batch agrees with the policy exactly" in said
    assert f"the aligned model is in {tmp_path / 'command' / 'model'}" in said


def test_a_run_beside_other_threads(tiny_model: Path, tmp_path: Path) -> None:
    """In a notebook's thread, where no signal can be caught."""
    values = settings("sft", tiny_model, write_feedback(tmp_path), tmp_path / "run")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run_here("sft", values)))
    thread.start()
    thread.join()
    assert found[0].steps == 12


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_is_the_same_run(seed: int, tiny_model: Path, tmp_path: Path) -> None:
    data, more = write_feedback(tmp_path), {"lora.rank": 2, "lora.dropout": 0.3}
    for name, number in (("one", 1), ("other", seed)):
        torch.manual_seed(hash(name))
        run_here("dpo", settings("dpo", tiny_model, data, tmp_path / name, **{**more, "seed": number}))
    same = model_bytes(tmp_path / "one") == model_bytes(tmp_path / "other")
    assert same is (seed == 1)


def test_the_budget_of_tokens_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """One group a pass, and all four at once: float32 sums in another order, over 12 steps of 3e-3."""
    data = write_feedback(tmp_path)
    for budget in (1, 8192):
        run_here(
            "dpo", settings("dpo", tiny_model, data, tmp_path / str(budget), micro_batch_tokens=budget, max_grad_norm=0)
        )
    one, other = (losses(tmp_path / str(budget)) for budget in (1, 8192))
    assert one == pytest.approx(other, abs=1e-4)
    assert one != other  # the budget was heeded


def test_the_side_on_which_a_tokenizer_pads_changes_nothing(tmp_path: Path) -> None:
    data = write_feedback(tmp_path)
    for side in ("left", "right"):
        tokenizer = char_tokenizer(chat_template=CHATML)
        tokenizer.padding_side = tokenizer.truncation_side = side
        model = save_tiny_model(tmp_path / f"{side} model", tokenizer=tokenizer)
        run_here("dpo", settings("dpo", model, data, tmp_path / side, max_length=40))
    assert model_bytes(tmp_path / "left") == model_bytes(tmp_path / "right") != {}
    assert metrics_of(tmp_path / "left") == metrics_of(tmp_path / "right")


def test_bfloat16_products_follow_float32(tiny_model: Path, tmp_path: Path) -> None:
    """2^-8 relative to log-probabilities of 20 nats a response, times beta: 0.01 in the loss, and masters move."""
    data = write_feedback(tmp_path)
    for precision in ("fp32", "bf16"):
        more = {"precision": precision, "learning_rate": 1e-4}
        run_here("sft", settings("sft", tiny_model, data, tmp_path / precision, **more))
    plain, half = (losses(tmp_path / precision) for precision in ("fp32", "bf16"))
    assert half == pytest.approx(plain, rel=2e-3)
    assert half != plain
    assert half[-1] < half[0]


def test_bfloat16_with_a_reference(tiny_model: Path, tmp_path: Path) -> None:
    """The first batch agrees exactly: policy and reference round alike."""
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", precision="bf16")
    run_here("dpo", values)
    assert losses(tmp_path / "run")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert fmean(losses(tmp_path / "run")[-3:]) < math.log(2) - 0.01


@torch.no_grad()
def log_probs(folder: Path, base: Path | None = None) -> torch.Tensor:
    network = AutoModelForCausalLM.from_pretrained(base or folder)
    if base is not None:
        with quiet_library():
            network = PeftModel.from_pretrained(network, folder)
    ids = AutoTokenizer.from_pretrained(folder)("say red 3: red", return_tensors="pt").input_ids
    return network.eval()(input_ids=ids).logits[0].log_softmax(-1)


def test_training_goes_on_from_a_finished_model(tiny_model: Path, tmp_path: Path) -> None:
    """SFT, then DPO on its result, which is the reference."""
    data = write_feedback(tmp_path)
    first = run_here("sft", settings("sft", tiny_model, data, tmp_path / "sft"))
    second = run_here("dpo", settings("dpo", first.model, data, tmp_path / "dpo", learning_rate=1e-9))
    torch.testing.assert_close(log_probs(second.model), log_probs(first.model), rtol=0, atol=1e-5)
    assert (log_probs(first.model) - log_probs(tiny_model)).abs().max() > 0.05
    assert losses(tmp_path / "dpo")[0] == pytest.approx(math.log(2), abs=1e-6)


def test_training_goes_on_from_an_adapter(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter is trained further; the reference is that adapter as it was, not the base model."""
    built: list[Any] = []
    original = setup.build

    def build(*arguments: Any, **more: Any) -> Any:
        built.append(original(*arguments, **more))
        return built[-1]

    monkeypatch.setattr(setup, "build", build)
    data = write_feedback(tmp_path)
    first = run_here("sft", settings("sft", tiny_model, data, tmp_path / "sft", **LORA))
    second = run_here("dpo", settings("dpo", first.model, data, tmp_path / "dpo"))
    assert isinstance(built[-1], AdapterCopy)
    assert losses(tmp_path / "dpo")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(tmp_path / "dpo", "kl")[0] == 0.0
    start, end, base = (log_probs(first.model, tiny_model), log_probs(second.model, tiny_model), log_probs(tiny_model))
    assert (start - base).abs().max() > 0.05
    assert (end - start).abs().max() > 0.01
    assert sorted(model_bytes(tmp_path / "dpo")) == ["adapter_model.safetensors"]


def test_a_run_that_is_done_does_not_go_on(uninterrupted: Any) -> None:
    values, output = uninterrupted
    message = r"run: this run is done after 12 steps; its model is in .*model\. To train further"
    with pytest.raises(InputError, match=message):
        api.resume(output, quiet=True)
    with pytest.raises(InputError, match=r"run holds a run already: go on with it by --resume"):
        run_here("dpo", values)


def test_a_run_broken_off_before_its_first_checkpoint_begins_again(
    uninterrupted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    small_runs.break_off("dpo", {**uninterrupted[0], "output": str(output)}, before_step=3)
    assert command("train", "dpo", "--resume", output) == 0
    assert "stopped before its first checkpoint; it begins again at step 1" in capsys.readouterr().err
    assert model_bytes(output) == model_bytes(uninterrupted[1]) != {}
    assert metrics_of(output) == metrics_of(uninterrupted[1])


def test_what_cannot_change_the_result_may_change_on_resuming(uninterrupted: Any, broken_off: Path) -> None:
    api.resume(broken_off, {"save_every": 1, "keep_checkpoints": 4}, quiet=True)
    names = sorted(path.name for path in (broken_off / "checkpoints").iterdir())
    assert names == [f"step-{step:08d}" for step in (9, 10, 11, 12)]
    assert model_bytes(broken_off) == model_bytes(uninterrupted[1])
    with pytest.raises(InputError, match="learning_rate cannot change when a run is resumed"):
        api.resume(broken_off, {"learning_rate": 1.0}, quiet=True)


def test_evaluation_data_that_cannot_be_used_is_named_as_such(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another kind of feedback than the training data, of which the method makes nothing."""
    data = write_feedback(tmp_path)
    (tmp_path / "other").mkdir()
    other = write_feedback(tmp_path / "other", seed=9)["demonstrations"]
    for method, message in (
        ("dpo", "the 24 examples of .* hold 24 demonstrations, and no pairs"),
        ("fa", "the 24 examples .* no filtered demonstrations can be made"),
        ("ca", "none of the 24 examples holds the rewards"),
    ):
        more = {"eval_data": str(other), "allow_overlap": True}
        values = settings(method, tiny_model, data, tmp_path / method, **more)
        assert command("train", method, *small_runs.options(values)) == 2
        assert re.search(f"evaluation data: {message}", capsys.readouterr().err)
