"""Settings of what is sampled and judged: short names in every layer, and what does not fit together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from support.refusals import refused

from trueup.config.resolve import Resolved, dump, load_run, resolve
from trueup.errors import InputError
from trueup.settings.annotator_kinds import (
    EndpointAnnotator,
    FunctionAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)
from trueup.settings.gathering_settings import SamplerSettings
from trueup.settings.run_settings import RunSettings

Settle = Callable[..., Resolved]
Write = Callable[[str], Path]
URL = "http://localhost:8000/v1"


class TestShortNames:
    def test_an_endpoint_and_its_settings(self, settle: Settle) -> None:
        beside = {"annotator__base_url": URL, "annotator__model": "J", "annotator__max_cost": None}
        settings = settle("oaif", annotator="openai", annotator__instruction="Be short.", **beside).settings
        assert settings.annotator == EndpointAnnotator(URL, "J", instruction="Be short.")

    @pytest.mark.parametrize(
        ("text", "annotator"),
        [
            ("annotator: world:proxy\nannotator.noise: 0.2\n", WorldAnnotator("proxy", noise=0.2)),
            ("annotator: {kind: local, model: models/j}\n", LocalAnnotator("models/j")),
            ("annotator: local\nannotator.model: models/j\n", LocalAnnotator("models/j")),
            ("reward: rewards.py:brevity\n", FunctionAnnotator("rewards.py:brevity")),
            ("reward: runs/rm/model\n", RewardAnnotator("runs/rm/model")),
        ],
    )
    def test_in_a_file(self, yaml: Write, text: str, annotator: object) -> None:
        given = {"model": "m", "output": "o", "prompts": "p.jsonl", "source": "online"}
        assert resolve("rrhf", config_file=yaml(text), overrides=given).settings.annotator == annotator

    def test_from_python(self, settle: Settle) -> None:
        assert settle("oaif", annotator=WorldAnnotator("proxy")).settings.annotator == WorldAnnotator("proxy")
        given = {"annotator": None, "reward": Path("runs/rm/model"), "prompts": [Path("a.jsonl"), "b.jsonl"]}
        settings = settle("oaif", **given).settings
        assert settings.annotator == RewardAnnotator("runs/rm/model")
        assert settings.prompts == ("a.jsonl", "b.jsonl")

    @pytest.mark.parametrize("above", [{"annotator": "world:gold"}, {"annotator": None, "reward": "world:gold"}])
    def test_another_kind_takes_the_place_of_the_one_in_the_file(self, settle: Settle, above: dict[str, Any]) -> None:
        text = f"annotator: {{kind: openai, base_url: '{URL}', model: J, max_unreadable: 0.5}}\n"
        assert settle("oaif", text, **above).settings.annotator == WorldAnnotator("gold")

    def test_the_same_kind_goes_over_the_one_in_the_file(self, settle: Settle) -> None:
        text = "annotator: {kind: world, reward: proxy, noise: 0.3}\n"
        settings = settle("oaif", text, annotator="world:gold").settings
        assert settings.annotator == WorldAnnotator("gold", noise=0.3)

    def test_a_setting_goes_over_the_one_in_the_file(self, settle: Settle) -> None:
        settings = settle("oaif", "annotator: world:proxy\n", annotator=None, annotator__noise="0.1").settings
        assert settings.annotator == WorldAnnotator("proxy", noise=0.1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("seed: 1\nannotator: wrold:gold\n", r"^\S+run\.yaml:2: annotator 'wrold:gold' is not known;"),
            ("seed: 1\nreward: openai\n", r"^\S+run\.yaml:2: reward 'openai' is refused, as it compares"),
            ("seed: 1\nreward: world\n", r"^\S+run\.yaml:2: reward 'world' is not known"),
            ("seed: 1\nannotator: openai\nannotator.model: J\n", r"^\S+run\.yaml:2: annotator\.base_url is"),
            ("annotator: {kind: world, noise: 3}\n", r"run\.yaml:1: annotator\.noise must be at most 1;"),
            ("annotator: {kind: function, function: 'a.py:f', model: m}\n",
             r"annotator\.model is a setting of annotator\.kind local, openai, reward, likelihood, not of function$"),
            ("annotator: {kind: wrold}\n", r"annotator\.kind must be one of local, openai, .*; did you"),
            ("annotator: {model: m}\n", r"annotator\.kind is missing: it must be one of .*"),
            ("annotator: {kind: world, nois: 0.1}\n", r"annotator\.nois is not a setting .* mean"),
            ("annotator: 3\n", r"annotator must be a mapping of settings with annotator\.kind, one of"),
            ("sampler: {respnses: 3}\n", r"sampler\.respnses is not a setting .*; did you mean"),
            ("rewrad: world:gold\n", r"did you mean reward\?$"),
        ],
    )  # fmt: skip
    def test_refused(self, settle: Settle, text: str, message: str) -> None:
        above = {"annotator": None} if text.startswith(("annotator", "seed")) else {}
        with refused(message):
            settle("oaif", text, **above)

    def test_a_name_over_a_file_is_not_blamed_on_the_file(self, settle: Settle) -> None:
        with refused(r"^annotator\.base_url is required; annotator\.model is required$"):
            settle("oaif", "annotator: world:gold\n", annotator="openai")
        for text in ("annotator: world:gold\n", "reward: world:gold\n", "annotator: {kind: world}\n"):
            with refused(r"^annotator\.noise must be at most 1; got 3$"):
                settle("oaif", text, annotator=None, annotator__noise=3)


class TestSources:
    @pytest.mark.parametrize(
        ("method", "given", "message"),
        [
            ("dpo", {"data": None}, r"^data is required: give a file with feedback, hub:OWNER/NAME or world:pairs, or"),
            ("dpo", {"prompts": "p"}, r"^prompts are given but no annotator to judge the responses; give an annotator"),
            ("dpo", {"reward": "rm"}, r"^an annotator is given but nothing to judge; give prompts to sample responses"),
            ("oaif", {"prompts": None}, r"^prompts are required when source is online: give a file with prompts"),
            ("oaif", {"annotator": None}, r"^an annotator is required when source is online, .*: give openai, jury, "),
            ("oaif", {"data": "d"}, r"^data is given, but source is online, which gathers its own; give it"),
            ("oaif", {"eval_fraction": 0.1}, r"^eval_fraction holds out a part of data, and source i"),
            ("oaif", {"eval_every": 3}, r"^eval_every 3 needs held-out feedback; give eval_data$"),
            ("oaif", {"source": "replay", "data": None}, r"^data is required when source is replay: give an"),
            ("dpo", {"round_passes": 2, "reward_kl": 0.1}, r"^round_passes and reward_kl say how examples are gathere"),
            ("dpo", {"sampler__resync": 2}, r"^sampler\.resync say how examples are gathered while training"),
            ("dpo", {"sampler__top_k": 5}, r"^sampler\.top_k: nothing is sampled; give"),
            ("dpo", {"source": "onlien"}, r"^source must be one of offline, online, replay; got 'onlien'; did you mea"),
            (
                "oaif", {"source": "offline"},
                "^source offline is refused, as method oaif learns from responses it samples itself: give source "
                "online with prompts and an annotator or a reward, or source replay with the examples.jsonl of an "
                "online run as data$",
            ),
            ("ppo", {"source": "offline"}, r"^source offline is refused, as method ppo learns from responses it sam"),
            ("reward-model", {"source": "online"}, r"^source online is refused, as method reward-model learns from fe"),
        ],
    )  # fmt: skip
    def test_refused(self, settle: Settle, method: str, given: dict[str, Any], message: str) -> None:
        with refused(message):
            settle(method, **given)

    def test_feedback_gathered_before_training(self, settle: Settle) -> None:
        settings = settle("ca", data=None, reward="runs/rm/model", prompts="p.jsonl").settings
        assert (settings.source, settings.data, settings.annotator) == (
            "offline", (), RewardAnnotator("runs/rm/model"),
        )  # fmt: skip
        both = settle("rrhf", reward="world:gold", prompts="p.jsonl", sampler__models=["a", "b"]).settings
        assert (both.data, both.sampler.models) == (("pairs.jsonl",), ("a", "b"))

    def test_rrhf_that_samples(self, settle: Settle) -> None:
        settings = settle("rrhf", source="online", sampler__resync="32", reward_kl="0.05").settings
        assert (settings.sampler.resync, settings.reward_kl) == (32, 0.05)


class TestSampler:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"engine": "server"}, r"^sampler\.engine server needs sampler\.base_url, as in http://localhost:8000/v1$"),
            ({"base_url": URL}, r"^sampler\.base_url is given, but sampler\.engine is in-process; give engine"),
            ({"server_model": "m"}, r"^sampler\.server_model is given, but sampler\.engine is in-process"),
            ({"engine": "server", "base_url": URL, "decode": "beam"}, r"^sampler\.decode beam is computed in this"),
            ({"engine": "continuous"}, r"^sampler\.engine must be one of in-process, server; got 'continuous'$"),
            ({"decode": "greedy"}, r"^sampler\.decode greedy gives one response; got"),
            ({"stop": ["", "a"]}, r"^sampler\.stop must be given and not empty; got ''$"),
            ({"temperature": 0}, r"^sampler\.temperature must be greater than 0; got 0$"),
            ({"top_p": "nan"}, r"^sampler\.top_p must be a finite number; got nan$"),
            ({"responses": True}, r"^sampler\.responses must be a number; got true$"),
        ],
    )  # fmt: skip
    def test_refused(self, settle: Settle, given: dict[str, Any], message: str) -> None:
        with refused(message):
            settle("oaif", sampler=given)

    def test_one_stop_or_several(self, settle: Settle) -> None:
        assert settle("oaif", 'sampler.stop: "\\n\\nHuman:"\n').settings.sampler.stop == ("\n\nHuman:",)
        assert settle("oaif", 'sampler: {stop: ["a\\n", "\\\\n"]}\n').settings.sampler.stop == ("a\n", "\\n")


class TestSecrets:
    SECRET = "canary-7f3a"

    @pytest.mark.parametrize(
        "url",
        [
            "http://user:{}@localhost:8000/v1", "http://{}@localhost/v1", "http://localhost/v1?api_key={}",
            "http://localhost/v1#{}", "user:{}@localhost", "ftp://localhost/{}", "http://local host:{}/",
            "http://[{}/v1", "http://localhost:{}/v1", "{}",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("where", ["annotator", "sampler"])
    def test_no_url_holds_one(self, settle: Settle, url: str, where: str) -> None:
        given = url.format(self.SECRET)
        of = {
            "annotator": {"annotator": "openai", "annotator.model": "J", "annotator.base_url": given},
            "sampler": {"sampler.engine": "server", "sampler.base_url": given},
        }[where]
        with pytest.raises(InputError, match=rf"^{where}\.base_url (holds|must) .*") as refusal:
            settle("oaif", **of)
        assert self.SECRET not in str(refusal.value)

    @pytest.mark.parametrize("key", ["sk-canary-7f3a", "canary 7f3a", "7f3a", ""])
    def test_a_key_where_its_variable_is_named(self, settle: Settle, key: str) -> None:
        given = {"annotator": "openai", "annotator.model": "J", "annotator.base_url": URL}
        with pytest.raises(InputError, match=r"^annotator\.key_variable must be the name of an environment") as found:
            settle("oaif", **given, **{"annotator.key_variable": key})
        assert not key or key not in str(found.value)

    def test_python_does_not_show_it_either(self) -> None:
        with pytest.raises(ValueError, match="holds a user's name") as found:
            EndpointAnnotator(f"http://user:{self.SECRET}@localhost/v1", "J")
        assert self.SECRET not in str(found.value)
        with pytest.raises(ValueError, match="holds a user's name") as found:
            SamplerSettings(engine="server", base_url=f"http://user:{self.SECRET}@localhost/v1")
        assert self.SECRET not in str(found.value)

    @pytest.mark.parametrize("url", [URL, "https://api.example.com", "http://[::1]:8000/v1/", "http://10.0.0.1/a/b"])
    def test_a_plain_url(self, settle: Settle, url: str) -> None:
        settings = settle("oaif", sampler__engine="server", sampler__base_url=url).settings
        assert settings.sampler.base_url == (url,)

    def test_a_bound_on_the_cost_needs_prices(self, settle: Settle) -> None:
        given = {
            "annotator": "openai", "annotator.model": "J", "annotator.base_url": URL, "annotator.max_cost": 5,
        }  # fmt: skip
        with refused(r"^annotator\.max_cost 5 needs annotator\.input_price and annotator\.out"):
            settle("oaif", **given, **{"annotator.input_price": 1})


@pytest.fixture
def run(tmp_path: Path, settle: Settle) -> Path:
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    given = {"annotator": "openai", "annotator.model": "J", "annotator.base_url": URL, "annotator.asks": 3}
    sampled = {"sampler.stop": ["\n\nHuman:"], "sampler.resync": 4, "round_passes": 2, "steps": 9}
    resolved = settle("oaif", output=str(folder), prompts=["p.jsonl"], objective="ipo", **given, **sampled)
    (folder / "run.yaml").write_text(pyyaml.safe_dump(dump(resolved) | {"versions": {"torch": "2"}}))
    return folder


class TestAgain:
    def test_a_run_comes_back(self, run: Path) -> None:
        resumed = load_run(run)
        assert resumed.settings.annotator == EndpointAnnotator(URL, "J", asks=3)
        assert (resumed.settings.sampler.stop, resumed.settings.sampler.resync) == (("\n\nHuman:",), 4)
        assert dict(resumed.method_settings)["objective"] == "ipo"
        fields = resumed.settings.model_fields_set
        assert "max_length" not in fields and "eval_data" not in fields and "sampler" in fields

    def test_the_same_again_is_no_change(self, run: Path) -> None:
        given = {"annotator": "openai", "annotator.model": "J", "sampler.resync": "4", "prompts": "p.jsonl"}
        assert load_run(run, given) == load_run(run)

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"annotator": "world:gold"}, "annotator"),
            ({"annotator.model": "K"}, r"annotator\.model"),
            ({"annotator.asks": 2, "annotator.timeout": 9}, r"annotator\.asks"),
            ({"sampler.resync": 3, "sampler.concurrency": 2}, r"sampler\.resync"),
            ({"prompts": "q.jsonl"}, "prompts"),
            ({"source": "replay", "data": "d"}, "data, source"),
        ],
    )
    def test_what_could_change_the_result_is_refused(self, run: Path, given: dict[str, Any], name: str) -> None:
        with refused(rf"^{name} cannot change when a run is resumed"):
            load_run(run, given)

    def test_what_it_may_spend_can_change(self, run: Path) -> None:
        given = {"annotator.max_cost": 3, "annotator.input_price": 1, "annotator.output_price": 1}
        annotator = load_run(run, given).settings.annotator
        assert annotator == EndpointAnnotator(URL, "J", asks=3, max_cost=3, input_price=1, output_price=1)
        resumed = load_run(run, {**given, "annotator.timeout": "9", "sampler.timeout": 8})
        assert resumed.settings.annotator == replace(annotator, timeout=9)
        assert resumed.settings.sampler.timeout == 8

    def test_a_replay_from_its_own_file(self, run: Path) -> None:
        given = {"source": "replay", "data": str(run / "examples.jsonl"), "output": "runs/y"}
        replayed = resolve("oaif", config_file=run / "run.yaml", overrides=given).settings
        began = load_run(run).settings
        changed = {"source": "replay", "data": (str(run / "examples.jsonl"),), "output": "runs/y"}
        assert replayed.model_dump() == began.model_dump() | changed

    def test_another_annotator_over_its_own_file(self, run: Path) -> None:
        settings = resolve("oaif", config_file=run / "run.yaml", overrides={"reward": "world:gold"}).settings
        assert settings.annotator == WorldAnnotator()

    def test_a_setting_that_a_method_changes_stays_as_the_run_had_it(self, settle: Settle, yaml: Write) -> None:
        """`sampler.temperature` is 1 in the record, as for every run, and 0.9 by default in this method."""
        began = settle("oaif", sampler__temperature=1, sampler__responses=2)
        assert began.settings.sampler == RunSettings.model_fields["sampler"].default
        again = resolve("oaif", config_file=yaml(pyyaml.safe_dump(dump(began))))
        assert again.settings == began.settings
