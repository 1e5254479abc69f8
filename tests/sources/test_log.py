"""The log of rounds: whole or not at all, read back as it was written, cut to what is vouched for."""

import json
import os
import random
from pathlib import Path

import pytest
from support.malformed_rows import with_accidents

from trueup.errors import CheckpointError, InputError
from trueup.feedback.records import Comparison, Example, Message, Prompt, Response
from trueup.sources.log import RoundLog, read_log

DEEP = "[" * 9999

FIRST = (
    Example(Prompt("a\u2028b"), (Response("x", score=0.1 + 0.2, tokens=(3, 1)), Response("y", score=1e-17))),
    Example(Prompt((Message("user", "hi"),)), (Response("1"), Response("2")),
        (Comparison(1, 0, 0.7000000000000001),)),
)  # fmt: skip
SECOND = (Example(Prompt("c"), (Response("z", label=1.0),)),)


def bare(examples: tuple[Example, ...]) -> list[object]:
    return [(one.prompt.content, one.responses, one.comparisons) for one in examples]


def test_rounds_come_back_as_they_were(tmp_path: Path) -> None:
    log = RoundLog(tmp_path)
    made = log.add(1, 3, 8, FIRST, {"online/score": 0.25})
    log.add(2, 3, 8, (), {})
    log.add(3, 3, 4, SECOND, {})
    assert bare(made.examples) == bare(FIRST)
    again = RoundLog(tmp_path)
    assert again.rounds == log.rounds
    assert [bare(one.examples) for one in again.rounds.values()] == [bare(FIRST), [], bare(SECOND)]
    assert again.rounds[1].metrics == {"online/score": 0.25}
    assert [str(one.origin) for one in again.rounds[3].examples] == ["examples.jsonl:3"]


def test_a_replay_reads_rounds_and_their_sizes(tmp_path: Path) -> None:
    log = RoundLog(tmp_path)
    log.add(1, 3, 8, FIRST, {})
    log.add(3, 3, 4, SECOND, {})
    replayed = read_log(str(tmp_path / "examples.jsonl"))
    assert {number: bare(made) for number, made in replayed.rounds.items()} == {1: bare(FIRST), 3: bare(SECOND)}
    assert replayed.count == 3 and replayed.prompts == {1: 8, 3: 4}


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_what_is_torn_is_cut_off(tmp_path: Path, cut: int) -> None:
    """A process killed at any byte of the second round leaves the first one, and the second can be written again."""
    log = RoundLog(tmp_path)
    log.add(1, 2, 8, FIRST, {})
    files = (tmp_path / "examples.jsonl", tmp_path / "rounds.jsonl")
    before = [file.stat().st_size for file in files]
    log.add(2, 2, 8, SECOND, {"x": 1.0})
    whole = [file.read_bytes() for file in files]
    grown = [file.stat().st_size - size for file, size in zip(files, before, strict=True)]
    if cut >= sum(grown):
        return
    for file, size, more in zip(files, before, (min(cut, grown[0]), max(0, cut - grown[0])), strict=True):
        os.truncate(file, size + more)
    again = RoundLog(tmp_path)
    assert list(again.rounds) == [1]
    assert [file.stat().st_size for file in files] == before
    again.add(2, 2, 8, SECOND, {"x": 1.0})
    assert [file.read_bytes() for file in files] == whole
    assert RoundLog(tmp_path).rounds == again.rounds


@pytest.mark.parametrize("seed", range(40))
def test_whatever_value_of_either_file_is_another_is_named(seed: int, tmp_path: Path) -> None:
    """Or is without effect, as a key that nothing reads; nothing is believed that was not written."""
    chance = random.Random(seed)
    log = RoundLog(tmp_path)
    for number, examples in ((1, FIRST), (2, SECOND)):
        log.add(number, 2, 8, examples, {"x": 1.0, "y": 2.0})
    file = chance.choice((log.examples, log.index))
    lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    place = chance.randrange(len(lines))
    row = json.loads(lines[place])
    lines[place] = chance.choice((DEEP, json.dumps(with_accidents(row, chance))))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        assert RoundLog(tmp_path).rounds == log.rounds
    except CheckpointError as error:
        assert log.examples.name in str(error) or log.index.name in str(error)
    for content in (DEEP, '{"round": {"number": 1e999, "of": 2, "prompts": 1}}'):
        file.write_text(content + "\n")
        with pytest.raises(InputError, match="no round stands there"):
            read_log(str(file))


def test_a_full_disk_leaves_nothing_of_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RoundLog(tmp_path)
    log.add(1, 2, 8, FIRST, {})
    size = log.examples.stat().st_size

    def full(path: Path, content: bytes, durable: bool) -> None:
        with path.open("ab") as file:
            file.write(content[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trueup.files.append", full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            log.add(2, 2, 8, SECOND, {})
    assert log.examples.stat().st_size == size and list(log.rounds) == [1]
    log.add(2, 2, 8, SECOND, {})
    assert RoundLog(tmp_path).rounds == log.rounds
