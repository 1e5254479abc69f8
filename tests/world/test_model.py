"""The model is made, cached and loaded; the same seed gives the same bytes."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from support.refusals import refused
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from trueup import display
from trueup.world import model as world_model
from trueup.world.model import make_world_model, padded, train_world_model, world_model_path

STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world_model(tmp_path_factory.mktemp("world"), steps=STEPS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_loads_as_any_hugging_face_model(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, LlamaForCausalLM)
    assert sum(weight.numel() for weight in model.parameters()) < 200_000
    assert model.dtype == torch.float32
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    logits = model(torch.tensor([tokenizer.encode("list two fruits .")])).logits
    assert logits.shape == (1, 4, len(tokenizer))
    trained = train_world_model(steps=STEPS)[0].state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_files_whatever_torch_is_set_to(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    again = make_world_model(tmp_path / "again", steps=STEPS)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)
    assert contents(again) == contents(folder)
    other = make_world_model(tmp_path / "other", seed=1, steps=STEPS)
    assert contents(other)["model.safetensors"] != contents(folder)["model.safetensors"]


def test_progress_is_shown_and_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    @contextmanager
    def bar(label: str, total: int | None) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
        assert (label, total) == ("making the world's model", 40)
        yield lambda done, values: seen.append((done, values["loss"]))

    monkeypatch.setattr(display, "bar", bar)
    train_world_model(steps=40)
    assert [step for step, _ in seen] == list(range(1, 41))
    assert seen[-1][1] < seen[0][1] - 1


def test_batches_are_padded_right() -> None:
    token_ids, response = padded([([5, 6], [7, 2]), ([5], [2])])
    assert token_ids.tolist() == [[5, 6, 7, 2], [5, 2, 0, 0]]
    assert response.tolist() == [[False, False, True, True], [False, True, False, False]]


def test_the_cache_makes_once_and_again_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    made = world_model_path(steps=3)
    assert made.parent == tmp_path / "cache" and made.name.startswith("world-0-")
    whole, stamp = contents(made), (made / "model.safetensors").stat().st_mtime_ns
    assert world_model_path(steps=3) == made != world_model_path(1, steps=3)
    assert (made / "model.safetensors").stat().st_mtime_ns == stamp
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        changed = bytearray(whole[name])
        changed[-2] ^= 1
        (made / name).write_bytes(changed)
        with display.collected(world_model.logger) as warnings:
            assert contents(world_model_path(steps=3)) == whole
        assert len(warnings) == 1 and "the model in the cache is damaged; it is made again" in warnings[0]


def test_of_two_at_once_the_second_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    train, begun = world_model.train_world_model, Barrier(2)
    trained: list[object] = []

    def training(**given: Any) -> Any:
        trained.append(train(**given))
        return trained[-1]

    def make(number: int) -> Path:
        begun.wait(120)
        return world_model_path(steps=2)

    monkeypatch.setattr(world_model, "train_world_model", training)
    with ThreadPoolExecutor(2) as pool:
        made, same = pool.map(make, range(2))
    assert made == same and len(trained) == 1
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(contents(made))


def test_nothing_is_left_when_making_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world_model, "_save", full)
    with refused(r"No space left on device; set TRUEUP_CACHE to a folder"):
        world_model_path(steps=1)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "file" / "cache"))
    with refused(r"to the cache folder .*file/cache.*set TRUEUP_CACHE"):
        world_model_path(steps=1)
    with refused(r"cannot write the world model to .*file/model"):
        make_world_model(tmp_path / "file" / "model", steps=1)
