"""Models, files, annotators and folders that settings name are looked at before torch is imported."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.run_checks import check_inputs
from trueup.model_folder import check_model
from trueup.settings.annotator_kinds import (
    EndpointAnnotator,
    FunctionAnnotator,
    LikelihoodAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)
from trueup.settings.annotator_settings import AnnotatorChoice
from trueup.settings.run_settings import RunSettings


def check_folder(model: Path | str, *, trusted: bool = False) -> None:
    check_model(str(model), trust_remote_code=trusted)


def model_refused(message: str, model: Path | str) -> None:
    with refused(message):
        check_folder(model)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def shards(*names: object) -> list[bytes]:
    return [json.dumps({"weight_map": {"a": name}}).encode() for name in names]


NOWHERE = ("../models/none", "none", "/none", "./a/b", "wrold")
INDEX = "model.safetensors.index.json"
HEADERS = (b"not json", b"[]", b'{"a": 1}', b'{"a": {"data_offsets": "x"}}', b"\xff\xfe")
CODE = [json.dumps({"model_type": kind, "auto_map": {}}).encode() for kind in (None, "../llama", "made-up", 3)]
SIZES = [json.dumps({name: 10**12}).encode() for name in ("num_hidden_layers", "vocab_size", "n_embd", "num_experts")]
DAMAGE: list[tuple[str, Sequence[bytes | None], str]] = [
    ("config.json", (b"", b"{", b'{"a": '), r"config.json is not whole JSON .*; copy it again"),
    ("config.json", [b"[1]"], "config.json must hold a JSON object; found"),
    ("config.json", CODE, "names Python code"),
    ("config.json", [b'{"_attn_implementation": "org/kernel"}'], "names the attention 'org/kernel', which would be d"),
    ("config.json", SIZES, "is 1,000,000,000,000, and the weights beside it are 1 tensors, no wider than"),
    ("config.json", [b'{"n_positions": 1}', b'{"max_position_embeddings": -5}'], "that the model could read nothing"),
    ("model.safetensors", [None], r"has no weights: model.safetensors is missing$"),
    ("model.safetensors", [len(one).to_bytes(8, "little") + one for one in HEADERS], "has a damaged header; copy it a"),
    ("tokenizer.json", [None], r"has no tokenizer \(tokenizer.json, tokenizer.model, .*\); copy it there$"),
    (INDEX, shards("../other/model.safetensors", "/etc/model.safetensors", "a/b"), "is no file in its folder"),
    (INDEX, [b"{}", b'{"weight_map": ["a"]}', *shards(1)], "index.json has no weight_map from names to files; copy"),
]  # fmt: skip
"""A file of a model's folder, what may stand in it (None: it is gone), and what is said."""


def check(given: dict[str, Any], **changed: Any) -> None:
    check_inputs(RunSettings(**{**given, **changed}))


def refuses(given: dict[str, Any], message: str, **changed: Any) -> None:
    with refused(message):
        check(given, **changed)


