"""Judgements on disk: found again by content, whole after a kill, shared by processes, never trusted when damaged."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from trueup.annotators.asker import judgement_cache, judgement_key
from trueup.errors import InputError

ANSWER = {"text": "1", "top": [["1", -0.25], ["2", -1.5]], "cut_off": False}
ASKED = [{"role": "user", "content": "Which?"}]
REQUEST = {"model": "judge", "messages": ASKED, "temperature": 0, "max_tokens": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "judgements.sqlite"


def test_an_answer_is_found_again(path: Path, told: list[str]) -> None:
    cache = judgement_cache(path)
    assert cache.get("k") is None
    cache.put("k", ANSWER)
    cache.put("other", {"text": "\ud800\n", "top": [["1", float("-inf")]], "cut_off": True})
    assert cache.get("k") == ANSWER
    cache.close()
    again = judgement_cache(path)
    assert again.get("k") == ANSWER
    assert again.get("other") == {"text": "\ud800\n", "top": [["1", float("-inf")]], "cut_off": True}
    again.put("k", {**ANSWER, "text": "2"})
    assert again.get("k") == {**ANSWER, "text": "2"}
    assert len(again) == 2
    assert not told


def test_a_key_is_made_of_all_that_an_answer_depends_on() -> None:
    def key(place: str = "host/v1", labels: tuple[str, str] = ("1", "2"), **changed: Any) -> str:
        return judgement_key(place, {**REQUEST, **changed}, labels)

    messages = [{"role": "user", "content": "Which? "}]
    keys = [
        *(key(), key(place="other/v1"), key(labels=("A", "B")), key(model="judge-2"), key(messages=messages)),
        *(key(temperature=0.5), key(max_tokens=16), key(logprobs=True)),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == judgement_key("host/v1", dict(reversed(REQUEST.items())), ("1", "2"))
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in keys)


WRITER = """
import sys
from pathlib import Path
from trueup.annotators.asker import judgement_cache
cache = judgement_cache(Path(sys.argv[1]))
number = 0
while number < int(sys.argv[3]):
    cache.put(f"{sys.argv[2]}-{number}", {"text": sys.argv[2], "number": number})
    number += 1
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_several_processes_write_at_once(path: Path, told: list[str]) -> None:
    """They also make the file at once."""
    processes = [writer(path, name, 50) for name in "abc"]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [output.split()[-1] for output in outputs] == ["50"] * 3
    cache = judgement_cache(path)
    assert len(cache) == 150
    for name, number in product("abc", range(50)):
        assert cache.get(f"{name}-{number}") == {"text": name, "number": number}
    assert not told


def test_a_process_that_is_killed_loses_nothing_it_was_told_is_kept(path: Path, told: list[str]) -> None:
    process = writer(path, "a", 1_000_000)
    assert process.stdout is not None
    number_told = 0
    while number_told < 40:
        number_told = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    number_told = max([number_told, *map(int, process.stdout.read().split())])
    process.wait(timeout=300)
    process.stdout.close()
    cache = judgement_cache(path)
    assert number_told <= len(cache) <= number_told + 1
    assert all(cache.get(f"a-{number}") == {"text": "a", "number": number} for number in range(number_told))
    assert not told


def filled(path: Path) -> None:
    cache = judgement_cache(path)
    for number in range(200):
        cache.put(f"{number:064d}", {**ANSWER, "number": number})
    cache.close()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "not a database": lambda whole: b"Lorem ipsum " * 400,
    "another beginning": lambda whole: b"garbage" * 10 + whole[70:],
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut in its first page": lambda whole: whole[:50],
    "pages of zeros": lambda whole: whole[:4096] + bytes(len(whole) - 4096),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_moved_aside(damage: str, path: Path, told: list[str]) -> None:
    filled(path)
    damaged = DAMAGE[damage](path.read_bytes())
    path.write_bytes(damaged)
    cache = judgement_cache(path)
    assert all(cache.get(f"{number:064d}") is None for number in range(200))
    cache.put("k", ANSWER)
    assert cache.get("k") == ANSWER
    assert len(told) == 1
    assert told[0].startswith(f"{path} is damaged (")
    assert "and is now judgements.sqlite.damaged-1; judgements are kept in a new file" in told[0]
    assert "\n" not in told[0]
    cache.close()
    path.write_bytes(b"Lorem ipsum " * 400)
    judgement_cache(path).close()
    kept = sorted((file.name[-1], file.read_bytes()) for file in path.parent.glob("*.damaged-?"))
    assert kept == [("1", damaged), ("2", b"Lorem ipsum " * 400)]


def test_a_file_that_is_damaged_while_it_is_open_is_replaced(path: Path, told: list[str]) -> None:
    filled(path)
    first, second = judgement_cache(path), judgement_cache(path)
    for cache in (first, second):
        assert cache.get(f"{0:064d}")
    for file in path.parent.glob("*-wal"):
        file.write_bytes(b"")
    path.write_bytes(b"Lorem ipsum " * 2000)
    first.put("k", ANSWER)
    second.put("l", ANSWER)  # as another process would: it leaves the new file alone
    assert first.get("k") == second.get("k") == first.get("l") == ANSWER
    assert [file.name for file in path.parent.glob("*.damaged-?")] == ["judgements.sqlite.damaged-1"]


def test_a_changed_byte_of_an_answer_is_seen(path: Path, told: list[str]) -> None:
    cache = judgement_cache(path)
    cache.put("k", ANSWER)
    cache.close()
    whole = path.read_bytes()
    assert whole.count(b"-0.25") == 1
    path.write_bytes(whole.replace(b"-0.25", b"-9.25"))
    cache = judgement_cache(path)
    assert cache.get("k") is None
    cache.put("k", ANSWER)
    assert cache.get("k") == ANSWER
    assert not told


def test_no_file_can_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "judgements.sqlite", tmp_path):
        with pytest.raises(InputError) as caught:
            judgement_cache(path)
        assert str(caught.value).startswith(f"{path}: judgements cannot be kept there: ")
        assert "TRUEUP_CACHE" in str(caught.value)
        assert "\n" not in str(caught.value)


FILLER = """
import resource, signal, sys
from pathlib import Path
from trueup.annotators.asker import judgement_cache
from trueup.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = judgement_cache(Path(sys.argv[1]))
cache.put("kept", {"text": "1"})
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    for number in range(1000): cache.put(str(number), {"text": "x" * 500})
except InputError as error: print(error, cache.get("kept"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file")
def test_a_full_disk_is_said(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=True)
    assert "judgements cannot be kept there: " in done.stdout
    assert done.stdout.endswith("annotator.cache false {'text': '1'}\n")
