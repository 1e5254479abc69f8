"""Training from Python: what is taken beside files, what is sealed of it, and what packages add."""

import json
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.online_runs import write_prompts
from support.package_copies import run_python
from support.small_runs import KIND, at_step, command, model_bytes, rows_of, write_feedback

import trueup
from trueup.errors import Stopped
from trueup.python_objects import identity_of

ROOT = Path(__file__).parents[2]
SHORT = {"batch_size": 4, "learning_rate": 3e-3, "seed": 1, "quiet": True}


def brevity(prompt: str, response: str) -> float:
    return -len(response)


@pytest.mark.parametrize("method", ["dpo", "kto", "rrhf", "sft", "ulma"])
def test_rows_in_memory_train_as_their_file_does(method: str, tiny_model: Path, tmp_path: Path) -> None:
    """As a list of dicts, as a data set, in two parts, and as a part of a mixture."""
    file = write_feedback(tmp_path)[KIND[method]]
    rows = rows_of(file)
    given: dict[str, Any] = {"file": file, "list": rows, "parts": [rows[:9], rows[9:]]}
    if method != "ulma":  # whose rows have other keys in each
        given |= {"dataset": datasets.Dataset.from_list(rows), "mixture": [{"path": rows, "weight": 1}]}
    made = {}
    for name, data in given.items():
        result = trueup.train(method, model=tiny_model, data=data, output=tmp_path / name, epochs=1, **SHORT)
        made[name] = model_bytes(tmp_path / name)
        assert [row["step"] for row in result.history] == list(range(1, result.steps + 1))
        assert result.model == tmp_path / name / "model" and result.evaluation == {}
    assert all(one == made["file"] for one in made.values())


