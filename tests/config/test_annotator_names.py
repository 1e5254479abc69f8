"""An annotator by one name, and what is given beside it."""

from typing import Any

import pytest
from support.refusals import refused

from trueup.config.resolve import run_settings
from trueup.settings.annotator_settings import KINDS, annotator_layer, expanded, reward_layer
from trueup.settings.run_settings import RunSettings
from trueup.settings.schema import settings_in

REWARD_FORMS = (
    r"give rubric, weighted, a reward model's FOLDER, "
    r"likelihood:FOLDER, world:gold, world:proxy or FILE\.py:FUNCTION"
)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("openai", {"kind": "openai"}),
        ("openai:gpt:1", {"kind": "openai", "model": "gpt:1"}),
        ("local", {"kind": "local"}),
        ("local:models/judge", {"kind": "local", "model": "models/judge"}),
        ("reward:runs/rm/model", {"kind": "reward", "model": "runs/rm/model"}),
        ("likelihood:C:/models/m", {"kind": "likelihood", "model": "C:/models/m"}),
        ("world", {"kind": "world"}),
        ("world:proxy", {"kind": "world", "reward": "proxy"}),
        ("rewards.py:brevity", {"kind": "function", "function": "rewards.py:brevity"}),
        ("/a b/c.py:f", {"kind": "function", "function": "/a b/c.py:f"}),
        ("local:models/v1.py:f", {"kind": "local", "model": "models/v1.py:f"}),
        ("function:rewards.py:brevity", {"kind": "function", "function": "rewards.py:brevity"}),
    ],
)
def test_a_name_stands_for_settings(name: str, layer: dict[str, str]) -> None:
    assert annotator_layer(name) == layer


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opneai",
         r"^annotator 'opneai' is not known; give openai, jury, rubric, weighted, local:FOLDER, .*; did you mean"),
        ("rewrad:runs/rm", r"did you mean reward\?$"),
        ("runs/rm/model", r"FILE\.py:FUNCTION; did you mean reward:runs/rm/model\?$"),
        ("world:silver", r"^annotator 'world:silver' is not known; the world has gold and proxy$"),
        ("world:glod", r"the world has gold and proxy; did you mean gold\?$"),
        ("function:rewards.py", r"is not known; give openai, "),
        ("reward:", r"^annotator 'reward:' is not known; give openai, "),
        ("rewards.py", r"is not known; give openai, "),
        ("rewards.py:", r"is not known; give openai, "),
        ("rewards.py:two words", r"is not known; give openai, "),
        (".py:f", r"is not known; give openai, "),
        ("", r"^annotator '' is not known; give openai, "),
        ("http://user:secret@host/v1", r"^annotator must be a name, not a URL; give openai with"),
    ],
)  # fmt: skip
def test_another_name_is_refused(name: str, message: str) -> None:
    with refused(message):
        annotator_layer(name)


def test_every_kind_has_a_name() -> None:
    kinds = {setting.path: setting.choices for setting in settings_in(RunSettings)}["annotator.kind"]
    assert set(KINDS) == set(kinds)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("runs/rm/model", {"kind": "reward", "model": "runs/rm/model"}),
        ("rm", {"kind": "reward", "model": "rm"}),
        ("reward:rm", {"kind": "reward", "model": "rm"}),
        ("likelihood:models/m", {"kind": "likelihood", "model": "models/m"}),
        ("world:gold", {"kind": "world", "reward": "gold"}),
        ("rewards.py:brevity", {"kind": "function", "function": "rewards.py:brevity"}),
    ],
)
def test_a_reward_is_an_annotator_that_scores(name: str, layer: dict[str, str]) -> None:
    assert reward_layer(name) == layer


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openai", r"^reward 'openai' is refused, as it compares responses and gives no score; "),
        ("local:models/judge", r"^reward 'local:models/judge' is refused, as it compares"),
        ("reward", rf"^reward 'reward' is not known; {REWARD_FORMS}$"),
        ("world", REWARD_FORMS),
        ("rewards.py", REWARD_FORMS),
        ("rewards.py:a b", REWARD_FORMS),
        (" ", REWARD_FORMS),
        ("world:silver", "the world has gold and proxy"),
    ],
)
def test_another_reward_is_refused(name: str, message: str) -> None:
    with refused(message):
        reward_layer(name)


class TestExpanded:
    def test_what_is_given_beside_a_name_stays(self) -> None:
        given = {"annotator": "openai", "annotator.model": "J", "annotator.base_url": "U", "seed": 1}
        made = {"annotator.kind": "openai", "annotator.model": "J", "annotator.base_url": "U", "seed": 1}
        assert expanded(given) == made
        assert given["annotator"] == "openai"

    def test_nothing_to_expand(self) -> None:
        assert expanded({"annotator.kind": "world", "seed": 1}) == {"annotator.kind": "world", "seed": 1}
        typed = {"annotator": object()}
        assert expanded(typed) == typed

    def test_the_same_twice(self) -> None:
        given = {"annotator": "local:m", "annotator.kind": "local", "annotator.model": "m"}
        assert expanded(given) == {"annotator.kind": "local", "annotator.model": "m"}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"annotator": "local:m", "annotator.model": "n"}, r"^annotator 'local:m' and annotator\.model"),
            ({"annotator": "world:gold", "annotator.kind": "function"}, r"^annotator 'world:gold' and"),
            ({"reward": "rm", "annotator": "openai"}, r"^reward and annotator are both given, and a reward"),
            ({"reward": "world:gold", "annotator.noise": 0.1}, r"^reward and annotator\.noise are both"),
            ({"reward": ["a", "b"]},
             r"^reward must be rubric, weighted, a reward model's FOLDER, .*; got \['a', 'b'\]$"),
            ({"reward": 3}, r"^reward must be rubric, weighted, a reward model's FOLDER, .*; got 3$"),
        ],
    )  # fmt: skip
    def test_two_that_differ(self, given: dict[str, Any], message: str) -> None:
        with refused(message):
            expanded(given)


def test_the_short_settings_are_listed_beside_the_others() -> None:
    paths = [setting.path for setting in run_settings()]
    assert len(paths) == len(set(paths))
    assert {"annotator", "reward", "annotator.kind", "annotator.noise", "sampler.stop"} <= set(paths)
    assert set(paths) - {setting.path for setting in settings_in(RunSettings)} == {"reward"}
