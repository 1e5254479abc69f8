"""The tokenizer without the weights is the one with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.errors import InputError
from trueup.models import lora
from trueup.models.load import load
from trueup.models.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


GENERATION = {
    "as saved": lambda folder: None,
    "several ends": lambda folder: edit(folder / "generation_config.json", eos_token_id=[2, 5]),
    "another end first": lambda folder: edit(folder / "generation_config.json", eos_token_id=5),
    "no file": lambda folder: (folder / "generation_config.json").unlink(),
    "no file, several ends of the model": lambda folder: (
        (folder / "generation_config.json").unlink(),
        edit(folder / "config.json", eos_token_id=[5, 2, 4]),
    ),
    "a file without an end": lambda folder: (
        (folder / "generation_config.json").write_text("{}"),
        edit(folder / "config.json", eos_token_id=5),
    ),
}


@pytest.mark.parametrize("name", GENERATION)
def test_the_same_ends_as_with_weights(name: str, folder: Path) -> None:
    GENERATION[name](folder)
    with_weights = load(str(folder), device=CPU)
    (folder / "model.safetensors").unlink()
    without = load_tokenizer(str(folder))
    assert without.end_ids == with_weights.end_ids
    assert without.tokenizer.chat_template == with_weights.tokenizer.chat_template == CHATML
    assert without.tokenizer("a<eos>b").input_ids == with_weights.tokenizer("a<eos>b").input_ids
    config = with_weights.network.config
    assert (without.positions, without.vocabulary) == (config.max_position_embeddings, config.vocab_size)


@pytest.mark.parametrize("model", ["stories260K", "tinystories-656k-bf16"])
def test_real_models(model: str, shared: Callable[[str], Path]) -> None:
    path = str(shared(f"models/{model}"))
    with_weights, without = load(path, device=CPU), load_tokenizer(path)
    assert without.end_ids == with_weights.end_ids
    assert without.positions == 512


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
    with pytest.raises(InputError, match=r"no end-of-sequence token.*--eos-token"):
        load_tokenizer(folder)
    loaded = load_tokenizer(folder, eos_token="<|im_end|>")
    assert loaded.end_ids == load(folder, device=CPU, eos_token="<|im_end|>").end_ids
    assert loaded.end_ids[0] == 5
    with pytest.raises(InputError, match="'nothing' is not one token"):
        load_tokenizer(folder, eos_token="nothing")
    (tmp_path / "template.jinja").write_text(CHATML)
    template = str(tmp_path / "template.jinja")
    assert (
        load_tokenizer(folder, eos_token="<|im_end|>", chat_template=template).tokenizer.chat_template
        == CHATML
    )


def test_no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="no model's configuration that can be loaded"):
        load_tokenizer(str(folder))