class TestModel:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "org/some-7b",
                r"^org/some-7b: no such folder, and the hub is switched off \(HF_HUB_OFFLINE\), and the cache holds no "
                r"copy of this model that can be read; switch the hub on once, or download the files and name them$",
            ),
            *[(name, "is not a folder; give a folder in Hugging Face format, or world$") for name in NOWHERE],
            (__file__, r"test_run_checks.py is a file; give the folder it lies in$"),
            (str(Path(__file__).parent),
             "has neither config.json nor adapter_config.json, so it is no model's folder$"),
        ],
    )  # fmt: skip
    def test_what_is_no_model_s_folder(self, name: str, message: str) -> None:
        model_refused(message, name)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [(name, content, message) for name, contents, message in DAMAGE for content in contents],
    )
    def test_a_file_that_is_damaged_or_gone(self, name: str, content: bytes | None, message: str, model: Path) -> None:
        if content is None:
            (model / name).unlink()
        else:
            (model / name).write_bytes(content)
        model_refused(message, model)

    def test_a_pickle(self, model: Path) -> None:
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
        model_refused(
            r"has its weights in pytorch_model.bin alone, a pickle, which can run code when it is read; if", model
        )

    def test_code_in_the_folder(self, model: Path) -> None:
        """It is refused unless it is trusted, or would not be run as the architecture is known."""
        config = {"model_type": "made_up", "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
        write_json(model / "config.json", config)
        model_refused(
            r"names Python code to run \(auto_map\), and trust_remote_code is off; read the code, then give", model
        )
        check_folder(model, trusted=True)
        write_json(model / "config.json", {"model_type": "phi3", "auto_map": {"AutoConfig": "configuration.Phi3"}})
        check_folder(model)

    @pytest.mark.parametrize("cut", [0, 4, 8, 30, -1])
    def test_weights_cut_short(self, model: Path, cut: int) -> None:
        path = model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:cut])
        model_refused(r"model.safetensors is cut short.*; copy it again$", model)

    def test_weights_with_more_than_they_say(self, model: Path) -> None:
        with (model / "model.safetensors").open("ab") as file:
            file.write(b"more")
        model_refused(r"is too long: \d+ bytes of \d+; copy it again$", model)

    def test_shards(self, model: Path, weights: bytes) -> None:
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        (model / "model.safetensors").rename(model / names[0])
        write_json(model / "model.safetensors.index.json", {"weight_map": {"a": names[0], "b": names[1]}})
        model_refused(
            r"lacks model-00002-of-00002.safetensors, named in model.safetensors.index.json; copy it again$", model
        )
        (model / names[1]).write_bytes(weights)
        check_folder(model)
        (model / names[1]).write_bytes(weights[:-1])
        model_refused(r"model-00002-of-00002.safetensors is cut short", model)


