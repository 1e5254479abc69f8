"""A reward model scores as the model library does, through every layout, at the token the library reads. And what
becomes a reward model, what is one already, and what is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import BOS, EOS, HYBRID, PAD, char_tokenizer, token_group
from support.tiny_reward_models import library_scores, save_causal, save_reward
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
)

from trueup.batch.stream import build_stream
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.models import lora
from trueup.models.attention import names
from trueup.models.causal import CausalModel
from trueup.models.load import load
from trueup.models.prepare import load_reward_policy
from trueup.models.reward import RewardModel, at_last_tokens, load_reward, naive_scores
from trueup.models.selfcheck import check_attention
from trueup.settings.run_settings import LoraSettings

CPU = torch.device("cpu")
FAMILIES = ("llama", "gpt2", "qwen2", "qwen3", "gemma2", "mistral", "gpt_neox", "opt")
PROMPTS = {
    "say red 3:": (" red<eos>", " blue blue<eos>", " cut of"),
    "2 + 2 =": (" 4<eos>", " five<eos>", "<eos>"),
}
TEXTS = [prompt + response for prompt, responses in PROMPTS.items() for response in responses]


def groups_of(tokenizer: Any) -> list[TokenGroup[Any]]:
    def ids(text: str, more: bool = False) -> list[int]:
        return list(tokenizer(text, add_special_tokens=more).input_ids)

    return [
        token_group(ids(prompt, True), [ids(response) for response in responses])
        for prompt, responses in PROMPTS.items()
    ]


def scores(folder: Path, layout: str) -> list[float]:
    loaded = load_reward(str(folder), device=CPU)
    model = RewardModel(loaded.network, attention=layout)
    stream = build_stream(groups_of(loaded.tokenizer))
    with torch.no_grad():
        return model.outputs(stream).score_N.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    """One text at a time and padded on the right, ended and cut off, by the folder alone."""
    folder = save_reward(tmp_path / name, name)
    alone, padded = (library_scores(folder, TEXTS, together=together) for together in (False, True))
    assert alone == pytest.approx(padded, abs=1e-4)
    assert len({round(score, 2) for score in alone}) == len(TEXTS)
    for layout in names():
        assert scores(folder, layout) == pytest.approx(alone, abs=1e-4)


def test_a_model_with_a_running_state_is_read_through_a_copied_cache(tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "hybrid", HYBRID)
    expected = library_scores(folder, TEXTS)
    loaded = load_reward(str(folder), device=CPU)
    check = check_attention(RewardModel(loaded.network), groups_of(loaded.tokenizer), None)
    assert check.attention == "forked"
    assert "scores are off by up to" in check.message
    for layout in ("forked", "padded"):
        assert scores(folder, layout) == pytest.approx(expected, abs=1e-4)
    assert scores(folder, "grouped") != pytest.approx(expected, abs=1e-2)


def without_padding() -> Any:
    """As GPT-2's: nothing but the end of sequence could pad."""
    tokenizer = char_tokenizer(pad=False)
    tokenizer.unk_token = None
    return tokenizer


def test_where_the_end_has_to_pad_the_token_before_it_is_read(tmp_path: Path) -> None:
    """As the library does; else a model would be scored differently there."""
    folder = save_reward(tmp_path / "rm", "gpt2", tokenizer=without_padding())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id == EOS
    expected = library_scores(folder, TEXTS)
    assert library_scores(folder, TEXTS, together=True) == pytest.approx(expected, abs=1e-4)
    assert library_scores(folder, ["say red 3: red"]) == pytest.approx(expected[:1], abs=1e-4)
    for layout in names():
        assert scores(folder, layout) == pytest.approx(expected, abs=1e-4)
    found = load_reward(str(folder), device=CPU)
    stream = build_stream(groups_of(found.tokenizer))
    assert naive_scores(CausalModel(found.network), stream).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_token_that_ends_nothing_pads_where_there_is_one(tmp_path: Path) -> None:
    """The tokenizer's own, or that for what is unknown; never the end while there is another."""
    for number, tokenizer in enumerate((char_tokenizer(), char_tokenizer(pad=False), char_tokenizer())):
        if number == 2:
            tokenizer.pad_token = "<eos>"
        folder = save_reward(tmp_path / str(number), tokenizer=tokenizer, pad_token_id=None)
        pad = AutoTokenizer.from_pretrained(folder).pad_token
        assert pad == ("<pad>" if number == 0 else "<unk>")
        ended = library_scores(folder, ["a b<eos>", "a b"])
        assert ended[0] != pytest.approx(ended[1], abs=1e-2)