def test_what_is_held_out(tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_of(write_feedback(tmp_path)["pairs"])
    result = trueup.train(
        "dpo", model=tiny_model, data=rows[:16], eval_data=rows[16:], output=tmp_path / "run", epochs=1,
        **SHORT,
    )  # fmt: skip
    assert result.evaluation["eval_loss"] == result.history[-1]["eval_loss"]
    assert all(name.startswith("eval_") for name in result.evaluation)


def interrupted(folder: Path, **given: Any) -> None:
    def stop(policy: object) -> None:
        raise Stopped("SIGTERM")

    with at_step(3, stop), pytest.raises(Stopped):
        trueup.train(output=folder, steps=6, save_every=2, **{**SHORT, **given})


def test_a_run_goes_on_where_its_objects_are(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """In this process with nothing given; in another with the same, and with nothing else."""
    rows, other = (rows_of(write_feedback(tmp_path)["pairs"]), rows_of(write_feedback(tmp_path, seed=5)["pairs"]))
    given: dict[str, Any] = {"method": "dpo", "model": tiny_model, "data": rows}
    trueup.train(output=tmp_path / "full", steps=6, save_every=2, **SHORT, **given)
    interrupted(tmp_path / "run", **given)
    (line,) = [one for one in told if "of this process" in one and "run" in one][-1:]
    assert re.search(r"python:data-\w{12}: of this process", line)
    assert any("go on with: trueup.resume('" in one for one in told)

    held = dict(trueup.python_objects._held)  # type: ignore[attr-defined]  # as another process has it: empty
    monkeypatch.setattr("trueup.python_objects._held", {})
    with pytest.raises(
        trueup.InputError, match=r"python:data-\w{12} is neither of this process nor of a package; a run"
    ):
        trueup.resume(tmp_path / "run", quiet=True)
    with pytest.raises(trueup.InputError, match="data cannot change when a run is resumed"):
        trueup.resume(tmp_path / "run", data=other, quiet=True)
    assert command("train", "dpo", "--resume", tmp_path / "run") == 2
    monkeypatch.setattr("trueup.python_objects._held", held)
    trueup.resume(tmp_path / "run", quiet=True)
    assert model_bytes(tmp_path / "run") == model_bytes(tmp_path / "full")


def test_a_function_judges_and_is_sealed(tiny_model: Path, tmp_path: Path) -> None:
    """Named or not, as reward or annotator; another one is refused, unless the change is accepted."""
    online = {"model": tiny_model, "prompts": rows_of(write_prompts(tmp_path)), "source": "online"}
    online |= {"sampler": {"responses": 2, "max_new_tokens": 4}}
    far = {"method": "rrhf", **online}
    trueup.train(output=tmp_path / "full", steps=6, save_every=2, **SHORT, **far, reward=brevity)
    for name, given in {"reward": {"reward": brevity}, "annotator": {"annotator": brevity}}.items():
        interrupted(tmp_path / name, **far, **given)
        trueup.resume(tmp_path / name, quiet=True)
        assert model_bytes(tmp_path / name) == model_bytes(tmp_path / "full")

    limit = 3
    interrupted(tmp_path / "run", **far, reward=lambda prompt, response: min(limit, len(response)))
    limit = 4
    with pytest.raises(trueup.InputError, match=r"annotator.function python:lambda \(was '\w+', is '\w+'\)"):
        trueup.resume(tmp_path / "run", reward=lambda prompt, response: min(limit, len(response)), quiet=True)
    trueup.resume(tmp_path / "run", reward=lambda _, response: len(response), accept_changed=True, quiet=True)


def shorter(prompt: str, first: str, second: str) -> float:
    return (1 + (len(first) < len(second)) - (len(first) > len(second))) / 2


class Scale:
    """Judges as `brevity` does, by something that it holds."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, prompt: str, response: str) -> float:
        return -len(response) / self.by

    def longer(self, prompt: str, response: str) -> float:
        return -self(prompt, response)


def test_a_function_of_two_responses_compares(tiny_model: Path, tmp_path: Path) -> None:
    """Called in both orders; a run learns from it as from scores that say the same, and goes on with it."""
    given: dict[str, Any] = {"method": "dpo", "model": tiny_model, "source": "online"}
    given |= {"prompts": rows_of(write_prompts(tmp_path)), "sampler": {"responses": 2, "max_new_tokens": 4}}
    trueup.train(output=tmp_path / "scored", steps=6, save_every=2, **SHORT, **given, annotator=brevity)
    interrupted(tmp_path / "run", **given, annotator=shorter)
    trueup.resume(tmp_path / "run", quiet=True)
    assert model_bytes(tmp_path / "run") == model_bytes(tmp_path / "scored")
    interrupted(tmp_path / "other", **given, annotator=shorter)
    with pytest.raises(trueup.InputError, match=r"annotator.function python:shorter \(was '\w+', is '\w+'\)"):
        trueup.python_objects.hold("shorter", brevity, judges=True)  # type: ignore[attr-defined]
        trueup.resume(tmp_path / "other", quiet=True)


CHANGED: dict[str, tuple[Any, Any]] = {
    "what it holds": (Scale(1), Scale(2)), "the object of a method": (Scale(1).longer, Scale(2).longer),
    "a method": (Scale(1).longer, Scale(1).__call__), "what is filled in": (partial(min, 1), partial(min, 2)),
    "what it calls": (lambda prompt, response: len(response), lambda prompt, response: sum(response)),
    "a function within": (lambda prompt, _: [1 for _ in prompt], lambda prompt, _: [2 for _ in prompt]),
    "a default": (eval("lambda p, r, *, by=1: by"), eval("lambda p, r, *, by=2: by")),
    "a list around it": tuple((lambda words: lambda _, r: r in words)([word]) for word in "ab"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_no_change_of_a_function_goes_unseen(what: str) -> None:
    one, other = (identity_of(function) for function in CHANGED[what])
    assert one != other and one == identity_of(CHANGED[what][0])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a model object": ({"model": object()},
        "model: a object in memory is not taken, as a run that can be resumed reads its files. Save"),
    "a method uncalled": ({"method": trueup.methods.dpo},
        "give trueup.methods.dpo(beta=0.1), for example, or its name"),
    "another method": ({"method": "dop"}, "dop is not a method; did you mean dpo?"),
    "a number": ({"data": 3}, "data: a int is not taken. Give files, a list of dicts or a datasets.Dataset"),
    "several splits": ({"data": datasets.DatasetDict()},
        "data: a DatasetDict is not taken. Give files, a list of dicts"),
    "an iterator": ({"data": iter([])}, "data: a list_iterator is not taken. Give files"),
    "no rows": ({"data": datasets.Dataset.from_list([])}, "data: there are no rows; give at least one"),
    "bytes": ({"data": [{"prompt": b"a"}]},
        "data: row 1 is no dict of texts, numbers, lists and dicts (Object of type"),
    "another layout": ({"data": [{"a": 1}]}, ":1: no known layout has the keys of this row (a)"),
    "a wrong function": ({"reward": lambda prompt: 1},
        "reward: lambda cannot be called with a prompt and a response"),
    "a function of four": ({"annotator": lambda a, b, c, d: 1},
        "to return a score (missing a required argument: 'c'); nor with two, to compare them"),
    "a reward that compares": ({"reward": shorter},
        "reward: shorter cannot be called with a prompt and a response"),
    "an unknown setting": ({"bta": 1}, "bta is not a setting of method dpo or of a run; did you mean beta?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line(case: str, tiny_model: Path, tmp_path: Path) -> None:
    changed, message = REFUSED[case]
    pairs = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    values = {"method": "dpo", "model": tiny_model, "data": pairs, "output": tmp_path / "run", **changed}
    with pytest.raises(trueup.InputError) as refusal:
        trueup.train(**values)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


PACKAGE = {
    "mypackage/__init__.py": "",
    "mypackage/method.py": """
from trueup.methods import kinds
from trueup.objectives.dpo import dpo

@kinds.method(name="mine", title="Mine", formula="DPO's", feedback=kinds.PAIRS, defaults={"learning_rate": 1e-3},
              least_responses=2)
def mine(*, beta: kinds.Beta = 0.1, reference: kinds.AnyReference = kinds.Frozen()) -> kinds.Method:
    return kinds.pairwise(kinds.with_settings(dpo, beta=beta), reference)
""",
    "mypackage/layout.py": """
from trueup.feedback.layouts import shapes

TICKETS = shapes.pairs("tickets", shapes.written("ticket", "kept", "binned"))
""",
    "mypackage/rewards.py": "def brevity(prompt, response):\n    return -len(response)\n",
    "mypackage-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: mypackage\nVersion: 1.5\n",
    "mypackage-1.5.dist-info/entry_points.txt": "[trueup.methods]\nmine = mypackage.method\n[trueup.layouts]\n"
    "tickets = mypackage.layout:TICKETS\n[trueup.annotators]\nbrevity = mypackage.rewards:brevity\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package that adds a method, a layout and an annotator, as an installer leaves it."""
    for name, text in PACKAGE.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    return tmp_path / "site"


def commands(package: Path, *several: Sequence[object]) -> list[tuple[int, str]]:
    """Code and output of commands in one process that has the package."""
    code = f"""
import contextlib, io, json
from trueup.cli.app import run
for arguments in {[list(map(str, one)) for one in several]!r}:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        code = run(arguments)
    print(json.dumps([code, said.getvalue()]))
"""
    done = run_python(package, code)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_what_a_package_adds(package: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Listed with its package, used on the command line, and refused on resume where its code has changed."""
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps({"ticket": f"t {n}", "kept": " a", "binned": " b"}) + "\n" for n in range(8)))
    mine, far = f"train mine --model {tiny_model}", f"train rloo --model {tiny_model}"
    run = f"{mine} --data {data} --output {tmp_path / 'run'} --steps 4 --batch-size 4 --save-every 1".split()
    far += f" --prompts {write_prompts(tmp_path)} --steps 1 --batch-size 2 --sampler.max-new-tokens 3"
    online = [*far.split(), "--reward", "python:brevity", "--output", tmp_path / "online"]
    unknown = [*far.split(), "--reward", "python:brevty", "--output", tmp_path / "x"]
    listed, trained, judged, wrong = commands(package, ["methods"], run, online, unknown)
    assert re.search(r"^mine  Mine\n  package    mypackage 1.5$", listed[1], re.MULTILINE)
    assert (trained[0], judged[0]) == (0, 0), (trained[1], judged[1])
    assert "tickets, 8 rows, 8 comparisons" in trained[1]
    assert wrong[0] == 2 and "nor of a package; did you mean brevity?" in wrong[1]
    sealed = json.loads((tmp_path / "run" / "sealed.json").read_text())
    assert sealed["the code of mine"]
    assert json.loads((tmp_path / "online" / "sealed.json").read_text())["annotator.function python:brevity"]

    before = model_bytes(tmp_path / "run")
    (tmp_path / "run" / "status.json").write_text('{"state": "stopped", "step": 3, "steps": 4}')
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    again = ["train", "mine", "--resume", tmp_path / "run"]
    (tmp_path / "elsewhere").mkdir()
    assert commands(tmp_path / "elsewhere", again)[0][0] == 2
    (package / "mypackage" / "other.py").write_text("x = 1\n")
    (refused,) = commands(package, again)
    assert refused[0] == 2 and "the code of mine (was " in refused[1]
    (package / "mypackage" / "other.py").unlink()
    assert commands(package, again)[0][0] == 0
    assert model_bytes(tmp_path / "run") == before
    (package / "mypackage" / "method.py").write_text("import absent\n")
    broken = commands(package, ["methods"])[0]
    assert broken[0] == 2 and "mine of the package mypackage 1.5 cannot be loaded (ModuleNotFoundError" in broken[1]