class TestAdapter:
    @pytest.fixture
    def adapter(self, tmp_path: Path, model: Path, weights: bytes) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir()
        write_json(folder / "adapter_config.json", {"base_model_name_or_path": str(model)})
        (folder / "adapter_model.safetensors").write_bytes(weights)
        return folder

    def test_a_whole_one(self, adapter: Path) -> None:
        check_folder(adapter)
        write_json(adapter / "adapter_config.json", {"base_model_name_or_path": "../model"})
        check_folder(adapter)

    @pytest.mark.parametrize("base", [None, "", "org/base", 3])
    def test_its_base_is_not_here(self, adapter: Path, base: object) -> None:
        write_json(adapter / "adapter_config.json", {"base_model_name_or_path": base})
        message = r"the adapter's base model is '.*', which is no folder here. Set base_model_name"
        if base == "org/base":
            message = r"adapter_config.json: the adapter's base model org/base: no such folder, and the hub is switched"
        model_refused(message, adapter)

    def test_its_base_is_half_written(self, adapter: Path, model: Path) -> None:
        (model / "model.safetensors").write_bytes(b"")
        model_refused(r"model.safetensors is cut short", adapter)

    def test_no_weights(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
        model_refused(r"has its weights in adapter_model.bin alone, a pickle", adapter)


class TestOffline:
    @pytest.fixture
    def given(self, tmp_path: Path) -> dict[str, Any]:
        data = tmp_path / "pairs.jsonl"
        data.write_text("{}\n")
        return {"model": "world", "data": ["world:pairs", str(data)], "output": str(tmp_path / "runs" / "x")}

    def test_nothing_is_made(self, given: dict[str, Any]) -> None:
        check(given)
        assert not Path(given["output"]).parent.exists()

    @pytest.mark.parametrize("key", ["data", "eval_data"])
    def test_feedback_that_is_not_there(self, given: dict[str, Any], key: str, tmp_path: Path) -> None:
        with refused(r"none.jsonl: no such file; give a file with feedback, hub:OWNER/NAME, or world:pairs"):
            check(given, **{key: [str(tmp_path / "none.jsonl")]})
        refuses(given, r"is a folder; name a file in it: pairs.jsonl$", **{key: [str(tmp_path)]})

    def test_a_data_set_of_the_hub(self, given: dict[str, Any]) -> None:
        """The hub is asked when the data set is read; what can be told from the name alone is told here."""
        check(given, data=["trl-lib/pairs", "hub:trl-lib/pairs?split=test"])
        with refused(r"^'trl-lib/pairs\?spilt=test': unknown key 'spilt'; did you mean"):
            check(given, data="trl-lib/pairs?spilt=test")

    @pytest.mark.parametrize("key", ["data", "eval_data"])
    def test_a_package_that_is_not_there(
        self, given: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with refused(r"^trl-lib/pairs: .*package datasets.*; pip install 'trueup\[data\]'$"):
            check(given, **{key: ["trl-lib/pairs"]})

    def test_a_data_set_in_a_folder(self, given: dict[str, Any], tmp_path: Path) -> None:
        folder = tmp_path / "saved"
        for part in ("train", "test"):
            (folder / part).mkdir(parents=True)
            for name in ("state.json", "dataset_info.json"):
                (folder / part / name).touch()
        check(given, data=str(folder / "train"))
        (folder / "dataset_dict.json").touch()
        with refused(r"saved: this folder holds splits test, train; name one of them, as"):
            check(given, data=str(folder))

    def test_a_file_in_a_folder_is_no_hub_id(
        self, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with refused(r"^data/pairs.jsonl: no such file; the folder data does not exist; give"):
            check(given, data="data/pairs.jsonl")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "paris").touch()
        with refused(r"^data/pairs: no such file; did you mean data/paris\?; give a file"):
            check(given, data="data/pairs")

    def test_a_template_that_is_not_there(self, given: dict[str, Any]) -> None:
        with refused(r"^none.jinja: no such file; give a file with a Jinja chat template$"):
            check(given, chat_template="none.jinja")

    def test_a_folder_with_a_run(self, given: dict[str, Any]) -> None:
        folder = Path(given["output"])
        folder.mkdir(parents=True)
        check(given)
        (folder / "run.yaml").write_text("")
        refuses(given, r"x holds a run already: go on with it by --resume \S+x, or give another")

    def test_a_file_in_the_way(self, given: dict[str, Any]) -> None:
        for output in (given["data"][1], given["data"][1] + "/x/y"):
            refuses(given, r"pairs.jsonl is a file, not a folder$", output=output)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_of_another_user(self, given: dict[str, Any], tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        refuses(given, r"cannot be written by this user$")


@pytest.fixture
def online(tmp_path: Path) -> dict[str, Any]:
    given = {"model": "world", "prompts": ["world:prompts?count=8"], "annotator": WorldAnnotator()}
    return {**given, "output": str(tmp_path / "run"), "source": "online"}


@pytest.fixture
def reward_model(model: Path) -> Path:
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_whole_ones(online: dict[str, Any], model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ prompt }}")
    (tmp_path / "rewards.py").write_text("")
    (tmp_path / "p.jsonl").write_text("{}\n")
    known: list[AnnotatorChoice] = [
        LocalAnnotator(str(model)), LocalAnnotator("world", template=str(tmp_path / "mine.jinja")),
        EndpointAnnotator("http://localhost/v1", "J", template="summary"), LikelihoodAnnotator(str(model)),
        FunctionAnnotator(f"{tmp_path / 'rewards.py'}:brevity"), WorldAnnotator("proxy"),
    ]  # fmt: skip
    for annotator in known:
        more = {"prompts": [str(tmp_path / "p.jsonl")], "sampler": {"models": [str(model), "world"]}}
        check(online, annotator=annotator, **more)


class TestAnnotator:
    def test_a_reward_model(self, online: dict[str, Any], reward_model: Path) -> None:
        check(online, annotator=RewardAnnotator(str(reward_model)))
        for annotator in (LocalAnnotator(str(reward_model)), LikelihoodAnnotator(str(reward_model))):
            message = rf"^annotator\.kind {annotator.kind} needs a causal language model, and .* give reward:.*model$"
            refuses(online, message, annotator=annotator)

    def test_a_language_model_is_none(self, online: dict[str, Any], model: Path) -> None:
        message = (
            r"model is a language model, no reward model \(a classifier with one output\); give "
            r"likelihood:\S+model, or make one by trueup train reward-model$"
        )
        for config in ({"model_type": "llama"}, {"architectures": ["LlamaForCausalLM"]}, {"architectures": 3}):
            write_json(model / "config.json", config)
            refuses(online, message, annotator=RewardAnnotator(str(model)))

    def test_an_adapter_says_what_it_is(
        self, online: dict[str, Any], model: Path, tmp_path: Path, weights: bytes
    ) -> None:
        folder = tmp_path / "adapter"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(weights)
        settings = {"base_model_name_or_path": str(model), "task_type": "SEQ_CLS"}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        check(online, annotator=RewardAnnotator(str(folder)))
        (folder / "adapter_config.json").write_text(json.dumps(settings | {"task_type": "CAUSAL_LM"}))
        refuses(online, "is a language model, no reward model", annotator=RewardAnnotator(str(folder)))

    def test_folders_that_are_not_there(self, online: dict[str, Any], model: Path) -> None:
        refuses(
            online,
            r"^reward model rm is not a folder; give rubric, weighted, a reward model's FOLDER",
            annotator=RewardAnnotator("rm"),
        )
        message = r"^annotator\.kind local: org/judge: no such folder, and the hub is switched off"
        refuses(online, message, annotator=LocalAnnotator("org/judge"))
        (model / "model.safetensors").unlink()
        message = r"^annotator\.kind likelihood: \S+ has no weights"
        refuses(online, message, annotator=LikelihoodAnnotator(str(model)))
        refuses(online, "the world has no reward model of its own", annotator=RewardAnnotator("world"))

    def test_the_folder_of_a_run(self, online: dict[str, Any], reward_model: Path) -> None:
        message = r"so it is no model's folder; did you mean \S+/model\?$"
        refuses(online, message, annotator=RewardAnnotator(str(reward_model.parent)))

    @pytest.mark.parametrize("name", ["helpfullness", "mine.jinja"])
    def test_a_template_that_is_not_there(self, online: dict[str, Any], name: str) -> None:
        close = r"; did you mean helpfulness\?" if name.startswith("help") else ""
        message = rf"^{name}: no such file; give one of helpfulness, harmlessness, summary, or a file .*{close}$"
        refuses(online, message, annotator=EndpointAnnotator("http://localhost/v1", "J", template=name))
        refuses(online, message, annotator=LocalAnnotator("world", template=name))

    def test_a_function(self, online: dict[str, Any], tmp_path: Path) -> None:
        message = r"^none\.py: no such file; give a file with the function, as FILE\.py:FUNCTION"
        refuses(online, message, annotator=FunctionAnnotator("none.py:f"))
        refuses(online, r"^annotator\.function 'none' names no function", annotator=FunctionAnnotator("none"))


class TestSampling:
    def test_prompts_that_are_not_there(self, online: dict[str, Any], tmp_path: Path) -> None:
        message = r"^none\.jsonl: no such file; give a file with prompts or feedback, hub:OWNER/NAME, or world:prompts$"
        refuses(online, message, prompts="none.jsonl")
        refuses(online, message, prompts=["world:prompts", "none.jsonl"], source="offline")
        refuses(online, "is a folder; name a file", prompts=str(tmp_path))

    def test_models(self, online: dict[str, Any], reward_model: Path) -> None:
        refuses(online, r"^sampler\.models: model none is not a folder", sampler={"models": "none"})
        message = r"^sampler\.models: \S+model is a reward model, and writes nothing; leave it out$"
        refuses(online, message, sampler={"models": str(reward_model)})

    def test_a_replay_needs_none_of_it(self, online: dict[str, Any], tmp_path: Path) -> None:
        data = tmp_path / "examples.jsonl"
        data.write_text("{}\n")
        gone = {"prompts": "none.jsonl", "annotator": RewardAnnotator("rm"), "sampler": {"models": "none"}}
        check(online, source="replay", data=str(data), **gone)
        refuses(online, "no such file", source="replay", data="none.jsonl", **gone)
