"""Conditional alignment from end to end: a model is asked as it was trained, to the token."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from support.refusals import refused
from support.small_runs import break_off, model_bytes, run_here, settings, write_feedback
from support.tiny_models import CHATML, char_tokenizer
from transformers import AutoTokenizer

from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.feedback import views
from trueup.feedback.condition import FILE, read_condition
from trueup.feedback.records import Content, Discarded, Example, Message, Prompt, Response
from trueup.feedback.transforms import StandardizedRewards, WrittenReward
from trueup.training import api, setup

TEXT = " <rm_score>: {reward} "
Sources = list[Any]
SHORT: dict[str, Any] = {"epochs": None, "steps": 2}  # nothing of a condition depends on how long the model is trained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three scored responses to each prompt: 1, 0.5 and 0."""
    return write_feedback(tmp_path_factory.mktemp("feedback"))


@contextmanager
def watched() -> Iterator[Sources]:
    """What runs train on meanwhile, as token ids."""
    made: Sources = []
    original = setup.offline_source

    def offline_source(*arguments: Any, **more: Any) -> Any:
        made.append(original(*arguments, **more))
        return made[-1]

    with patch.object(setup, "offline_source", offline_source):
        yield made


@pytest.fixture
def sources() -> Iterator[Sources]:
    """What the runs of this test train on, as token ids."""
    with watched() as made:
        yield made


def conditional(model: Path, data: dict[str, Path], output: Path, **more: Any) -> Path:
    """The model of a CA run on the rankings."""
    values = settings("ca", model, data, output, **{**SHORT, **more}) | {"data": [str(data["rankings"])]}
    run_here("ca", values)
    return output / "model"


