"""`trueup selfcheck`: every check holds on what is right, and finds what is planted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import command, options, settings, write_feedback

from trueup.batch import stream
from trueup.batch.rows import LogProbs
from trueup.config.resolve import resolve
from trueup.models.attention import grouped
from trueup.references.build import ModelCopy
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.training import invariants
from trueup.training.optimizer import Optimizer

CHECKS = (
    *("step 0", "stream against rows", "cached reference", "sampler against trainer"),
    *("overfitting one batch", "export read again", "resume"),
)


@pytest.fixture
def values(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return settings("dpo", tiny_model, write_feedback(tmp_path, 8), tmp_path / "run")


def found(method: str, values: dict[str, Any], *but: str, **more: Any) -> dict[str, invariants.Finding]:
    given = {name: value for name, value in values.items() if name not in but}
    return {one.check: one for one in invariants.run_selfcheck(resolve(method, overrides={**given, **more}))}


def test_a_file_of_settings_is_enough_and_nothing_is_left(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("method: dpo\n" + "".join(f"{name}: {value}\n" for name, value in values.items()))
    before = sorted(tmp_path.iterdir())
    assert command("selfcheck", "--config", config, "--lora.rank", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[7:33].strip() for line in lines[:-1]] == list(CHECKS)
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert "log-ratios of 49 tokens exactly 0, margins exactly 0, loss 0.693147" in lines[0]
    assert "49 of 49 response tokens" in lines[1]
    assert "optimizer, policy, random, reference the same to the bit" in lines[-2]
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_apply_says_so(values: dict[str, Any], tmp_path: Path) -> None:
    data = [str(tmp_path / "demonstrations.jsonl")]
    checks = found("sft", values, data=data)
    assert tuple(checks) == CHECKS
    assert {name for name, one in checks.items() if one.right is None} == {"step 0", "cached reference"}
    assert all("does not apply: sft" in one.told for one in checks.values() if one.right is None)
    assert {one.right for one in found("reward-model", values).values()} == {True, None}


@pytest.mark.parametrize("source", ["online", "offline"])
def test_no_annotator_is_paid(source: str, values: dict[str, Any], tmp_path: Path) -> None:
    """Nothing answers at this address; a moving reference and the log of the rounds are resumed too."""
    more = {"annotator.kind": "openai", "annotator.base_url": "http://127.0.0.1:9/v1", "annotator.model": "judge"}
    more |= {"source": source, "prompts": [str(tmp_path / "pairs.jsonl")], "sampler.max_new_tokens": 8}
    more |= {name.replace("annotator", "eval_by"): one for name, one in more.items() if "annotator" in name}
    more |= {"eval_prompts": [str(tmp_path / "pairs.jsonl")]}
    checks = found("tr-dpo", values, "data", **more)
    assert [name for name, one in checks.items() if one.right is not True] == []


def wrong_reference(patch: pytest.MonkeyPatch) -> None:
    original = ModelCopy.log_probs

    def log_probs(self: ModelCopy, batch: Any) -> LogProbs:
        outputs = original(self, batch)
        return replace(outputs, token_S=outputs.token_S + 1e-6)

    patch.setattr(ModelCopy, "log_probs", log_probs)


def mask_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """Every token but a row's first is predicted from itself."""
    original = stream.build_stream

    def build_stream(groups: Any) -> stream.Stream:
        made = original(groups)
        prompts = torch.tensor([span.prompt[1] - 1 for span in made.spans])
        return replace(made, source_S=made.source_S + ~torch.isin(made.source_S, prompts))

    patch.setattr(stream, "build_stream", build_stream)


def mask_of_attention(patch: pytest.MonkeyPatch) -> None:
    """Every token sees all before it."""
    original = grouped.plan_attention

    def plan(given: stream.Stream) -> grouped.Plan:
        return original(replace(given, spans=(stream.GroupSpan((0, given.num_tokens), ()),)))

    patch.setattr(grouped, "plan_attention", plan)


def no_optimizer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Optimizer, "restore", lambda self, saved: None)


def other_temperature(patch: pytest.MonkeyPatch) -> None:
    original = InProcessSampler.written

    def written(self: InProcessSampler, *given: Any) -> list[list[Any]]:
        several = original(self, *given)
        warm = lambda one: replace(one, log_probs=tuple(0.9 * value for value in one.log_probs))  # noqa: E731
        return [[warm(one) for one in row] for row in several]

    patch.setattr(InProcessSampler, "written", written)


def no_gradient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Optimizer, "step", lambda self, **given: None)


PLANTED: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, str]] = {
    wrong_reference: ("step 0", "log-ratios of 49 tokens up to .*Look at which model, adapter"),
    mask_off_by_one: ("stream against rows", "Give --attention padded"),
    mask_of_attention: ("stream against rows", "cannot be reproduced.*another --attention"),
    other_temperature: ("sampler against trainer", "the policy that writes is not the one that is trained"),
    no_gradient: ("overfitting one batch", "loss 0.6931 to 0.6931 in 29 steps.*nothing is learned"),
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    checks = found("dpo", values, attention="grouped")
    name, words = PLANTED[plant]
    assert [one for one, finding in checks.items() if finding.right is False][:1] == [name]
    assert re.search(words, checks[name].told)


def test_a_failure_is_told_by_the_exit_code(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_optimizer(monkeypatch)
    assert command("selfcheck", "dpo", *options(values)) == 5
    said = capsys.readouterr()
    assert "selfcheck: 1 check failed: resume; each says what to do" in said.err
    assert re.search("FAILED resume .*interrupted after 2: optimizer by up to .*, policy by .* off", said.out)
