"""What is read: models, names, settings, feedback, templates, with random values and random bytes in it."""

import gzip
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet
from support import small_runs
from support.judged_runs import one_line
from support.layout_rows import SOUND
from support.malformed_rows import with_accidents
from support.online_runs import REWARD, write_reward
from support.small_runs import command, options, settings
from support.tiny_models import CHATML, save_tiny_model

from trueup.config.resolve import run_settings
from trueup.methods import METHODS

SECONDS = 120
"""A command that takes longer is taken for one that never ends."""


def sitting(body: Callable[[], int | None]) -> tuple[int, str]:
    """The exit code of a function in a child process, and what it said to the standard error."""

    def quiet() -> int | None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends with it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return body()

    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "errors"
        code = small_runs.in_child(quiet, errors, SECONDS)
        return code, errors.read_text(errors="replace")


def ended(code: int, text: str, what: str) -> str:
    """How a command ended, which must be well or with one line."""
    if code == 0 and "Traceback" not in text:
        return "ended well"
    try:
        assert code in (2, 3, 4, 5, 6) and one_line(text)
    except AssertionError:
        raise AssertionError(f"{what}: exit code {code}: {text[-800:]}") from None
    return "refused in one line"


def _bit(file: Path, chance: Random) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _bytes(file: Path, chance: Random) -> None:
    content = file.read_bytes()
    start = chance.randrange(len(content) + 1)
    file.write_bytes(
        content[:start] + chance.randbytes(chance.randint(1, 40)) + content[start + chance.randint(0, 60) :]
    )


def _values(file: Path, chance: Random) -> None:
    """Other values in a line of JSON, or in all of it; in any other file some bytes."""
    try:
        text = file.read_text(encoding="utf-8").rstrip("\n")
        lines = text.split("\n") if file.suffix == ".jsonl" else [text]
        place = chance.randrange(len(lines))
        lines[place] = json.dumps(with_accidents(json.loads(lines[place]), chance))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except ValueError:
        _bytes(file, chance)


DAMAGE: dict[str, Callable[[Path, Random], object]] = {
    "a bit": _bit,
    "some bytes": _bytes,
    "values": _values,
    "cut": lambda file, chance: os.truncate(file, chance.randrange(file.stat().st_size + 1)),
    "emptied": lambda file, _: os.truncate(file, 0),
    "removed": lambda file, _: file.unlink(),
}


def _spoil_file(file: Path, chance: Random) -> None:
    """Random values in JSON and in the header of weights, random bytes in anything."""
    content = file.read_bytes()
    if chance.random() < 0.3:
        DAMAGE[chance.choice(sorted(DAMAGE))](file, chance)
    elif file.suffix == ".json":
        file.write_text(json.dumps(with_accidents(json.loads(content), chance)))
    elif file.suffix == ".safetensors":
        size = int.from_bytes(content[:8], "little")
        header = json.dumps(with_accidents(json.loads(content[8 : 8 + size]), chance)).encode()
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    else:
        _bytes(file, chance)


def models(base: Path) -> Path:
    """A model, feedback, a reward, and an adapter that was trained."""
    save_tiny_model(base / "model")
    (base / "model" / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.7}')
    data = small_runs.write_feedback(base, 8)
    write_reward(base)
    values = settings("dpo", base / "model", data, base / "first", steps=1, epochs=None, **{"lora.rank": 2})
    small_runs.run_here("dpo", values)
    condition = {"text": "{reward} ", "decimals": 1, "position": "start", "reward": 1.0}
    (base / "first" / "model" / "condition.json").write_text(json.dumps(condition))
    for name in ("inspect", "export", "sample"):  # what they import is then shared by all cases
        command(*_commands(base, base / "model", base / "pairs.jsonl")[name])
    return base


NAMES = (
    "y" * 300, "a\x00b", "", ".", "..", "~nobody-here/x", "/proc/self/mem", "/dev/null", "/dev/full", "/proc/1/x",
    "\x1b[2J", "\udcff", "-", "--output", "http://u:p@h/x", "hub:", "world:", "world:pairs?count=-1", "a/" * 2500,
    "x.jsonl?limit=x", "https://127.0.0.1:1/x", "%s", "model\u202e", "/", "//", "runs/../../..", "pairs.jsonl", "\n",
)  # fmt: skip
VALUES = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "9" * 30,
    "null",
    "[]",
    "{}",
    "\x00",
    "x" * 3000,
    "true",
    "1.5",
)
JUDGE = "Which is better?\n{{ prompt }}\n1: {{ first }}\n2: {{ second }}\n{{ instruction }}"
SETTINGS = [setting.path for setting in run_settings() if setting.path not in ("output", "threads")]


def _run(arguments: tuple[object, ...], folder: Path, what: str) -> str:
    def body() -> int:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (24 << 30, resource.RLIM_INFINITY))
        return command(*arguments)

    return ended(*sitting(body), what)


