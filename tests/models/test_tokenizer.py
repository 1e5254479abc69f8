"""The tokenizer without the weights is the one with them; and what comes with a model and never ends is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support.refusals import refused
from support.small_runs import command, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model, toy_network
from transformers.utils import chat_template_utils

from trueup.batch.chat_template import Template
from trueup.errors import InputError
from trueup.feedback.records import Message
from trueup.models import lora, tokenizer
from trueup.models.load import load
from trueup.models.prepare import load_policy
from trueup.models.tokenizer import CONVERSATION, check_chat_template, check_patterns, load_tokenizer
from trueup.settings.run_settings import LoraSettings

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


GENERATION = {
    "as saved": (lambda folder: None, (2,)),
    "several ends": (lambda folder: edit(folder / "generation_config.json", eos_token_id=[2, 5]), (2, 5)),
    "another end first": (lambda folder: edit(folder / "generation_config.json", eos_token_id=5), (2, 5)),
    "no file": (lambda folder: (folder / "generation_config.json").unlink(), (2,)),
    "no file, several ends of the model": (
        lambda folder: ((folder / "generation_config.json").unlink(),
            edit(folder / "config.json", eos_token_id=[5, 2, 4])),
        (2, 5, 4),
    ),
    "a file without an end": (
        lambda folder: ((folder / "generation_config.json").write_text("{}"),
            edit(folder / "config.json", eos_token_id=5)),
        (2,),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "ends"), GENERATION.values(), ids=GENERATION)
def test_the_same_ends_as_with_weights(change: Callable[[Path], object], ends: tuple[int, ...], folder: Path) -> None:
    change(folder)
    with_weights = load(str(folder), device=CPU)
    (folder / "model.safetensors").unlink()
    without = load_tokenizer(str(folder))
    assert without.end_ids == with_weights.end_ids == ends
    assert without.tokenizer.chat_template == with_weights.tokenizer.chat_template == CHATML
    assert without.tokenizer("a<eos>b").input_ids == with_weights.tokenizer("a<eos>b").input_ids
    config = with_weights.network.config
    assert (without.positions, without.vocabulary) == (config.max_position_embeddings, config.vocab_size)


def test_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    """Its own tokenizer where it has one; the model's limits and ends are those of the base model."""
    network = load(str(tiny_model), device=CPU).network
    adapted = lora.add_lora(
        network, rank=2, alpha=2.0, dropout=0.0, targets="all-linear", base=str(tiny_model.resolve())
    )
    adapted.save_pretrained(tmp_path / "adapter")
    first = load_tokenizer(str(tmp_path / "adapter"))
    assert (first.end_ids, first.positions) == ((2,), 512)
    assert first.tokenizer.chat_template == CHATML
    char_tokenizer(chat_template="{{ messages }}").save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    assert load_tokenizer(str(tmp_path / "adapter")).tokenizer.chat_template == "{{ messages }}"


def test_settings_are_those_of_training(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "model", tokenizer=char_tokenizer(eos=False)))
    with refused(r"no end-of-sequence token.*--eos-token"):
        load_tokenizer(folder)
    loaded = load_tokenizer(folder, eos_token="<|im_end|>")
    assert loaded.end_ids == load(folder, device=CPU, eos_token="<|im_end|>").end_ids
    assert loaded.end_ids[0] == 5
    with refused("'nothing' is not one token"):
        load_tokenizer(folder, eos_token="nothing")
    (tmp_path / "template.jinja").write_text(CHATML + "\u00e9", encoding="utf-8")
    template = str(tmp_path / "template.jinja")
    loaded = load_tokenizer(folder, eos_token="<|im_end|>", chat_template=template)
    assert loaded.tokenizer.chat_template == CHATML + "\u00e9"


FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CATASTROPHIC = r"(([a-z0-9._]+)+)+!"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too short for what never ends, and not tried on what does."""
    check_chat_template.cache_clear()
    check_chat_template(CHATML)
    monkeypatch.setattr(tokenizer, "SECONDS", 0.5)


@pytest.mark.slow
def test_a_template_that_loops_for_ever_is_refused_before_the_model_is_loaded(
    short: None, tmp_path: Path, tiny_model: Path
) -> None:
    template = tmp_path / "loop.jinja"
    template.write_text(FOR_EVER + CHATML)
    with mock.patch("trueup.models.load.read_network") as loaded, pytest.raises(InputError) as caught:
        load(str(tiny_model), device=CPU, chat_template=str(template))
    assert str(caught.value) == (
        "the chat template was stopped after 0.5 seconds, still at work on a conversation of user, assistant, user: it "
        "seems to loop for ever. Mend it, or give another template with --chat-template FILE"
    )
    assert not loaded.called


@pytest.mark.slow
def test_a_pattern_that_never_ends_is_refused_before_the_model_is_loaded(
    short: None, tmp_path: Path, tiny_model: Path
) -> None:
    """Whether it came with an adapter or is the user's own."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_model), "target_modules": CATASTROPHIC}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = LoraSettings(rank=2, targets=CATASTROPHIC)
    with mock.patch("trueup.models.load.read_network") as loaded:
        for path, fresh, where in (
            (folder, None, str(folder / "adapter_config.json")),
            (tiny_model, adapter, f"lora.targets {CATASTROPHIC!r}"),
        ):
            with pytest.raises(InputError) as caught:
                load_policy(str(path), device=CPU, precision="fp32", adapter=fresh)
            assert str(caught.value) == (
                f"{where}: a regular expression was stopped after 0.5 seconds, still at work on the modules of "
                f"{tiny_model}: it is one of {CATASTROPHIC}. Write it without nested repetitions, or list the "
                "modules by name"
            )
    assert not loaded.called


def test_what_ends_is_let_pass_whatever_it_does(tmp_path: Path, tiny_model: Path) -> None:
    recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    for template in (CHATML, recursive, "{% for m in messages %}", "{{ raise_exception('no tools') }}"):
        check_chat_template(template)
    for content in ('{"target_modules": "(unclosed", "rank_pattern": {"[": 2}}', "no JSON", "[]"):
        (tmp_path / "adapter_config.json").write_text(content)
        check_patterns(str(tmp_path), str(tiny_model))
    check_patterns(str(tmp_path / "nowhere"), str(tiny_model))


def test_a_template_is_tried_as_the_library_renders_it() -> None:
    """With all that a template may use; the child's rendering is compared with the library's own."""
    template = (
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{% generation %}{{ m.role }}: "
        "{{ m.content | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') | length }}"
        "{% if tools %}{{ tools[0].function.name }}{% endif %}{{ bos_token }}"
    )
    messages = [dict(turn) for turn in CONVERSATION]
    compiled = chat_template_utils._compile_jinja_template(template)
    expected = compiled.render(messages=messages, tools=None, bos_token="<s>")
    seen = []
    original = tokenizer.json.dumps
    with mock.patch.object(tokenizer.json, "dumps", side_effect=lambda *a, **k: seen.append(a) or original(*a, **k)):
        tokenizer.render(template)
    assert len(seen) == 8  # two turns, four times: all of it was reached
    assert "Paris" in expected


def test_the_process_that_tries_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys, trueup.models.tokenizer as one; one.render('a'); "
        "print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_names_that_patterns_are_tried_on_are_those_of_the_modules(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    names = tokenizer._modules(str(folder))
    wanted = {
        name for name, module in toy_network().named_modules()
        if name and next(module.parameters(), None) is not None
    }  # fmt: skip
    assert names == wanted - {"lm_head"} or names == wanted


def test_a_template_that_fails_while_rendering_is_the_users_to_mend() -> None:
    recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    for template in (recursive, "{% for m in messages %}"):
        with refused(r"refuses a conversation of user, assistant: .*--chat-template FILE"):
            turns = [Message("user", "a"), Message("assistant", "b")]
            Template(char_tokenizer(chat_template=template)).write(turns, (), ask=False)


@pytest.mark.parametrize("wrong", ["content", ["content"], [10**20], -1, 1.5, {"a": 1}])
def test_an_end_that_is_no_token_is_refused(wrong: object, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": wrong}))
    with refused(r"eos_token_id .* is not the number of a token, from 0 to \d+\. Mend the"):
        load_tokenizer(str(tmp_path / "model"))


def test_a_tokenizer_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "RagTokenizer"}))
    with refused("no tokenizer that can be loaded: "):
        load_tokenizer(str(tmp_path / "model"))


def test_what_a_file_spells_does_not_steer_the_terminal(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library's Rust prints the names of options that it does not know."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    file = folder / "tokenizer_config.json"
    token = {"content": "<pad>", "special": True, "\x1b[2J": True}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"added_tokens_decoder": {"0": token}}))
    write_feedback(tmp_path)
    assert command("inspect", tmp_path / "pairs.jsonl", "--model", folder) == 0
    said = "".join(capfd.readouterr())
    assert "<eos>" in said and "\x1b" not in said


def test_a_panic_of_the_library_is_one_line(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Rust part raises what is no `Exception`."""

    class PanicException(BaseException):
        pass

    def panic(*_: Any, **__: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", panic)
    with refused("no tokenizer that can be loaded: index out of bounds"):
        load_tokenizer(str(tiny_model))