def test_a_reward_model_of_others_is_read_where_it_was_trained_to_be(tmp_path: Path) -> None:
    """With its end of sequence for padding it reads the token before, whatever its tokenizer has besides."""
    folder = save_reward(tmp_path / "rm")
    config = (folder / "config.json").read_text()
    assert f'"pad_token_id": {PAD}' in config
    (folder / "config.json").write_text(config.replace(f'"pad_token_id": {PAD}', f'"pad_token_id": {EOS}'))
    network: Any = load_reward(str(folder), device=CPU).network
    assert network.config.pad_token_id == EOS
    assert scores(folder, "grouped") == pytest.approx(library_scores(folder, TEXTS), abs=1e-4)
    (folder / "config.json").write_text(config.replace(f'"pad_token_id": {PAD},', ""))
    assert scores(folder, "grouped") == pytest.approx([library_scores(folder, [text])[0] for text in TEXTS], abs=1e-4)


def test_one_of_others_that_knows_no_padding_is_read_at_its_end(tmp_path: Path) -> None:
    """Where the library reads it, which takes such a model one text at a time."""
    folder = save_reward(tmp_path / "rm", "gpt2", tokenizer=without_padding())
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(f'"pad_token_id": {EOS},', ""))
    assert scores(folder, "grouped") == pytest.approx(library_scores(folder, TEXTS), abs=1e-4)
    ended = library_scores(folder, ["a b<eos>", "a b"])
    assert ended[0] != pytest.approx(ended[1], abs=1e-2)


@pytest.mark.parametrize(
    "pad, expected",
    [(PAD, [3, 6, 9]), (None, [3, 6, 9]), (8, [2, 6, 9]), (9, [3, 6, 8]), (7, [3, 5, 9])],
)
def test_the_last_token_that_is_not_padding(pad: int | None, expected: list[int]) -> None:
    stream = build_stream([token_group([BOS, 5], [[6, 8], [9, 6, 7]]), token_group([BOS, 7], [[9]])])
    places = at_last_tokens(stream, pad)
    assert places.source_S.tolist() == expected
    assert places.target_S.tolist() == [stream.token_T[place] for place in expected]
    assert places.length_N.tolist() == [1, 1, 1]


def test_where_all_is_padding_the_first_token_is_read() -> None:
    stream = build_stream([token_group([5, 6], [[6]]), token_group([6], [[6, 6], [6]])])
    assert at_last_tokens(stream, 6).source_S.tolist() == [0, 3, 3]


def test_gradients_are_those_of_the_library(tmp_path: Path) -> None:
    """Of a loss on scores, for every parameter, through the shared prompt and through a plain forward pass."""
    folder = save_reward(tmp_path / "rm")
    made = []
    for plain in (False, True):
        loaded = load_reward(str(folder), device=CPU)
        model = RewardModel(loaded.network)
        stream = build_stream(groups_of(loaded.tokenizer))
        score_N = naive_scores(model, stream) if plain else model.outputs(stream).score_N
        (score_N * torch.arange(1.0, 1 + len(score_N))).sum().backward()
        made.append({name: value.grad for name, value in loaded.network.named_parameters()})
    assert made[0].keys() == made[1].keys()
    for name, gradient in made[0].items():
        expected = made[1][name]
        assert gradient is not None and expected is not None, name
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-4), name


