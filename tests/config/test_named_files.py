"""The model, the feedback and the output folder are looked at before torch is imported."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from trueup.config.run_checks import check_inputs
from trueup.errors import InputError
from trueup.model_folder import check_model
from trueup.settings.run_settings import RunSettings


def check(model: Path | str, *, trusted: bool = False) -> None:
    check_model(str(model), trust_remote_code=trusted)


def refuses(message: str, model: Path | str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        check(model)
    assert "\n" not in str(refusal.value)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


class TestModel:
    def test_a_whole_folder(self, model: Path) -> None:
        check(model)

    def test_real_ones(self, shared: Any) -> None:
        check(shared("models/stories260K"))
        check(shared("models/tinystories-656k-bf16"))

    def test_a_hub_id_with_a_point(self) -> None:
        refuses(r"hf download Qwen/Qwen2.5-0.5B --local-dir Qwen2.5-0.5B, then", "Qwen/Qwen2.5-0.5B")

    def test_a_hub_id(self) -> None:
        refuses(
            r"^model org/some-7b is not a folder; if it is a hub id, download it first: "
            r"hf download org/some-7b --local-dir some-7b, then give some-7b$",
            "org/some-7b",
        )

    @pytest.mark.parametrize("name", ["../models/none", "none", "/none", "./a/b", "wrold"])
    def test_no_folder(self, name: str) -> None:
        refuses(r"is not a folder; give a folder in Hugging Face format, or world$", name)

    def test_a_file(self, model: Path) -> None:
        refuses(r"config.json is a file; give the folder it lies in$", model / "config.json")

    def test_no_model_s_folder(self, tmp_path: Path) -> None:
        refuses(r"has neither config.json nor adapter_config.json, so it is no model's folder$", tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": '])
    def test_half_a_config(self, model: Path, text: str) -> None:
        (model / "config.json").write_text(text)
        refuses(r"config.json (is not whole JSON .*; copy it again|must hold a JSON object; found)", model)

    def test_no_weights(self, model: Path) -> None:
        (model / "model.safetensors").unlink()
        refuses(r"has no weights: model.safetensors is missing$", model)

    def test_a_pickle(self, model: Path) -> None:
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
        refuses(
            r"has its weights in pytorch_model.bin alone, a pickle, which can run code when it is read; if",
            model,
        )

    def test_no_tokenizer(self, model: Path) -> None:
        (model / "tokenizer.json").unlink()
        refuses(r"has no tokenizer \(tokenizer.json, tokenizer.model, .*\); copy it there$", model)

    def test_code_in_the_folder(self, model: Path) -> None:
        config = {"model_type": "made_up", "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
        write_json(model / "config.json", config)
        refuses(
            r"names Python code to run \(auto_map\), and trust_remote_code is off; read the code, then give",
            model,
        )
        check(model, trusted=True)

    @pytest.mark.parametrize("kind", [None, "../llama", "made-up", 3])
    def test_code_beside_no_known_architecture(self, model: Path, kind: object) -> None:
        write_json(model / "config.json", {"model_type": kind, "auto_map": {}})
        refuses("names Python code", model)

    def test_code_that_is_not_run_as_the_architecture_is_known(self, model: Path) -> None:
        write_json(
            model / "config.json", {"model_type": "phi3", "auto_map": {"AutoConfig": "configuration.Phi3"}}
        )
        check(model)


class TestWeights:
    @pytest.mark.parametrize("cut", [0, 4, 8, 30, -1])
    def test_a_file_cut_short(self, model: Path, cut: int) -> None:
        path = model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:cut])
        refuses(r"model.safetensors is cut short.*; copy it again$", model)

    def test_a_file_with_more_than_it_says(self, model: Path) -> None:
        with (model / "model.safetensors").open("ab") as file:
            file.write(b"more")
        refuses(r"is too long: \d+ bytes of \d+; copy it again$", model)

    @pytest.mark.parametrize(
        "header", [b"not json", b"[]", b'{"a": 1}', b'{"a": {"data_offsets": "x"}}', b"\xff\xfe"]
    )
    def test_a_damaged_header(self, model: Path, header: bytes) -> None:
        (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        refuses(r"has a damaged header; copy it again$", model)

    def test_shards(self, model: Path, weights: bytes) -> None:
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        (model / "model.safetensors").rename(model / names[0])
        write_json(model / "model.safetensors.index.json", {"weight_map": {"a": names[0], "b": names[1]}})
        refuses(
            r"lacks model-00002-of-00002.safetensors, named in model.safetensors.index.json; copy it again$",
            model,
        )
        (model / names[1]).write_bytes(weights)
        check(model)
        (model / names[1]).write_bytes(weights[:-1])
        refuses(r"model-00002-of-00002.safetensors is cut short", model)

    @pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/model.safetensors", "a/b"])
    def test_a_shard_elsewhere(self, model: Path, shard: str) -> None:
        write_json(model / "model.safetensors.index.json", {"weight_map": {"a": shard}})
        refuses(
            rf"index.json names {shard}, which is no file in its own folder; copy the model again$", model
        )

    @pytest.mark.parametrize("index", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}])
    def test_an_index_of_nothing(self, model: Path, index: object) -> None:
        write_json(model / "model.safetensors.index.json", index)
        refuses(r"index.json has no weight_map from names to files; copy it again$", model)


class TestAdapter:
    @pytest.fixture
    def adapter(self, tmp_path: Path, model: Path, weights: bytes) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir()
        write_json(folder / "adapter_config.json", {"base_model_name_or_path": str(model)})
        (folder / "adapter_model.safetensors").write_bytes(weights)
        return folder

    def test_a_whole_one(self, adapter: Path) -> None:
        check(adapter)
        write_json(adapter / "adapter_config.json", {"base_model_name_or_path": "../model"})
        check(adapter)

    @pytest.mark.parametrize("base", [None, "", "org/base", 3])
    def test_its_base_is_not_here(self, adapter: Path, base: object) -> None:
        write_json(adapter / "adapter_config.json", {"base_model_name_or_path": base})
        refuses(
            r"the adapter's base model is '.*', which is no folder here. Set base_model_name",
            adapter,
        )

    def test_its_base_is_half_written(self, adapter: Path, model: Path) -> None:
        (model / "model.safetensors").write_bytes(b"")
        refuses(r"model.safetensors is cut short", adapter)

    def test_no_weights(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
        refuses(r"has its weights in adapter_model.bin alone, a pickle", adapter)


class TestRun:
    @pytest.fixture
    def given(self, tmp_path: Path) -> dict[str, Any]:
        data = tmp_path / "pairs.jsonl"
        data.write_text("{}\n")
        return {"model": "world", "data": ["world:pairs", str(data)], "output": str(tmp_path / "runs" / "x")}

    def check(self, given: dict[str, Any], **changed: Any) -> None:
        check_inputs(RunSettings(**{**given, **changed}))

    def test_nothing_is_made(self, given: dict[str, Any]) -> None:
        self.check(given)
        assert not Path(given["output"]).parent.exists()

    @pytest.mark.parametrize("key", ["data", "eval_data"])
    def test_feedback_that_is_not_there(self, given: dict[str, Any], key: str, tmp_path: Path) -> None:
        with pytest.raises(
            InputError,
            match=r"none.jsonl: no such file; give a file with feedback, hub:OWNER/NAME, or world:pairs",
        ):
            self.check(given, **{key: [str(tmp_path / "none.jsonl")]})
        with pytest.raises(InputError, match=r"is a folder; name a file in it: pairs.jsonl$"):
            self.check(given, **{key: [str(tmp_path)]})

    def test_a_data_set_of_the_hub(self, given: dict[str, Any]) -> None:
        """The hub is asked when the data set is read; what can be told from the name alone is told here."""
        self.check(given, data=["trl-lib/pairs", "hub:trl-lib/pairs?split=test"])
        with pytest.raises(
            InputError, match=r"^'trl-lib/pairs\?spilt=test': unknown key 'spilt'; did you mean"
        ):
            self.check(given, data="trl-lib/pairs?spilt=test")

    @pytest.mark.parametrize("key", ["data", "eval_data"])
    def test_a_package_that_is_not_there(
        self, given: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(
            InputError, match=r"^trl-lib/pairs: .*package datasets.*; pip install 'trueup\[data\]'$"
        ):
            self.check(given, **{key: ["trl-lib/pairs"]})

    def test_a_data_set_in_a_folder(self, given: dict[str, Any], tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        for part in ("train", "test"):
            (folder / part).mkdir(parents=True)
            for name in ("state.json", "dataset_info.json"):
                (folder / part / name).touch()
        self.check(given, data=str(folder / "train"))
        (folder / "dataset_dict.json").touch()
        with pytest.raises(
            InputError, match=r"saved: this folder holds the splits test, train; name one of them, as"
        ):
            self.check(given, data=str(folder))

    def test_a_file_in_a_folder_is_no_hub_id(
        self, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(
            InputError, match=r"^data/pairs.jsonl: no such file; the folder data does not exist; give"
        ):
            self.check(given, data="data/pairs.jsonl")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "paris").touch()
        with pytest.raises(
            InputError, match=r"^data/pairs: no such file; did you mean data/paris\?; give a file"
        ):
            self.check(given, data="data/pairs")

    def test_a_template_that_is_not_there(self, given: dict[str, Any]) -> None:
        with pytest.raises(
            InputError, match=r"^none.jinja: no such file; give a file with a Jinja chat template$"
        ):
            self.check(given, chat_template="none.jinja")

    def test_a_folder_with_a_run(self, given: dict[str, Any]) -> None:
        folder = Path(given["output"])
        folder.mkdir(parents=True)
        self.check(given)
        (folder / "run.yaml").write_text("")
        with pytest.raises(
            InputError, match=r"x holds a run already: go on with it by --resume \S+x, or give another"
        ):
            self.check(given)

    def test_a_file_in_the_way(self, given: dict[str, Any]) -> None:
        for output in (given["data"][1], given["data"][1] + "/x/y"):
            with pytest.raises(InputError, match=r"pairs.jsonl is a file, not a folder$"):
                self.check(given, output=output)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_of_somebody_else(self, given: dict[str, Any], tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match=r"cannot be written by this user$"):
            self.check(given)