def _given(base: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """Options of a run of one step."""
    files = {"model": base / "model", "data": base / "pairs.jsonl", "output": folder / "run"}
    return {**files, "steps": 1, "batch_size": 2, **more}


def _commands(folder: Path, model: object, data: object) -> dict[str, tuple[object, ...]]:
    """Commands that read a model, with their arguments."""
    sampled = {"model": model, "data": data, "max_new_tokens": 3, "output": folder / "sampled.jsonl"}
    return {
        "inspect": ("inspect", data, "--model", model),
        "export": ("export", model, "--output", folder / "exported"),
        "sample": ("sample", *options(sampled)),
    }


def hostile(base: Path, folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """A model's or an adapter's folder with random values in its configuration, tokenizer or header of weights, names
    of files and values of settings that cannot be; in training, inspection, sampling and export."""
    given, command_name = _given(base, folder), "train"
    if number % 4 == 0:
        what = chance.choice(("data", "model", "output"))
        given[what] = chance.choice(NAMES)
    elif number % 4 == 1:
        what = chance.choice(SETTINGS)
        given[what] = chance.choice(VALUES)
    else:
        source = chance.choice(("model", "first/model"))
        given["model"] = shutil.copytree(base / source, folder / "model")
        file = chance.choice(sorted(path for path in (folder / "model").iterdir() if path.suffix != ".md"))
        _spoil_file(file, chance)
        what, command_name = f"{source}/{file.name}", chance.choice(("train", "inspect", "export", "sample"))
    arguments = {
        "train": ("train", chance.choice(("dpo", "sft")), *options(given)),
        **_commands(folder, given["model"], given["data"]),
    }
    about = f"{command_name}, {what}: {str(given.get(what, ''))[:99]!r}"
    return what, _run(arguments[command_name], folder, about)


def _feedback(rows: list[Any], form: str, file: Path) -> None:
    """Write rows in a form of file."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form in (".csv", ".tsv", ".parquet"):
        texts = [{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows]
        table = pyarrow.Table.from_pylist(texts)
        if form == ".parquet":
            with suppress(pyarrow.ArrowException, OverflowError):
                table = pyarrow.Table.from_pylist(rows)
            pyarrow.parquet.write_table(table, file)
        else:
            delimiter = "\t" if form == ".tsv" else ","
            pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(delimiter=delimiter))
    else:
        others = {".json": json.dumps(rows).encode(), ".jsonl.gz": gzip.compress(lines)}
        file.write_bytes(others.get(form, lines))


def read(base: Path, folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """Feedback of every layout as JSON lines, JSON, CSV, TSV, Parquet and gzip, and settings, chat templates, judges'
    templates and functions, with random values and random bytes in them."""
    given = _given(base, folder)
    form = chance.choice((".jsonl", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"))
    judged = {"data": given["data"], "output": folder / "judged.jsonl"}
    content, file = "", folder / "file"
    if number % 3:
        file, row = folder / f"rows{form}", chance.choice(SOUND)
        rows = [with_accidents(row, chance) if chance.random() < 0.5 else row for _ in range(4)]
        try:
            _feedback(rows, form, file)
        except (pyarrow.ArrowException, UnicodeEncodeError):  # such text is in no file of that form
            _feedback([row], form, file)
        commands: tuple[tuple[object, ...], ...] = (
            ("inspect", file),
            ("convert", file, "--to", "canonical", "--output", folder / "out.jsonl"),
            ("train", chance.choice(sorted(METHODS)), *options({**given, "data": file})),
        )
        kind, arguments, damaged = form, chance.choice(commands), chance.random() < 0.4
    else:
        kind, damaged = chance.choice(("settings", "chat template", "judge's template", "function")), True
        if kind == "settings":
            settings = {name: str(value) for name, value in given.items()} | {"reference": {"kind": "frozen"}}
            content = json.dumps(with_accidents({**settings, "lora": {"rank": 2}, "steps": 1}, chance))
            arguments, damaged = ("train", "dpo", "--config", file), chance.random() < 0.4
        elif kind == "chat template":
            content = CHATML
            arguments = ("train", "dpo", *options({**given, "chat": "true", "chat_template": file}))
        elif kind == "function":
            file, content = folder / "reward.py", REWARD
            arguments = ("annotate", *options({**judged, "annotator": f"function:{file}:variety"}))
        else:
            file, content = folder / "judge.jinja", JUDGE
            judge = {"annotator": f"local:{base / 'model'}", "annotator.template": file}
            arguments = ("annotate", *options({**judged, **judge}))
        file.write_text(content)
    if damaged:
        DAMAGE[chance.choice(("a bit", "some bytes", "cut"))](file, chance)
    return kind, _run(arguments, folder, f"{arguments[0]} {kind} {file.read_bytes()[:500]!r}")
