"""Loading: what is refused, in words, and what comes out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import CHATML, EOS, save_tiny_model, token_group

from trueup.batch.stream import build_stream
from trueup.errors import InputError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load

CPU = torch.device("cpu")
STREAM = build_stream([token_group(9, [8, 5], 1)])


def read(path: Path, **options: Any) -> Loaded:
    return load(str(path), device=CPU, **options)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def log_probs(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return CausalModel(network).log_probs(STREAM).token_S


def test_a_whole_model(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = read(tiny_model)
    assert loaded.end_ids == (EOS,)
    assert not loaded.starts_from_adapter
    assert loaded.base_path == str(tiny_model)
    assert loaded.tokenizer.chat_template == CHATML
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.float32}
    stored = load_file(tiny_model / "model.safetensors")
    assert torch.equal(loaded.network.state_dict()["model.norm.weight"], stored["model.norm.weight"])
    assert capfd.readouterr() == ("", "")


def store_in_bfloat16(folder: Path) -> None:
    rewrite(folder, lambda all: all.update({name: value.bfloat16() for name, value in all.items()}))
    edit(folder / "config.json", dtype="bfloat16")


def test_log_probabilities_of_a_bfloat16_checkpoint_are_those_of_float64(folder: Path) -> None:
    """The weights are as coarse as they were stored; nothing after them is."""
    store_in_bfloat16(folder)
    found = log_probs(read(folder).network)
    exact = log_probs(read(folder).network.double())
    assert found.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert (found - exact).abs().max() < 1e-5
    assert (log_probs(read(folder, dtype=torch.bfloat16).network) - exact).abs().max() > 1e-3


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors") -> None:
    """Change the weights in the file."""
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["v_head.summary.weight", "score.weight", "model.rotary_emb.inv_freq"])
def test_a_part_for_other_purposes_is_left_alone(folder: Path, tiny_model: Path, name: str) -> None:
    rewrite(folder, lambda weights: weights.update({name: torch.ones(1, 32)}))
    assert torch.equal(log_probs(read(folder).network), log_probs(read(tiny_model).network))


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_head_that_is_written_out_is_what_was_written(tmp_path: Path, same: bool) -> None:
    folder = save_tiny_model(tmp_path / "tied", tie_word_embeddings=True)
    rewrite(
        folder,
        lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"] + (not same)}),
    )
    network = read(folder).network
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(network.lm_head.weight, stored["lm_head.weight"])
    assert torch.equal(network.model.embed_tokens.weight, stored["model.embed_tokens.weight"])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"])
def test_a_pickle_beside_the_weights_is_never_opened(
    folder: Path, adapter: tuple[Path, torch.Tensor], tmp_path: Path, name: str
) -> None:
    """Unpickled, it makes a file."""
    payload = f"cposix\nsystem\n(S'touch {tmp_path / 'proof'}'\ntR.".encode()
    for place in (folder, adapter[0]):
        (place / name).write_bytes(payload)
        read(place)
    assert not (tmp_path / "proof").exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.json names none, so that the tokenizer's is the only code; and the user is not asked."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (folder / "evil.py").write_text(f"open({str(folder / 'was_here')!r}, 'w')\nclass Evil: pass\n")
    edit(
        folder / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil", None]},
    )
    for path in folder.glob("tokenizer.json"):
        path.unlink()
    with pytest.raises(InputError, match=r"no tokenizer that can be loaded: .") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "was_here").exists()


def half_written(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def code_of_its_own(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'was_here')!r}, 'w')\nclass Evil: pass\n")
    names = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    edit(folder / "config.json", model_type="evil", auto_map=names)


def without(*names: str) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder, lambda weights: [weights.pop(name) for name in names])


def with_weight(name: str, *shape: int) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder, lambda weights: weights.update({name: torch.ones(shape)}))


def without_tokenizer(folder: Path) -> None:
    for path in [*folder.glob("tokenizer*"), *folder.glob("chat_template*")]:
        path.unlink()


UNREADABLE = "not a causal language model that can be loaded: ."
UNKNOWN = "no model's configuration that can be loaded: ."
ATTENTION = [f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "qk"]
BIAS, LAYER = "model.layers.0.self_attn.q_proj.bias", "model.layers.2.mlp.up_proj.weight"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), UNKNOWN),
    "torn configuration": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "lla'), UNKNOWN,
    ),
    "configuration not in UTF-8": (
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{"), UNKNOWN,
    ),
    "unknown kind of model": (
        lambda folder: edit(folder / "config.json", model_type="no-such-model"), UNKNOWN,
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), UNREADABLE),
    "half the weights": (half_written, UNREADABLE),
    "a weight of another shape": (with_weight("model.norm.weight", 31), "the weights have other shapes than config.js"),
    "weights in a pickle": (only_a_pickle, UNREADABLE),
    "code of its own": (code_of_its_own, UNKNOWN),
    "no folder": (shutil.rmtree, UNKNOWN),
    "no tokenizer": (without_tokenizer, "no tokenizer that can be loaded"),
    # A weight that is missing would be made up; one without a place means that another function would be trained.
    "missing weights": (
        without(*ATTENTION),
        r"lack model.layers.0.self_attn.k_proj.weight, .* and 1 more, which would be filled with",
    ),
    "a head that is missing and not tied": (
        without("lm_head.weight"), "the weights lack lm_head.weight, which would be filled with random",
    ),
    "a bias that the configuration denies": (
        with_weight(BIAS, 32), f"the weights hold {BIAS}, for which the model that config.json",
    ),
    "a layer more than it counts": (
        with_weight(LAYER, 64, 32), f"the weights hold {LAYER}, for which the model that config.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES)
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the user is not asked: at a terminal, the library asks whether to run the code it finds."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)
    assert not (folder / "was_here").exists()


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused_and_fewer_are_as_usual(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "small", vocab_size=50)
    with pytest.raises(InputError, match=r"tokenizer knows 103 tokens but the model has embeddings for 50"):
        read(folder)
    assert len(read(save_tiny_model(tmp_path / "padded", vocab_size=128)).tokenizer) == 103


@pytest.mark.parametrize("content", [None, b"\xff\xfe{"])
def test_a_chat_template_that_is_no_text_is_refused(tiny_model: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"--chat-template .*other.jinja: not a text file in UTF-8: ."):
        read(tiny_model, chat_template=str(path))


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """Folder of an adapter that has learned, and the log-probabilities it gives."""
    network = lora.add_lora(
        read(tiny_model).network, rank=4, alpha=8, dropout=0.0, targets="all-linear", base=str(tiny_model)
    )
    with torch.no_grad():
        for name, factor in lora.factors(network, lora.POLICY).items():
            if name.endswith(".B"):
                factor.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    network.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", log_probs(network)


def test_training_goes_on_from_an_adapter(tiny_model: Path, adapter: tuple[Path, torch.Tensor]) -> None:
    path, expected = adapter
    loaded = read(path)
    assert loaded.starts_from_adapter
    assert loaded.base_path == str(tiny_model)
    assert loaded.end_ids == (EOS,)  # the tokenizer is the base model's
    assert torch.equal(log_probs(loaded.network), expected)
    assert not torch.equal(expected, log_probs(read(tiny_model).network))
    trainable = {name for name, value in loaded.network.named_parameters() if value.requires_grad}
    assert trainable
    assert all(".lora_" in name and ".default." in name for name in trainable)


def test_the_base_model_may_be_named_relative_to_the_adapter(adapter: tuple[Path, torch.Tensor], folder: Path) -> None:
    path, expected = adapter
    edit(path / "adapter_config.json", base_model_name_or_path="../model")
    assert folder.samefile(read(path).base_path)
    assert torch.equal(log_probs(read(path).network), expected)


def adapter_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    return lambda path: rewrite(path, change, "adapter_model.safetensors")


def names_base(base: str | None) -> Callable[[Path], object]:
    return lambda path: edit(path / "adapter_config.json", base_model_name_or_path=base)


def configured(content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / "adapter_config.json").write_bytes(content)


ABSENT = "base model is '.*', which is no folder here. Set base_model_name_or_path"
TORN = "adapter_config.json: not a PEFT adapter's configuration"
NOWHERE = "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight"
REFUSED: list[tuple[Callable[[Path], object], str]] = [
    *((names_base(base), ABSENT) for base in ("/no/such/folder", "", None)),
    (names_base("some-owner/some-model"), "base model some-owner/some-model: no such folder, and the hub is"),
    *((configured(content), TORN) for content in (b'{"r": ', b"\xff\xfe", b"[1]", b"7")),
    (lambda path: (path / "adapter_model.safetensors").unlink(), "not an adapter that can be loaded"),
    (adapter_weights(lambda all: all.pop(next(name for name in all if ".lora_B." in name))), "lack"),
    (
        adapter_weights(lambda all: all.update({NOWHERE: torch.ones(4, 32)})),
        f"the adapter holds {NOWHERE}, for which its base model or its own",
    ),
]


@pytest.mark.parametrize("damage, message", REFUSED)
def test_an_adapter_that_is_not_whole_is_refused(
    adapter: tuple[Path, torch.Tensor], damage: Callable[[Path], object], message: str
) -> None:
    damage(adapter[0])
    with pytest.raises(InputError, match=message):
        read(adapter[0])
