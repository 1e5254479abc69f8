"""Data sets of the hub: names, a small hub on the loopback, and everything that keeps one from being read.

The address of the hub and whether it is switched off are settled when its library is imported, so that each test reads
in a process of its own, which imports that library again.
"""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow
import pytest
from support.hub_server import Hub
from support.small_runs import in_child

from trueup.errors import InputError
from trueup.feedback.tables import HubName, explained, hub_name, is_hub
from trueup.model_hub import commit_of

pytestmark = pytest.mark.slow

PAIR = {"chosen": "a", "prompt": "p", "rejected": "b"}
IMPORTED_AGAIN = ("trueup", "datasets", "huggingface_hub", "fsspec")
TOKEN = "hf_" + "aSecretThatNoLogMayShow"


def lines(*rows: dict[str, object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(*names: str, home: Path, **environment: str) -> list[dict[str, str]]:
    def body() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in IMPORTED_AGAIN]:
            del sys.modules[name]
        for name in [f"datasets.features.features.Array{number}DExtensionType" for number in range(2, 6)]:
            with suppress(KeyError):  # which `datasets` makes known as it is imported
                pyarrow.unregister_extension_type(name)
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
            del os.environ[name]
        os.environ.update({"HF_HOME": str(home), "HF_TOKEN": TOKEN} | environment)
        os.chdir(home)
        from trueup import model_hub
        from trueup.errors import InputError
        from trueup.feedback.read import read_feedback

        model_hub.DEADLINE = float(environment.get("DEADLINE", model_hub.DEADLINE))
        for name in names:
            start = time.monotonic()
            try:
                feedback = read_feedback([name])
                last = str(feedback.examples[-1].origin)
                told = {"lines": feedback.lines(), "sha256": feedback.files[0].sha256, "last": last}
            except InputError as error:
                told = {"error": str(error)}
            print(json.dumps({**told, "seconds": time.monotonic() - start}), file=sys.stderr)

    in_child(body, home / "said")
    said = (home / "said").read_text()
    assert TOKEN not in said
    assert "Traceback" not in said, said
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert len(found) == len(names), said
    assert all("\n" not in one.get("error", "") for one in found)
    return found


@pytest.fixture
def hub() -> Iterator[Hub]:
    repositories = {
        "ann/pairs": {"train.jsonl": lines(PAIR, PAIR, PAIR), "test.jsonl": lines(PAIR)},
        "ann/pairs@v1": {"train.jsonl": lines(PAIR, PAIR)},
        "ann/two": {
            "README.md": b"---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n"
            b"- config_name: two\n  data_files: two.jsonl\n---\n",
            "one.jsonl": lines(PAIR),
            "two.jsonl": lines(PAIR, PAIR),
        },
        "ann/script": {"script.py": b"raise SystemExit(9)", "train.jsonl": lines(PAIR)},
        "ann/torn": {"train.jsonl": lines(PAIR) + b'{"prompt'},
        "ann/nothing": {"README.md": b"# nothing\n"},
        "ann/other": {"train.jsonl": lines({"a": 1})},
    }
    failing = {"ann/gated": (403, "GatedRepo"), "ann/closed": (401, ""), "ann/broken": (500, "")}
    with Hub(repositories, failing).running() as running:
        yield running


def test_what_a_hub_has(hub: Hub, tmp_path: Path) -> None:
    """Read while the hub answers, then from the cache with the hub switched off."""
    commit = hub.commit("ann/pairs")
    pinned = f"hub:ann/pairs?revision={commit}&split=test&config=default"
    names = ("ann/pairs", "hub:ann/pairs?split=test", pinned, "ann/two?config=two")
    plain, part, at, two = read(*names, home=tmp_path, HF_ENDPOINT=hub.address)
    assert plain["lines"] == ["ann/pairs: TRL pairs, 3 rows, 3 comparisons"]
    assert plain["last"] == "ann/pairs:3"
    assert plain["sha256"] == hashlib.sha256(lines(PAIR, PAIR, PAIR)).hexdigest()
    assert part["lines"] == ["hub:ann/pairs?split=test: TRL pairs, 1 row, 1 comparison"]
    assert at["lines"] == [f"{pinned}: TRL pairs, 1 row, 1 comparison"]
    assert at["sha256"] == part["sha256"] == hashlib.sha256(lines(PAIR)).hexdigest()
    assert two["lines"] == ["ann/two?config=two: TRL pairs, 2 rows, 2 comparisons"]
    assert hub.tokens == {"", f"Bearer {TOKEN}"} or hub.tokens == {f"Bearer {TOKEN}"}

    again = read(*names, "ann/two", "ann/absent", home=tmp_path, HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
    kept = [plain["sha256"], part["sha256"], None, two["sha256"], None, None]
    assert [one.get("sha256") for one in again] == kept
    off = "the hub is switched off (HF_HUB_OFFLINE), and"
    assert f"{off} the cache may hold another revision" in again[2]["error"]
    assert f"{off} the cache holds the configuration 'two', perhaps of several" in again[4]["error"]
    assert again[4]["error"].endswith("; give one, as in ?config=two")
    assert again[5]["error"].startswith(f"ann/absent: no such file, and {off}")
    read("ann/pairs?revision=v1", home=tmp_path, HF_ENDPOINT=hub.address)
    (several,) = read("ann/pairs", home=tmp_path, HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")
    versions = sorted([commit[:12], hub.commit("ann/pairs@v1")[:12]])
    assert several["error"] == (
        f"ann/pairs: {off} the cache holds it at {', '.join(versions)}; switch the hub on, or give the files themselves"
    )


REFUSED = {
    "ann/absent": "ann/absent: no such file, and the hub has no such data set, or it is private; check the id",
    "hub:ann/absent": "hub:ann/absent: the hub has no such data set, or it is private",
    "hub:ann/pairs?split=dev": "there is no split 'dev'; it has train, test: give one, as in ?split=train",
    "ann/two": "ann/two: it has the configurations 'one', 'two'; give one of them, as in ?config=NAME",
    "ann/two?config=three": "it has the configurations 'one', 'two'; give one of them",
    "ann/pairs?revision=v9": "the data set has no revision 'v9'; give a branch, a tag or a commit",
    "ann/script": "is read by a Python script of its own, which is never run; the hub may have it as Parquet: ?re",
    "ann/torn": "ann/torn: the data set cannot be read (ArrowInvalid: JSON parse error",
    "ann/nothing": "ann/nothing: the data set cannot be read (EmptyDatasetError",
    "ann/other": "ann/other:1: no known layout has the keys of this row (a)",
    "ann/gated": "ann/gated: access to this data set is restricted; ask for it on its page, then log in with `hf auth",
    "ann/closed": "ann/closed: the hub refuses it (HTTP status 401); log in",
    "ann/broken": "the hub answered with HTTP status 500; check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 reads",
}


def test_what_a_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    said = read(*REFUSED, home=tmp_path, HF_ENDPOINT=hub.address)
    for (name, message), one in zip(REFUSED.items(), said, strict=True):
        assert message in one["error"], one
        assert one["error"].startswith(name)


def test_revisions(hub: Hub, tmp_path: Path) -> None:
    old = hub.commit("ann/pairs@v1")
    names = ("ann/pairs", "ann/pairs?revision=v1", f"ann/pairs?revision={old}", "ann/pairs?revision=main")
    said = read(*names, home=tmp_path, HF_ENDPOINT=hub.address)
    assert [one["lines"] for one in said] == [
        [f"{name}: TRL pairs, {rows} rows, {rows} comparisons"] for name, rows in zip(names, (3, 2, 2, 3), strict=True)
    ]


def test_an_older_copy_does_not_take_the_place_of_what_was_asked_for(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "ann" / "pairs").mkdir(parents=True)
    # Nor does a folder of the same name.
    (tmp_path / "ann" / "pairs" / "train.jsonl").write_bytes(lines(PAIR))
    old = hub.commit("ann/pairs")[:12]
    (said,) = read("hub:ann/pairs", home=tmp_path, HF_ENDPOINT=hub.address)
    assert said["lines"] == ["hub:ann/pairs: TRL pairs, 3 rows, 3 comparisons"]
    hub.repositories["ann/pairs"] = {"README.md": b"# all gone\n"}
    (said,) = read("hub:ann/pairs", home=tmp_path, HF_ENDPOINT=hub.address)
    new = hub.commit("ann/pairs")[:12]
    assert f"there are no data at its commit {new}; the cache holds it at {old}" in said["error"]


@pytest.mark.parametrize("listening", [False, True], ids=["refused", "silent"])
def test_no_network_is_said_within_seconds(tmp_path: Path, listening: bool) -> None:
    """No server listens at the address, or one that never answers."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if listening:
            deaf.listen()
        address = f"http://ann:pass-word@127.0.0.1:{deaf.getsockname()[1]}"
        said = read("ann/pairs", "hub:ann/pairs", home=tmp_path, HF_ENDPOINT=address, DEADLINE="1")
    for one, start in zip(said, ("ann/pairs: no such file, and the hub", "hub:ann/pairs: the hub"), strict=True):
        assert one["error"].startswith(f"{start} cannot be reached (")
        assert "HF_HUB_OFFLINE=1" in one["error"]
        assert "pass-word" not in one["error"]
    assert float(said[1]["seconds"]) < 30  # on a busy machine
    assert float(said[0]["seconds"]) < 60  # with imports


def test_switched_off_is_said_within_seconds(tmp_path: Path) -> None:
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        (said,) = read("hub:ann/pairs", home=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", **{switch: "1"})
        assert said["error"].startswith("hub:ann/pairs: the hub is switched off (HF_HUB_OFFLINE), and the cache holds")
        assert float(said["seconds"]) < 60  # with imports, on a busy machine


def test_a_look_up_without_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a timeout of the connection does not bound, such as the look-up of the host's address."""
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: time.sleep(20))
    monkeypatch.setattr("trueup.model_hub.DEADLINE", 0.1)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        commit_of("dataset", "ann/pairs", None)
    assert time.monotonic() - start < 15


def test_secrets_in_the_words_of_a_library_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("trueup.model_hub.is_offline", lambda: False)
    error = ValueError("went wrong")
    error.__cause__ = ValueError(f"at https://ann:pass-word@hub.example/x\nwith Bearer {TOKEN}")
    assert explained(hub_name("hub:ann/pairs"), error).startswith(
        "hub:ann/pairs: the data set cannot be read (ValueError: at https://***@hub.example/x with Bearer ***); "
    )


@pytest.mark.usefixtures("here")
class TestNames:
    def test_what_a_name_asks_for(self) -> None:
        full = "hub:a/b-2.0_x?split=test&config=en&revision=refs/convert/parquet"
        assert hub_name(full) == HubName(full, "a/b-2.0_x", "test", "en", "refs/convert/parquet")
        assert hub_name("a/b") == HubName("a/b", "a/b", "train", None, None)
        assert hub_name("hub:imdb").id == "imdb"

    @pytest.mark.parametrize("name", ["a/b", "a/b?split=test", "Ann-1/b.c", "hub:a/b", "hub:b", "hub:no such"])
    def test_names_of_the_hub(self, name: str) -> None:
        assert is_hub(name)

    @pytest.mark.parametrize(
        "name",
        [
            *("b", "a/b/c", "./a/b", "../b", "/a/b", ".a/b", "a/.b", "a b/c", "a/b\n", "world:pairs", ""),
            *("a/b.jsonl", "a/b.JSONL.gz", "a/b.csv", "a/b.parquet", "a/b.zst", "a/b.txt"),
        ],
    )
    def test_paths(self, name: str) -> None:
        assert not is_hub(name)

    def test_what_is_here_goes_before_the_hub(self) -> None:
        Path("a").mkdir()
        assert not is_hub("a/b")  # in a folder that is here, it is a file that is not
        assert is_hub("hub:a/b")
        Path("a/b").touch()
        assert not is_hub("a/b")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("hub:", r"^'hub:': not the id of a data set; write hub:OWNER/NAME\?split=train$"),
            ("hub:../etc", "not the id of a data set"),
            ("hub:a/b/c", "not the id of a data set"),
            ("hub:a/b?spilt=x", r"^'hub:a/b\?spilt=x': unknown key 'spilt'; did you mean 'split'\?$"),
            ("a/b?xyzzy=1", r"unknown key 'xyzzy' \(known: split, config, revision\)$"),
            ("a/b?split=x&split=y", "split must be given once, with a value"),
            ("a/b?split=", "split must be given once, with a value"),
        ],
    )
    def test_mistakes(self, name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            hub_name(name)
