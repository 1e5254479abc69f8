"""Typed settings from plain values, and the line that says what does not fit."""

import sys
from typing import Any

import pytest

import trueup.methods
from trueup.config.layers import flatten, nest
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.references.choices import Frozen, TrustRegion
from trueup.settings.run_settings import NO_DATA, LoraSettings, RunSettings
from trueup.settings.schema import settings_in
from trueup.settings.validation import validate
from trueup.words import nearest

GIVEN = {"model": "m", "data": "d", "output": "o"}


def run(**values: object) -> RunSettings:
    return validate(RunSettings, GIVEN | values, where="a run")


class TestValues:
    def test_numbers_and_truth_values_may_be_text(self) -> None:
        settings = run(learning_rate="5e-7", steps="12", gradient_checkpointing="yes", data=["a", "b"])
        assert (settings.learning_rate, settings.steps, settings.epochs) == (5e-7, 12, None)
        assert settings.gradient_checkpointing is True
        assert settings.data == ("a", "b")

    def test_one_value_stands_for_a_list_of_one(self) -> None:
        assert run(data="a.jsonl", trackers="wandb").data == ("a.jsonl",)
        assert LoraSettings(targets=("q", "v")).targets == ("q", "v")

    def test_one_epoch_unless_told_otherwise(self) -> None:
        assert RunSettings(**GIVEN).epochs == 1
        assert RunSettings(**GIVEN, steps=3).epochs is None

    def test_a_number_as_text_becomes_text(self) -> None:
        assert run(run_name=2026).run_name == "2026"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1}, "learning_rat is not a setting of a run; did you mean learning_rate?"),
        ({"lora": {"rnk": 4}}, "lora.rnk is not a setting of a run; did you mean lora.rank?"),
        ({"zzzz": 1}, "zzzz is not a setting of a run"),
        ({"model": None}, "model must be text; got None"),
        ({"model": ""}, "model must be given and not empty; got ''"),
        ({"output": "e\0f"}, r"output must be text without a null character; got 'e\x00f'"),
        ({"data": []}, NO_DATA),
        ({"data": 5}, "data must be a list; got 5"),
        ({"steps": 2.5}, "steps must be a whole number; got 2.5"),
        ({"seed": "-1"}, "seed must be at least 0; got -1"),
        ({"batch_size": "many"}, "batch_size must be a whole number; got 'many'"),
        ({"eval_fraction": 1}, "eval_fraction must be less than 1; got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number; got nan"),
        ({"learning_rate": "inf"}, "learning_rate must be a finite number; got inf"),
        ({"seed": True}, "seed must be a number; got true"),
        ({"lora": {"dropout": False}}, "lora.dropout must be a number; got false"),
        ({"lora": 3}, "lora must be a mapping of settings; got 3"),
        ({"trust_remote_code": "perhaps"}, "trust_remote_code must be true or false; got 'perhaps'"),
        ({"schedule": "cosin"},
         "schedule must be one of linear, cosine, constant; got 'cosin'; did you mean cosine?"),
        ({"trackers": ["mlflow"]}, "trackers must be one of tensorboard, wandb, trackio; got 'mlflow'"),
        ({"epochs": 2, "steps": 3}, "epochs 2 and steps 3 are both given; give one"),
        ({"warmup_steps": 2, "warmup_ratio": 0.1}, "warmup_steps 2 and warmup_ratio 0.1 are both given; give one"),
        ({"warmup_steps": 9, "steps": 3},
         "warmup_steps 9 is longer than the run's 3 steps; give fewer, or a warmup_ratio"),
        ({"eval_every": 9}, "eval_every 9 needs held-out feedback; give eval_data or eval_fraction"),
        ({"eval_data": "e", "eval_fraction": 0.1}, "eval_data and eval_fraction 0.1 are both given; give one"),
        ({"max_length": 64, "max_prompt_length": 64},
         "max_prompt_length 64 leaves no room for a response within max_length 64; give a smaller one"),
        ({"seed": "x", "sed": 1},
         "sed is not a setting of a run; did you mean seed?; seed must be a whole number; got 'x'"),
    ],
)  # fmt: skip
def test_a_run_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run(**values)
    assert sorted(str(refusal.value).split("; ")) == sorted(message.split("; "))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("dpo", {"beta": -1}, "beta must be greater than 0; got -1"),
        ("dpo", {"beta": "large"}, "beta must be a number; got 'large'"),
        ("dpo", {"bta": 1}, "bta is not a setting of method dpo; did you mean beta?"),
        (
            "dpo",
            {"reference": {"kind": "forzen"}},
            "reference.kind must be one of frozen, adapter-off, cached, trust-region; got 'forzen'; "
            "did you mean frozen?",
        ),
        (
            "dpo",
            {"reference": {"alpha": 0.5}},
            "reference.kind is missing: it must be one of frozen, adapter-off, cached, trust-region "
            "(reference.alpha is a setting of trust-region)",
        ),
        (
            "dpo",
            {"reference": "frozen"},
            "reference must be a mapping of settings with reference.kind, one of frozen, adapter-off, "
            "cached, trust-region; got 'frozen'",
        ),
        ("dpo", {"reference": {"kind": "cached", "every": 3}},
         "reference.every is a setting of reference.kind trust-region, not of cached"),
        ("tr-dpo", {"reference": {"alhpa": 0.5}},
         "reference.alhpa is not a setting of method tr-dpo; did you mean reference.alpha?"),
        ("tr-dpo", {"reference": {"alpha": 0}}, "reference.alpha must be greater than 0; got 0"),
        ("tr-dpo", {"reference": {"kind": "frozen"}}, "reference.kind must be trust-region; got 'frozen'"),
        ("tr-dpo", {"reference": 1}, "reference must be a mapping of settings; got 1"),
        ("rrhf", {"rank_weight": float("inf")}, "rank_weight must be a finite number; got inf"),
        ("sft", {"reference": {"kind": "frozen"}}, "reference is not a setting of method sft"),
    ],
)  # fmt: skip
def test_a_method_refuses(method: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        METHODS[method].build(**values)
    assert str(refusal.value) == message


class TestMethods:
    @pytest.mark.parametrize("name", METHODS)
    def test_a_method_is_described_and_its_defaults_are_settings(self, name: str) -> None:
        info = METHODS[name]
        assert info.title and info.formula and info.feedback
        assert set(info.defaults) <= {setting.path for setting in settings_in(RunSettings)}
        online = {"model": "m", "output": "o", "prompts": "p", "annotator": {"kind": "world"}}
        given = GIVEN if "offline" in info.sources else online
        assert RunSettings(**given, **nest(flatten(info.defaults))).learning_rate
        assert all(setting.description for setting in settings_in(info.settings) if "." not in setting.path)

    def test_building_one_records_its_name_and_settings(self) -> None:
        built = trueup.methods.tr_dpo(beta=0.2, reference=TrustRegion(alpha=1.0, every=4))
        assert built.name == "tr-dpo"
        assert built.settings == {
            "beta": 0.2, "sft_weight": 0.0, "reference": {"kind": "trust-region", "alpha": 1.0, "every": 4},
        }  # fmt: skip
        assert trueup.methods.dpo().reference == Frozen()

    def test_settings_are_keywords(self) -> None:
        with pytest.raises(TypeError, match="positional"):
            trueup.methods.dpo(0.1)  # type: ignore[call-arg]

    def test_typed_settings_are_not_validated_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        typed = validate(METHODS["dpo"].settings, {"beta": "0.2"}, where="method dpo")
        monkeypatch.setattr(sys.modules["trueup.settings.validation"], "validate", None)
        assert METHODS["dpo"].configure(typed).settings["beta"] == 0.2

    def test_a_name_is_registered_once(self) -> None:
        def build() -> trueup.methods.Method:  # type: ignore[type-arg]
            raise NotImplementedError

        with pytest.raises(ValueError, match="a method named dpo is registered already"):
            trueup.methods.method(name="dpo", title="", formula="", feedback="")(build)

    def test_a_setting_of_every_run_is_none_of_a_method(self) -> None:
        def build(*, seed: int = 0) -> trueup.methods.Method:  # type: ignore[type-arg]
            raise NotImplementedError

        with pytest.raises(ValueError, match="seed of method new is a setting of every run"):
            trueup.methods.method(name="new", title="", formula="", feedback="")(build)
        assert "new" not in METHODS

    def test_a_method_that_learns_from_its_own_responses_says_so(self) -> None:
        def build(*, size: int = 0) -> trueup.methods.Method[Any]:
            return trueup.methods.ppo()

        made = trueup.methods.method(name="new", title="", formula="", feedback="")(build)
        del METHODS["new"]
        with pytest.raises(ValueError, match="register it with evaluates=False"):
            made()


class TestSchema:
    def test_every_setting_is_described_under_a_heading(self) -> None:
        assert all(setting.description and setting.role.heading for setting in settings_in(RunSettings))

    def test_what_a_setting_affects_is_told_at_its_field(self) -> None:
        """One inside another does what the outer one does, unless it says otherwise itself."""
        affects = {setting.path: setting.role.affects for setting in settings_in(RunSettings)}
        assert (affects["learning_rate"], affects["lora.alpha"], affects["seed"]) == ("result",) * 3
        assert (affects["data"], affects["sampler.top_p"], affects["annotator.kind"]) == ("examples",) * 3
        assert (affects["output"], affects["sampler.timeout"], affects["annotator.asks"]) == ("nothing",) * 3
        changeable = {setting.path for setting in settings_in(RunSettings) if setting.role.resume}
        assert {"log_every", "annotator.max_cost", "sampler.timeout"} <= changeable
        assert {affects[path] for path in changeable} == {"nothing"}
        assert not changeable & {"output", "threads", "annotator.asks", "sampler.top_p"}

    def test_settings_of_one_kind_of_reference_say_so(self) -> None:
        settings = {setting.path: setting for setting in settings_in(METHODS["dpo"].settings)}
        assert settings["reference.kind"].choices == ("frozen", "adapter-off", "cached", "trust-region")
        assert settings["reference.alpha"].variants == ("trust-region",)
        assert settings["reference.alpha"].allowed == "number greater than 0 and at most 1"
        assert settings["beta"].default == 0.1

    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("reference.alhpa", "reference.alpha"),
            ("alpha", "reference.alpha"),
            ("lora.Rank", "lora.rank"),
            ("epoch", "epochs"),
            ("grad_norm", "max_grad_norm"),
            ("nothing_like_it", None),
        ],
    )
    def test_nearest(self, given: str, meant: str | None) -> None:
        known = ["beta", "reference.alpha", "lora.alpha", "lora.rank", "epochs", "max_grad_norm"]
        assert nearest(given, known) == meant
