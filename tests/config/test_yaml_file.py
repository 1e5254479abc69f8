"""YAML is read as plain values, and every fault is named with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.refusals import refused

from trueup.config.layers import read_yaml
from trueup.errors import InputError

Write = Callable[[str], Path]


def test_values_and_lines(yaml: Write) -> None:
    values, lines = read_yaml(yaml("# a run\nbeta: 0.1\nreference:\n  alpha: 5e-1\nrun_name: \u00fcber 2026-01-01\n"))
    assert values == {"beta": 0.1, "reference": {"alpha": "5e-1"}, "run_name": "\u00fcber 2026-01-01"}
    assert lines == {"beta": 2, "reference": 3, "reference.alpha": 4, "run_name": 5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("010", "010"), ("-017", "-017"), ("0x1F", "0x1F"), ("0b11", "0b11"),
        ("1_000", "1_000"), ("5e-7", "5e-7"), (".1e", ".1e"), ("'3'", "3"),
        ("0", 0), ("-3", -3), ("+3", 3), ("10", 10), ("0.10", 0.1), (".5", 0.5), ("3.", 3.0), ("5.0e-7", 5e-7),
        (".inf", float("inf")), ("-.INF", -float("inf")),
        ("no", False), ("On", True), ("~", None), ("null", None), ("n", "n"),
    ],
)  # fmt: skip
def test_only_decimals_are_numbers(yaml: Write, text: str, value: object) -> None:
    """To YAML 1.1, 1:30 is 90, 010 is 8 and 0x1F is 31; what such a text means is for its setting to say."""
    (found,) = read_yaml(yaml(f"a: {text}"))[0].values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_gives_nothing(yaml: Write, text: str) -> None:
    assert read_yaml(yaml(text))[0] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beta: 1\nseed: 2\nbeta: 3\n", r":3: beta is given twice, first in line 1$"),
        ("reference: {alpha: 1, alpha: 2}", r":1: reference.alpha is given twice"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", r":2: the tag !!python/object/apply:os.system"),
        ("b: [1, !mine 2]", r":1: the tag !mine is not allowed; give a plain value$"),
        ("a: !!binary aGk=", r":1: the tag !!binary is not allowed"),
        ("a: &x {b: 1}\nc: *x\n", r":2: not YAML: aliases are not read; write the value out$"),
        ("a: [1\nb: 2\n", r":2: not YAML: expected ',' or '\]'"),
        ("\tb: 1", r":1: not YAML: found character"),
        ("1: 2", r":1: a key must be text; got '1'$"),
        ("? [a]\n: 2", r":1: a key must be text; got a list or a mapping$"),
        ("on: 2", r":1: a key must be text; got 'on'$"),
        ("- a\n- b\n", r": a file of settings is a mapping, as in 'beta: 0.1'; found a list$"),
        ("just words", r"found a single value, 'just words'$"),
        ("a: 1\n---\nb: 2\n", r":2: not YAML: but found another document$"),
        (f"a: {'[' * 3000}{']' * 3000}", r": nested too deeply for settings$"),
        ("a: \x00", r": not YAML: unacceptable character"),
    ],
)
def test_a_fault_is_named(yaml: Write, text: str, message: str) -> None:
    path = yaml(text)
    with pytest.raises(InputError, match=message) as refusal:
        read_yaml(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"run_name: caf\xe9\n")
    with refused(r"latin.yaml: not UTF-8 \(byte 13\); save it as UTF-8$"):
        read_yaml(path)
