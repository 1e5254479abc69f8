"""`--shard` and `--merge`: what several processes wrote is what one would have written, or it is refused."""

import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import write
from support.small_runs import command, in_child

Captured = pytest.CaptureFixture[str]
ROWS = 150  # two whole units of 64 rows and a part of one
FUNCTIONS = """
import os, pathlib, signal

def words(prompt, response):
    if prompt == "p100" and pathlib.Path("stop").exists():
        pathlib.Path("stop").unlink()
        os.kill(os.getpid(), signal.SIGTERM)
    return len(response.split()) / 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: pairs of which every third is of two equal responses, a model's prompts, and a function."""
    rows = [
        {"prompt": f"p{at}", "chosen": "\u2028 two", "rejected": "\u2028 two" if at % 3 == 0 else "a b c"}
        for at in range(ROWS)
    ]
    write(tmp_path / "pairs.jsonl", rows)
    # Of the first unit most prompts leave no room for a response, so that what is judged does not begin where it does.
    write(tmp_path / "asked.jsonl", [{"prompt": f"say {at}:" * (40 if at < 50 else 1)} for at in range(140)])
    (tmp_path / "rewards.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(output: str, *more: object, data: str = "pairs.jsonl") -> int:
    return command("annotate", data, "--annotator", "rewards.py:words", "--output", output, *more)


def merge(*more: object, of: str = "annotate", output: str = "all.jsonl") -> int:
    return command(of, "--merge", *more, "--output", output)


@pytest.mark.parametrize(("count", "suffix"), [(1, ""), (2, ""), (3, ".gz"), (5, "")])
def test_judged_in_shards(count: int, suffix: str, folder: Path, capsys: Captured) -> None:
    assert judge(f"alone.jsonl{suffix}") == 0
    parts = [f"part{number}.jsonl{suffix}" for number in range(1, count + 1)]
    for number, part in enumerate(parts, start=1):
        assert judge(part, "--shard", f"{number}/{count}") == 0
    assert merge(*reversed(parts), output=f"all.jsonl{suffix}") == 0
    assert Path(f"all.jsonl{suffix}").read_bytes() == Path(f"alone.jsonl{suffix}").read_bytes()
    assert f"150 examples of {count} shard" in capsys.readouterr().err


def test_sampled_and_judged_in_shards(tiny_model: Path, folder: Path) -> None:
    """Seeds belong to the place of a prompt, and what is judged keeps the company that it has in one process."""
    options = ("--model", tiny_model, "--data", "asked.jsonl", "--max-new-tokens", 3, "--max-length", 60)
    options += ("--annotator", "rewards.py:words", "--best")
    assert command("sample", *options, "--output", "alone.jsonl") == 0
    for number in (1, 2):
        shard = ("--shard", f"{number}/2", "--output", f"part{number}.jsonl")
        assert command("sample", *options, *shard) == 0
    assert merge("part1.jsonl", "part2.jsonl", of="sample") == 0
    assert Path("all.jsonl").read_bytes() == Path("alone.jsonl").read_bytes()
    assert Path("all.jsonl").read_bytes().count(b"\n") == 90


def test_a_shard_that_is_stopped_is_refused_and_goes_on(folder: Path, capsys: Captured) -> None:
    assert judge("alone.jsonl") == 0
    assert judge("part1.jsonl", "--shard", "1/2") == 0
    (folder / "stop").touch()
    shard = ("--shard", "2/2")
    assert in_child(lambda: judge("part2.jsonl", *shard)) == 128 + signal.SIGTERM
    capsys.readouterr()
    for given in ("part2.jsonl", "part2.jsonl.part"):
        assert merge("part1.jsonl", given) == 2
        assert "not finished" in capsys.readouterr().err
    assert judge("part2.jsonl", "--shard", "1/2") == 2
    assert "other settings (shard)" in capsys.readouterr().err
    assert judge("part2.jsonl", *shard) == 0
    assert merge("part1.jsonl", "part2.jsonl") == 0
    assert Path("all.jsonl").read_bytes() == Path("alone.jsonl").read_bytes()


def edited(name: str, **more: Any) -> None:
    first, *rest = Path(name).read_text().splitlines(keepends=True)
    Path(name).write_text("".join([json.dumps({**json.loads(first), **more}) + "\n", *rest]))


def test_what_does_not_belong_together_is_refused(folder: Path, capsys: Captured) -> None:
    for name, shard, *more in (
        ("a", "1/2"), ("b", "2/2"), ("third", "2/3"), ("noisy", "2/2", "--seed", 3), ("short", "2/2"),
        ("cut", "2/2"), ("longer", "2/2"), ("days", "2/2"), ("early", "1/2"), ("gap", "2/2"),
    ):  # fmt: skip
        if name == "short":
            write(folder / "few.jsonl", [{"prompt": "p", "chosen": "x", "rejected": "y"}] * 70)
            assert judge(name + ".jsonl", "--shard", shard, data="few.jsonl") == 0
        else:
            assert judge(name + ".jsonl", "--shard", shard, *more) == 0
    lines = Path("cut.jsonl").read_text().splitlines(keepends=True)
    Path("cut.jsonl").write_text("".join(lines[:-1]))
    Path("longer.jsonl").write_text("".join([*lines, lines[-1]]))
    edited("days.jsonl", day="2026-01-02")
    edited("early.jsonl", day="2026-01-01")
    edited("gap.jsonl", rows=[128, 150, 150])
    (folder / "zip.jsonl.gz").write_bytes(gzip.compress(Path("b.jsonl").read_bytes())[:-9])
    cases: tuple[tuple[tuple[str, ...], str], ...] = (
        ((), "--merge needs the files of all shards: trueup annotate --merge PART"),
        (("a.jsonl",), "2/2 of the 2 shards is not given"),
        (("a.jsonl", "a.jsonl", "b.jsonl"), "a.jsonl and a.jsonl are both shard 1/2. Give each shard once"),
        (("a.jsonl", "third.jsonl"), "a.jsonl is shard 1/2 and third.jsonl is 2/3: they overlap"),
        (("a.jsonl", "noisy.jsonl"), "a.jsonl and noisy.jsonl were made with other settings (seed)"),
        (("a.jsonl", "short.jsonl"), "a.jsonl and short.jsonl were made with another input"),
        (("a.jsonl", "cut.jsonl"), "cut.jsonl is damaged"),
        (("a.jsonl", "longer.jsonl"), "longer.jsonl is damaged"),
        (("a.jsonl", "zip.jsonl.gz"), "zip.jsonl.gz"),
        (("early.jsonl", "days.jsonl"), "of several days (1/2 of 2026-01-01, 2/2 of 2026-01-02)"),
        (("a.jsonl", "gap.jsonl"), "do not hold each row once"),
        (("a.jsonl", "pairs.jsonl"), "pairs.jsonl is not a file of trueup annotate --shard"),
        (("a.jsonl", "nowhere.jsonl"), "nowhere.jsonl: "),
        (("a.jsonl", "b.jsonl", "--seed", "1"), "--seed: the shards' files say what they were made with"),
    )
    capsys.readouterr()
    for given, told in cases:
        assert merge(*given) == 2, given
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1, (given, said)
        assert not Path("all.jsonl").exists()
    assert merge("a.jsonl", "b.jsonl", of="sample") == 2
    assert "a.jsonl is a shard of trueup annotate; put its shards together by" in capsys.readouterr().err
    for shard in ("0/4", "5/4", "3", "1/0", "x/y", "-1/4"):
        assert judge("c.jsonl", f"--shard={shard}") == 2
        assert "shard must be which share of how many, as in 3/16" in capsys.readouterr().err
    assert merge("a.jsonl", "b.jsonl") == 0 and merge("a.jsonl", "b.jsonl") == 2
    assert merge("a.jsonl", "b.jsonl", "--overwrite") == 0
    assert os.path.getsize("all.jsonl") > 1000