def test_the_head_computes_in_float32(tmp_path: Path) -> None:
    """What a body in bfloat16 gives is scored exactly: one unit in the score is not rounded to the next of 8 bits."""
    folder = save_causal(tmp_path / "m")
    model, _ = load_reward_policy(str(folder), device=CPU, precision="bf16", adapter=None, seed=0)
    stream = build_stream(groups_of(char_tokenizer()))
    hidden_NH = model.hidden(at_last_tokens(stream, PAD))
    score_N = model.outputs(stream).score_N
    assert score_N.dtype == torch.float32
    head: torch.Tensor = model.inner.score.weight
    assert head.dtype == torch.float32
    exact_N = hidden_NH.double() @ head.double()[0]
    assert torch.allclose(score_N.double(), exact_N, atol=1e-5)
    assert not torch.allclose(score_N.bfloat16().double(), exact_N, atol=1e-5)


def test_an_adapter_trains_the_head_whole(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "m")
    adapter = LoraSettings(rank=2, alpha=4.0, dropout=0.0, targets="all-linear")
    plain, _ = load_reward_policy(str(folder), device=CPU, precision="fp32", adapter=None, seed=3)
    model, loaded = load_reward_policy(str(folder), device=CPU, precision="fp32", adapter=adapter, seed=3)
    stream = build_stream(groups_of(loaded.tokenizer))
    assert torch.equal(model.outputs(stream).score_N, plain.outputs(stream).score_N)
    names = model.trainable()
    heads = [name for name in names if "score" in name]
    assert len(heads) == 1 and names[heads[0]].shape == (1, 32)
    assert all("lora_" in name for name in names if name not in heads)


def loaded(path: Path, seed: int | None = 0, **options: Any) -> Any:
    return load_reward(str(path), device=CPU, seed=seed, **options)


@pytest.mark.parametrize("tied", [False, True])
def test_the_body_is_the_language_model_s_and_the_head_is_drawn_from_the_seed(tied: bool, tmp_path: Path) -> None:
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


def several_classes(folder: Path) -> None:
    save_causal(folder)
    LlamaForSequenceClassification(AutoConfig.from_pretrained(folder, num_labels=3)).save_pretrained(folder)


def encoder(folder: Path) -> None:
    config = BertConfig(
        vocab_size=103, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    char_tokenizer().save_pretrained(folder)


def without(save: Callable[[Path], Path], lost: str) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        save(folder)
        weights = load_file(folder / "model.safetensors")
        del weights[lost]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return made


def more_layers_than_config_says(folder: Path) -> None:
    save_reward(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))


def adapter_of_a_language_model(folder: Path) -> None:
    base = save_causal(folder.parent / "base")
    network = load(str(base), device=CPU).network
    network = lora.add_lora(network, rank=2, alpha=4, dropout=0.0, targets="all-linear", base=str(base))
    network.save_pretrained(str(folder))


UP = "model.layers.{}.mlp.up_proj.weight"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a family without a classifier": (lambda folder: save_causal(folder, "cohere"), "no class for sequence"),
    "several classes": (several_classes, "a classifier of 3 classes"),
    "an encoder": (encoder, "no linear head 'score'"),
    "no head": (without(save_reward, "score.weight"), "lack score.weight"),
    "less of the body": (without(save_reward, UP.format(1)), f"lack {UP.format(1)}"),
    # Of a language model only the head may be new.
    "less of the language model": (without(save_causal, UP.format(0)), f"lack {UP.format(0)}, which"),
    "more layers than it counts": (more_layers_than_config_says, "has no place"),
    "an adapter of a language model": (adapter_of_a_language_model, "an adapter of a causal language model"),
    "no model at all": (Path.mkdir, ""),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_reward_model_is_refused(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    make(tmp_path / "m")
    assert reason in refused(tmp_path / "m")