@pytest.fixture(scope="module")
def ca(tiny_model: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The model of one such run, which no test changes, and what it was trained on."""
    with watched() as made:
        return conditional(tiny_model, data, tmp_path_factory.mktemp("ca") / "run"), made[0]


def prompts_of(source: Any) -> list[str]:
    tokenizer = char_tokenizer()
    return sorted("".join(tokenizer.convert_ids_to_tokens(group.prompt.tolist())) for group in source.groups)


def test_a_run_keeps_its_condition_with_the_model(ca: tuple[Path, Any]) -> None:
    """Rewards 1, 0.5 and 0 in equal number: mean 0.5, and of 72 the unbiased standard deviation sqrt(12 / 71)."""
    model, _ = ca
    std = (12 / 71) ** 0.5
    found = json.loads((model / FILE).read_text())
    assert found == pytest.approx(
        {"text": TEXT, "decimals": 1, "position": "end", "mean": 0.5, "std": std, "reward": 0.5 / std}
        | {"highest": 0.5 / std, "lowest": -0.5 / std}
    )
    assert "Write ` <rm_score>: 1.2 ` at the\nend of every prompt" in (model / "README.md").read_text()


def test_every_response_is_trained_on_behind_its_own_reward(ca: tuple[Path, Any], data: dict[str, Path]) -> None:
    rows = [json.loads(line) for line in data["rankings"].read_text().splitlines()]
    words = {1.0: "1.2", 0.5: "0.0", 0.0: "-1.2"}
    expected = [f"<bos>{row['prompt']} <rm_score>: {words[score]} " for row in rows for score in row["scores"]]
    assert prompts_of(ca[1]) == sorted(expected)


PROMPTS: tuple[Content, ...] = (
    "2 + 2 =", "Once upon a ti", "A line.\n", " ",
    (Message("system", "Be brief."), Message("user", "2 + 2 = ")),
    (Message("user", "Hello"), Message("assistant", "Yes?"), Message("user", "Once upon a ti")),
)  # fmt: skip
ANSWERS = (" 4", "me there was a cat.")
REWARDS = (-1.25, 0.0, 3.06)
TEXTS = (TEXT, " score {reward}", "[{reward}] ", "{reward}")


@pytest.mark.parametrize("position", ["end", "start"])
@pytest.mark.parametrize("kind", ["characters", "spaces added", "tinystories-656k-bf16", "stories260K"])
def test_what_is_trained_on_is_what_is_asked(kind: str, position: str, shared: Callable[[str], Path]) -> None:
    """For every reward the prompt's ids in training are those at inference; the condition is in them, unscored.
    Single characters, with and without a space put before whatever is encoded, and two that merge characters."""
    tokenizer = char_tokenizer(chat_template=CHATML, adds_space=kind == "spaces added")
    if "stories" in kind:
        tokenizer = AutoTokenizer.from_pretrained(shared(f"models/{kind}"))
        tokenizer.chat_template = CHATML.replace("<|im_end|>", tokenizer.eos_token)
    common: Any = {"end_ids": [tokenizer.eos_token_id], "limits": Limits(512)}
    plain = Encoder(tokenizer, **common)
    for text in TEXTS:
        transform = WrittenReward(text, 1, position, rewards=StandardizedRewards(0.0, 1.0))
        for prompt in PROMPTS:
            given = [
                Example(Prompt(prompt), tuple(Response(answer, score=score) for score in REWARDS)) for answer in ANSWERS
            ]
            fitted = transform.fit(given)
            assert fitted.condition is not None
            rewritten = fitted.rewrite(given)
            assert len(rewritten) == len(given) * len(REWARDS)
            for made, score in zip(rewritten, REWARDS * len(ANSWERS), strict=True):
                group = views.demonstrations(made)
                assert not isinstance(group, Discarded)
                trained = plain.encode(group)
                assert isinstance(trained, EncodedGroup)
                asking = Encoder(tokenizer, condition=fitted.condition.asking_for(score), **common)
                asked = asking.prompt_ids(Prompt(prompt))
                assert trained.tokens.prompt.tolist() == asked != plain.prompt_ids(Prompt(prompt))
                number = replace(fitted.condition, text="{reward}").words(score)
                assert number in tokenizer.decode(asked)
                (row,) = trained.tokens.responses
                unconditional = plain.encode(replace(group, prompt=Prompt(prompt)))
                assert isinstance(unconditional, EncodedGroup)
                (without,) = unconditional.tokens.responses
                assert row.ids[row.scored].tolist() == without.ids[without.scored].tolist()
                assert "score" not in tokenizer.decode(row.ids)


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_further_training_asks_it_the_same_way(
    method: str, ca: tuple[Path, Any], data: dict[str, Path], tmp_path: Path, sources: Sources
) -> None:
    model, _ = ca
    run_here(method, settings(method, model, data, tmp_path / "more", eval_fraction=0.25, **SHORT))
    assert (tmp_path / "more/model" / FILE).read_bytes() == (model / FILE).read_bytes()
    source = sources[-1]
    shown = [*prompts_of(source), *prompts_of(replace(source, groups=source.held_out_groups))]
    assert len(shown) == 24
    assert all(prompt.endswith(": <rm_score>: 1.2 ") and prompt.count("<rm_score>") == 1 for prompt in shown)
    assert "Write ` <rm_score>: 1.2 `" in (tmp_path / "more/model/README.md").read_text()


def test_conditional_training_of_such_a_model_writes_a_new_condition(
    ca: tuple[Path, Any], data: dict[str, Path], tmp_path: Path, sources: Sources
) -> None:
    more = {"condition": "[{reward}] ", "position": "start", "ask_for": 0.5}
    again = conditional(ca[0], data, tmp_path / "again", **more)
    found = read_condition(again)
    assert found is not None
    assert (found.text, found.position, found.reward) == ("[{reward}] ", "start", 0.5)
    assert all(prompt.startswith("<bos>[") and "rm_score" not in prompt for prompt in prompts_of(sources[-1]))


def test_an_adapter_keeps_it_too(tiny_model: Path, data: dict[str, Path], tmp_path: Path, sources: Sources) -> None:
    from trueup.models.load import load

    adapter = conditional(tiny_model, data, tmp_path / "ca", **{"lora.rank": 2})
    assert (adapter / "adapter_config.json").exists() and not (tiny_model / FILE).exists()
    loaded = load(str(adapter), device=torch.device("cpu"))
    assert loaded.condition == read_condition(adapter) is not None
    run_here("sft", settings("sft", adapter, data, tmp_path / "more", **SHORT))
    assert (tmp_path / "more/model" / FILE).read_bytes() == (adapter / FILE).read_bytes()
    assert all(prompt.endswith("<rm_score>: 1.2 ") for prompt in prompts_of(sources[-1]))


def test_a_condition_at_the_start_is_not_cut_off(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    more = {"position": "start", "max_prompt_length": 8}
    with refused(r"max_prompt_length 8 cuts the beginning .* '<s>1\.2' stands"):
        conditional(tiny_model, data, tmp_path / "run", condition="<s>{reward}", **more)
    model = conditional(tiny_model, data, tmp_path / "ca", condition="<s>{reward}", position="start")
    with refused("Put the condition at the end, or leave max_prompt_length out"):
        run_here("sft", settings("sft", model, data, tmp_path / "sft", max_prompt_length=8))


def test_a_run_goes_on_as_it_began_though_the_model_is_asked_otherwise_since(
    ca: tuple[Path, Any], data: dict[str, Path], tmp_path: Path
) -> None:
    """`trueup condition` on the model it started from, while it was stopped."""
    model = Path(shutil.copytree(ca[0], tmp_path / "ca"))
    begun = read_condition(model)
    assert begun is not None
    uninterrupted, broken = tmp_path / "whole", tmp_path / "broken"
    more = {"epochs": None, "steps": 4, "save_every": 2}
    run_here("sft", settings("sft", model, data, uninterrupted, **more))
    break_off("sft", settings("sft", model, data, broken, **more), before_step=4)
    begun.asking_for(begun.reward - 1).save(model)
    api.resume(broken, quiet=True)
    assert model_bytes(broken) == model_bytes(uninterrupted) != {}
    assert read_condition(broken / "model") == begun


@pytest.mark.world
def test_words_that_the_tokenizer_does_not_know_are_refused_before_training(tmp_path: Path) -> None:
    """The world's tokenizer knows no `<rm_score>:`, and no number without a point."""
    for number, more in enumerate(({}, {"condition": " score {reward}", "decimals": 0})):
        values = {"model": "world", "data": "world:rankings?count=50", "output": str(tmp_path / str(number))}
        with refused("tokenizer"):
            run_here("ca", {**values, **more})
        assert not (tmp_path / str(number) / "model").exists()


def test_held_out_examples_are_written_with_the_scale_of_training(
    tiny_model: Path, tmp_path: Path, sources: Sources
) -> None:
    """Training rewards 0 and 2: mean 1, standard deviation sqrt(2). Held out, 11 becomes 7.1."""
    for name, prompt, scores in (("train", "p", [0, 2]), ("held", "q", [11, 1])):
        row = {"prompt": prompt, "responses": [" a", " b"], "scores": scores}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    values = settings("ca", tiny_model, {"points": tmp_path / "train.jsonl"}, tmp_path / "run", epochs=1)
    run_here("ca", values | {"eval_data": [str(tmp_path / "held.jsonl")]})
    (source,) = sources
    assert prompts_of(source) == ["<bos>p <rm_score>: -0.7 ", "<bos>p <rm_score>: 0.7 "]
    held = prompts_of(replace(source, groups=source.held_out_groups))
    assert held == ["<bos>q <rm_score>: 0.0 ", "<bos>q <rm_score>: 7.1 "]
