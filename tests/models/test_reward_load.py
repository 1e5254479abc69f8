"""What becomes a reward model, what is one already, and what is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_reward_models import save_causal, save_reward

from trueup.errors import InputError
from trueup.models.load import load
from trueup.models.reward_load import load_reward

CPU = torch.device("cpu")


def loaded(path: Path, seed: int | None = 0, **options: Any) -> Any:
    return load_reward(str(path), device=CPU, seed=seed, **options)


@pytest.mark.parametrize("tied", [False, True])
def test_the_body_is_the_language_model_s_and_the_head_is_drawn_from_the_seed(
    tied: bool, tmp_path: Path
) -> None:
    folder = save_causal(tmp_path / "m", tie_word_embeddings=tied, hidden_size=256)
    causal: Any = load(str(folder), device=CPU).network
    torch.manual_seed(1)
    first = loaded(folder, 7).network
    torch.manual_seed(2)  # the library's own draws are not what counts
    again, other = loaded(folder, 7).network, loaded(folder, 8).network
    body = dict(first.base_model.named_parameters())
    assert body.keys() == dict(causal.base_model.named_parameters()).keys()
    assert all(torch.equal(body[name], value) for name, value in causal.base_model.named_parameters())
    assert torch.equal(first.score.weight, again.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)
    assert first.score.weight.std().item() == pytest.approx(257**-0.5, rel=0.15)
    config = first.config
    assert (config.num_labels, config.problem_type) == (1, "regression")


def test_a_reward_model_is_read_as_it_is(tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "rm")
    weights = load_file(folder / "model.safetensors")
    for seed in (None, 3):
        network = loaded(folder, seed).network
        assert torch.equal(network.score.weight, weights["score.weight"])


def test_the_head_stays_in_float32_where_the_body_does_not(tmp_path: Path) -> None:
    network = loaded(save_reward(tmp_path / "rm"), dtype=torch.bfloat16).network
    assert network.score.weight.dtype == torch.float32
    assert network.model.embed_tokens.weight.dtype == torch.bfloat16


def test_every_end_of_a_response_is_still_known(tmp_path: Path) -> None:
    """Chat models stop at several tokens, and a classifier keeps no generation settings."""
    causal = save_causal(tmp_path / "m")
    settings = json.loads((causal / "generation_config.json").read_text())
    (causal / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, 5]}))
    made = loaded(causal)
    assert made.end_ids == (2, 5)
    made.network.save_pretrained(tmp_path / "rm")
    made.tokenizer.save_pretrained(tmp_path / "rm")
    assert loaded(tmp_path / "rm").end_ids == (2, 5)


def test_a_condition_is_none_of_its_business(tmp_path: Path) -> None:
    from trueup.feedback.condition import Condition

    folder = save_causal(tmp_path / "m")
    Condition(" <rm_score>: {reward} ", 1, "end", reward=2.3).save(folder)
    assert load(str(folder), device=CPU).condition is not None
    assert loaded(folder).condition is None


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        loaded(path, **options)
    text = str(raised.value)
    assert "\n" not in text and str(path) in text
    return text


def test_a_causal_language_model_is_no_annotator(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "m")
    said = refused(folder, seed=None)
    assert f"likelihood:{folder}" in said and "reward-model" in said


def test_a_reward_model_is_no_policy(tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "rm", tie_word_embeddings=True)
    with pytest.raises(InputError, match="such as a reward model, not a causal language model"):
        load(str(folder), device=CPU)


@pytest.mark.parametrize("name", ["cohere", "granite"])
def test_a_family_without_a_classifier(name: str, tmp_path: Path) -> None:
    said = refused(save_causal(tmp_path / "m", name))
    assert "no class for sequence classification" in said


def test_a_classifier_of_several_classes(tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForSequenceClassification

    folder = save_causal(tmp_path / "m")
    LlamaForSequenceClassification(AutoConfig.from_pretrained(folder, num_labels=3)).save_pretrained(folder)
    assert "a classifier of 3 classes" in refused(folder)


def test_an_encoder(tmp_path: Path) -> None:
    from support.tiny_models import char_tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=103,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "m")
    char_tokenizer().save_pretrained(tmp_path / "m")
    assert "no linear head 'score'" in refused(tmp_path / "m")


@pytest.mark.parametrize("lost", ["score.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_that_are_missing(lost: str, tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "rm")
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert f"lack {lost}" in refused(folder)


def test_a_body_that_is_incomplete(tmp_path: Path) -> None:
    """Of a language model only the head may be new."""
    folder = save_causal(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lack model.layers.0.mlp.up_proj.weight, which" in refused(folder)


def test_more_layers_than_config_says(tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "rm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert "has no place" in refused(folder)


def test_an_adapter_of_a_language_model(tmp_path: Path) -> None:
    from trueup.models import lora

    base = save_causal(tmp_path / "m")
    network = lora.add_lora(
        load(str(base), device=CPU).network,
        rank=2,
        alpha=4,
        dropout=0.0,
        targets="all-linear",
        base=str(base),
    )
    network.save_pretrained(str(tmp_path / "adapter"))
    said = refused(tmp_path / "adapter")
    assert "an adapter of a causal language model" in said


def test_no_model_at_all(tmp_path: Path) -> None:
    refused(tmp_path)
