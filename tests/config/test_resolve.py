"""A run's settings from a method's defaults, a file and the command line; and a run's own record of them."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.refusals import refused

from trueup.config.layers import flatten, nest
from trueup.config.resolve import Resolved, dump, load_run, read_record, resolve
from trueup.config.trl_names import TABLE
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.references.choices import AdapterOff, Frozen, TrustRegion
from trueup.settings.run_settings import LoraSettings, RunSettings
from trueup.settings.schema import settings_in

Settle = Callable[..., Resolved]
Write = Callable[[str], Path]


class TestPrecedence:
    def test_the_method_s_defaults_fill_what_is_left_out(self, settle: Settle) -> None:
        settings = settle("rrhf").settings
        assert (settings.learning_rate, settings.batch_size, settings.epochs) == (2e-5, 64, 3)
        assert settle("tr-dpo").settings.max_grad_norm == 2.0

    def test_the_file_goes_over_defaults_and_the_command_line_over_the_file(self, settle: Settle) -> None:
        text = "learning_rate: 5e-7\nbeta: 0.3\nreference:\n  alpha: 0.5\n  every: 8\n"
        resolved = settle("tr-dpo", text, beta="0.2", reference__every="64")
        assert resolved.settings.learning_rate == 5e-7
        region = TrustRegion(alpha=0.5, every=64)
        assert dict(resolved.method_settings) == {"beta": 0.2, "sft_weight": 0.0, "reference": region}

    def test_dotted_and_nested_names_mean_the_same(self, settle: Settle) -> None:
        dotted = settle("dpo", "lora.rank: 4\nreference.kind: trust-region\nreference.alpha: 1\n")
        nested = settle("dpo", "lora: {rank: 4}\nreference: {kind: trust-region, alpha: 1}\n")
        assert dump(dotted) == dump(nested)

    def test_null_is_left_out(self, settle: Settle) -> None:
        assert settle("dpo", "seed:\nlora: null\nbatch_size: ~\n").settings.batch_size == 32

    def test_steps_take_the_place_of_epochs_below(self, settle: Settle) -> None:
        assert settle("rrhf", steps=5).settings.epochs is None
        assert settle("dpo", "epochs: 3", steps=5).settings.epochs is None
        assert settle("rrhf", warmup_steps=2).settings.warmup_ratio == 0

    def test_another_kind_takes_the_place_of_the_settings_of_the_one_below(self, settle: Settle) -> None:
        text = "reference: {kind: trust-region, alpha: 0.5}\n"
        assert dict(settle("dpo", text, reference__kind="frozen").method_settings)["reference"] == Frozen()

    def test_lora_may_be_switched_over_the_file(self, settle: Settle) -> None:
        assert settle("dpo", "lora: {rank: 4}", lora="false").settings.lora is None
        assert settle("dpo", "lora: {rank: 4}", lora="true").settings.lora == LoraSettings(rank=4)
        assert settle("dpo", "lora: false", lora__rank=2).settings.lora == LoraSettings(rank=2)
        assert settle("dpo", lora={}).settings.lora == settle("dpo", lora=True).settings.lora == LoraSettings()

    def test_paths_and_typed_values_from_python(self) -> None:
        given = {"model": Path("m"), "data": ["d"], "output": Path("o"), "lora": LoraSettings(rank=2)}
        resolved = resolve("dpo", overrides={**given, "reference": AdapterOff()})
        assert (resolved.settings.model, resolved.settings.lora) == ("m", LoraSettings(rank=2))

    def test_a_run_s_own_file_is_read_again(self, settle: Settle, yaml: Write) -> None:
        first = settle("tr-dpo", beta=0.3, steps=7, lora__rank=2)
        path = yaml(pyyaml.safe_dump(dump(first) | {"versions": {"torch": "2"}}))
        second = resolve("tr-dpo", config_file=path, overrides={"output": "runs/y", "epochs": 2})
        assert second.method_settings == first.method_settings
        changed = {"output": "runs/y", "epochs": 2.0, "steps": None}
        assert second.settings.model_dump() == first.settings.model_dump() | changed
        assert "max_length" not in second.settings.model_fields_set

    def test_a_run_s_own_file_goes_over_the_method_s_defaults(self, settle: Settle, yaml: Write) -> None:
        path = yaml(pyyaml.safe_dump(dump(settle("rrhf", batch_size=32))))
        assert resolve("rrhf", config_file=path).settings.batch_size == 32


@pytest.mark.parametrize(
    ("method", "text", "overrides", "message"),
    [
        ("tr-dop", None, {}, r"^tr-dop is not a method; did you mean tr-dpo\?$"),
        ("xyz", None, {}, f"^xyz is not a method; the methods are {', '.join(sorted(METHODS))}$"),
        ("dpo", "\nbeta: -1\n", {}, r"run.yaml:2: beta must be greater than 0; got -1$"),
        ("dpo", None, {"lerning_rate": 1}, r"is not a setting of method dpo or of a run; did you mean"),
        ("dpo", None, {"lr": 1}, r"; did you mean learning_rate\?$"),
        ("dpo", None, {"reward.of": "world:gold"}, r"; did you mean annotator\.of\?$"),
        ("dpo", "a: 1\nseeed: 2\n", {"bta": 1}, r"run.yaml:1: a is not .*run.yaml:2: seeed .* mean seed\?;"),
        ("sft", None, {"reference.alpha": 1}, r"^reference.alpha is refused: method sft needs no"),
        ("rrhf", "reference: {kind: frozen}", {}, r"run.yaml:1: reference.kind is refused: method rrhf"),
        ("dpo", None, {"reference.kind": "adapter-off"}, r"refused without lora: there is no adapter to"),
        ("dpo", "reference.kind: frozen\nreference: {kind: frozen}", {}, r"reference.kind is given twice,"),
        ("dpo", None, {"reference": 3, "reference.kind": "frozen"}, r"^reference is given as 3 and as a"),
        ("dpo", "method: tr-dpo\n", {}, r"run.yaml: is for method tr-dpo, not for dpo; run trueup train"),
        ("dpo", "method: [dpo]\n", {}, r"run.yaml: is for method \['dpo'\], not for dpo"),
    ],
)
def test_refused(settle: Settle, method: str, text: str | None, overrides: dict[str, Any], message: str) -> None:
    with refused(message):
        settle(method, text, **overrides)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("learning_rate: 5e-7", 5e-7),  # text to YAML
        ("learning_rate: 5.e-7", 5e-7),
        ("gradient_checkpointing: on", True),
        ("gradient_checkpointing: no", False),
        ("lora: no", None),
        ("seed: 010", 10),
        ("seed: '7'", 7),
        ("run_name: 1e3", "1e3"),
        ("run_name: 2026-01-01", "2026-01-01"),
    ],
)
def test_what_yaml_takes_for_something_else(settle: Settle, text: str, made: object) -> None:
    assert getattr(settle("dpo", text).settings, text.partition(":")[0]) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beta: .1e", "beta must be a number; got '.1e'"),
        ("beta: 1:30", "beta must be a number; got '1:30'"),
        ("beta: 0x1F", "beta must be a number; got '0x1F'"),
        ("beta: yes", "beta must be a number; got true"),
        ("beta: .nan", "beta must be a finite number; got nan"),
        ("beta: [0.1]", r"beta must be a number; got \[0.1\]"),
        ("learning_rate: 1,5", "learning_rate must be a number; got '1,5'"),
        ("batch_size: 1e1", "batch_size must be a whole number; got 1e1"),
        ("run_name: no", "run_name must be text; got False"),
        ("schedule: off", "schedule must be one of linear, cosine, constant; got False"),
        ("beta: !!python/name:os.system", "the tag !!python/name:os.system is not allowed; give a plain"),
    ],
)
def test_a_fault_of_a_file_names_its_line(settle: Settle, text: str, message: str) -> None:
    line = text.count("\n") + 2
    with refused(rf"^\S+run\.yaml:{line}: {message}"):
        settle("dpo", f"seed: 1\n{text}\n")


def test_what_is_required_is_named() -> None:
    with refused(r"^model is required; output is required; data is required: give a file"):
        resolve("dpo")


def test_a_method_without_a_learning_rate_needs_one(settle: Settle, monkeypatch: pytest.MonkeyPatch) -> None:
    info = copy(METHODS["dpo"])
    info.name, info.defaults = "bare", {}
    monkeypatch.setitem(METHODS, "bare", info)
    assert settle("bare", learning_rate=1e-6).settings.learning_rate == 1e-6
    with refused(r"^learning_rate is required, as method bare has no default for it$"):
        settle("bare")


NAMES = sorted(
    {setting.path for setting in settings_in(RunSettings)}
    | {setting.path for info in METHODS.values() for setting in settings_in(info.settings)}
    | {name for row in TABLE for name in row.names}
    | {"", ".", "a.b", "reference", "lora.", "settings", "method_settings", "method"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["true", "-1", "0.5", "all", "trust-region", "world", "steps", "1e400"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
MAPPINGS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), VALUES, max_size=5)


@pytest.mark.slow
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(method=st.sampled_from(sorted(METHODS)), values=MAPPINGS)
@example(method="dpo", values={"lora": {}, "lora.rank": 4})
@example(method="dpo", values={"\n": 1})
@example(method="dpo", values={"a..b": {"": 1}, "": {}})
def test_any_mapping_is_resolved_or_refused_in_one_line(method: str, values: dict[str, Any]) -> None:
    required = {"model": "m", "data": "d", "output": "o"}
    try:
        resolved = resolve(method, overrides={**required, **values})
    except InputError as refusal:
        assert str(refusal) and "\n" not in str(refusal)
    else:
        assert isinstance(resolved.settings, RunSettings)


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=2),
        st.integers() | st.dictionaries(st.just("x"), st.integers(), min_size=1),
        max_size=4,
    )
)
def test_nest_undoes_flatten(values: dict[str, Any]) -> None:
    assert nest(flatten(values)) == values


@pytest.fixture
def run(tmp_path: Path, settle: Settle) -> Path:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    resolved = settle("tr-dpo", output=str(folder), steps=9, lora__rank=3, eval_fraction=0.1, warmup_steps=2)
    content = dump(resolved) | {"versions": {"torch": "2.13.0"}, "data_fingerprints": {"pairs.jsonl": "ab"}}
    (folder / "run.yaml").write_text(pyyaml.safe_dump(content, sort_keys=False))
    return folder


class TestResume:
    def test_settings_come_back_as_they_were(self, run: Path) -> None:
        resumed = load_run(run)
        assert (resumed.info.name, resumed.settings.steps, resumed.settings.epochs) == ("tr-dpo", 9, None)
        assert resumed.settings.lora == LoraSettings(rank=3)
        assert resumed.settings.output == str(run)
        assert "max_length" not in resumed.settings.model_fields_set
        assert read_record(run) == {"versions": {"torch": "2.13.0"}, "data_fingerprints": {"pairs.jsonl": "ab"}}

    def test_every_method_comes_back(self, settle: Settle, tmp_path: Path) -> None:
        for name in METHODS:
            folder = tmp_path / name
            folder.mkdir()
            began = settle(name, output=str(folder))
            (folder / "run.yaml").write_text(pyyaml.safe_dump(dump(began)))
            resumed = load_run(folder)
            assert (resumed.settings, resumed.method_settings) == (began.settings, began.method_settings)

    def test_a_run_that_was_moved_is_where_it_is(self, run: Path) -> None:
        moved = run.rename(run.parent / "two")
        assert load_run(moved).settings.output == str(moved)

    def test_the_same_again_is_no_change(self, run: Path) -> None:
        given = {"output": f"{run}/", "steps": "9", "lora.rank": 3, "beta": 0.05, "data": ["pairs.jsonl"]}
        assert load_run(run, given, method_name="tr_dpo") == load_run(run)

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"beta": 0.3}, r"^beta cannot change when a run is resumed, as the result could change: leave"),
            ({"reference.alpha": 1, "seed": 3}, r"^reference.alpha, seed cannot change"),
            ({"threads": 2}, r"^threads cannot change"),
            ({"num_train_epochs": 2}, r"^epochs, steps cannot change"),
            ({"output": "elsewhere"}, r"^output cannot change .* \(what can change: accept_changed, eval_every,"),
            ({"log_every": 0}, r"^log_every must be at least 1; got 0$"),
            ({"sed": 0}, r"did you mean seed\?$"),
        ],
    )  # fmt: skip
    def test_what_could_change_the_result_is_refused(self, run: Path, overrides: dict[str, Any], message: str) -> None:
        with refused(message):
            load_run(run, overrides)

    def test_another_method_is_refused(self, run: Path) -> None:
        with refused(r"is a run of method tr-dpo; resume it with trueup train tr-dpo$"):
            load_run(run, method_name="dpo")

    def test_a_file_given_again(self, run: Path, yaml: Write) -> None:
        assert load_run(run, config_file=yaml("log_every: 7\nbeta: 0.05\n")).settings.log_every == 7
        with refused("beta cannot change"):
            load_run(run, config_file=yaml("beta: 0.06\n"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("method: dpo\n", r"run.yaml is damaged: it has no method_settings, settings$"),
            ("method: dpo\nmethod_settings: {}\nsettings: 3\n", r"run.yaml is damaged: it has no settings$"),
            ("method: dpo\nmethod_settings: {}\nsettings: {}\n", r"damaged.*: model is required"),
            ("method: old\nmethod_settings: {}\nsettings: {}\n",
             r"of no method here: old is not"),
            ("method: dpo\nmethod_settings: {gone: 1}\nsettings: {}\n", r"gone is not a setting of method"),
            ("method: dpo\nmethod_se", r"run.yaml:2: not YAML"),
        ],
    )  # fmt: skip
    def test_a_damaged_record(self, run: Path, text: str, message: str) -> None:
        (run / "run.yaml").write_text(text)
        with refused(message):
            load_run(run)
