"""`trueup condition`: what it prints, what it keeps, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import write
from support.small_runs import command, run_here, settings, write_feedback

from trueup.feedback.condition import FILE, Condition, read_condition

Captured = pytest.CaptureFixture[str]

REWARDS = '''
def favour(prompt, response):
    """As many points as the model was asked for tenths above zero, which the test writes down."""
    return float(len(response))

def fails(prompt, response):
    raise ValueError("no")
'''


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here("ca", settings("ca", tiny_model, write_feedback(folder), folder / "run", steps=2, epochs=None))
    return folder / "run"


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model, prompts and rewards, in the working folder."""
    shutil.copytree(trained / "model", tmp_path / "model")
    condition = read_condition(tmp_path / "model")
    assert condition is not None
    condition.asking_for(1.2).save(tmp_path / "model")
    text = (tmp_path / "model/README.md").read_text().replace(condition.words(), " <rm_score>: 1.2 ")
    (tmp_path / "model/README.md").write_text(text)
    rows = [{"prompt": f"say {number}:"} for number in range(5)]
    write(tmp_path / "asked.jsonl", rows)
    (tmp_path / "rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*more: object, model: str = "model", reward: str = "rewards.py:favour") -> int:
    given = () if "--prompts" in more else ("--prompts", "asked.jsonl")
    return command("condition", model, *given, "--reward", reward, "--max-new-tokens", 4, *more)


@pytest.fixture
def favoured(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Words -> scores of the answers to them; stands for a model that minds what it is asked for."""
    from trueup.evaluate import condition_sweep

    table = {
        " <rm_score>: 1.2 ": [0.0, 1.0, 2.0, 3.0, 4.0], " <rm_score>: 0.5 ": [1.0, 2.0, 4.0, 4.0, 5.0],
        " <rm_score>: 0.7 ": [1.0, 1.0, 4.0, 3.0, 4.0], " <rm_score>: -3.0 ": [0.0, 0.0, 0.0, 0.0, 1.0],
    }  # fmt: skip
    original = condition_sweep.Trial

    def trial(condition: Condition, scores: Any, lengths: Any, ended: float) -> Any:
        assert len(scores) == 5
        return original(condition, tuple(table[condition.words()]), (2, 2, 3, 4, 4), ended)

    monkeypatch.setattr(condition_sweep, "Trial", trial)
    return table


@pytest.mark.usefixtures("favoured")
def test_the_best_is_marked_and_kept(folder: Path, capsys: Captured) -> None:
    assert ask("--candidates", "0.5,-3,1.21") == 0
    said = capsys.readouterr()
    rows = [line.replace("|", " ").split() for line in said.out.splitlines() if "rm_score" in line]
    assert rows == [
        ["-3", "'", "<rm_score>:", "-3.0", "'", "0.200", "+-", "0.200", "3.0", "+-", "0.4"],
        ["0.5", "'", "<rm_score>:", "0.5", "'", "3.200", "+-", "0.735", "3.0", "+-", "0.4", "best"],
        ["1.2", "'", "<rm_score>:", "1.2", "'", "2.000", "+-", "0.707", "3.0", "+-", "0.4", "now"],
    ]
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.splitlines()[-1] == ("model asks for 0.5 from now on: better than 1.2 by 1.200 +- 0.200")
    assert said.err.splitlines()[:1] == ["asked.jsonl: prompts, 5 rows"]
    kept = read_condition(folder / "model")
    assert kept is not None and kept.reward == 0.5
    card = (folder / "model/README.md").read_text()
    assert "Write ` <rm_score>: 0.5 ` at the" in card and "1.2 `" not in card


@pytest.mark.usefixtures("favoured")
def test_prompts_may_stand_in_a_column_of_any_name(folder: Path, capsys: Captured) -> None:
    write(folder / "own.jsonl", [{"user_message": f"say {number}:"} for number in range(5)])
    assert ask("--prompts", "own.jsonl", "--columns", "prompt=user_message", "--candidates", "0.5,-3,1.21") == 0
    assert capsys.readouterr().err.splitlines()[0] == "own.jsonl: prompts, 5 rows"


@pytest.mark.usefixtures("favoured")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("0.5", "--dry-run"), ["0.5 is better than 1.2 by 1.200 +- 0.200; nothing was written"]),
        (("0.7",), ["0.7 is better than 1.2 by 0.600 +- 0.400, less than twice its standard error:",
                    "nothing was written; more prompts tell more"]),
        (("-3",), ["the model asks for the best already: 1.2"]),
    ],
)  # fmt: skip
def test_nothing_is_written(given: tuple[str, ...], said: list[str], folder: Path, capsys: Captured) -> None:
    """On a dry run; of what may be chance, as it is best on the prompts it was found on; where nothing is better."""
    before = {path: path.read_bytes() for path in sorted((folder / "model").iterdir())}
    assert ask("--candidates", *given) == 0
    assert capsys.readouterr().out.splitlines()[-len(said) :] == said
    assert ask("--candidates", *given, "--json") == 0
    assert not json.loads(capsys.readouterr().out)["kept"]
    assert {path: path.read_bytes() for path in sorted((folder / "model").iterdir())} == before


@pytest.mark.usefixtures("favoured")
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_json(dry: tuple[str, ...], folder: Path, capsys: Captured) -> None:
    assert ask("--candidates", "0.5", "--json", *dry) == 0
    found = json.loads(capsys.readouterr().out)
    trials = found.pop("trials")
    assert found.pop("gain") == pytest.approx({"value": 1.2, "standard_error": 0.2})
    assert found == {"model": "model", "prompts": 5, "asked_until_now": 1.2, "best": 0.5, "kept": not dry}
    assert [(trial["reward"], trial["words"]) for trial in trials] == [
        (1.2, " <rm_score>: 1.2 "), (0.5, " <rm_score>: 0.5 "),
    ]  # fmt: skip
    assert trials[1]["score"]["value"] == 3.2 and trials[1]["length"]["value"] == 3.0
    assert 0 <= trials[1]["ended"] <= 1


def test_the_usual_rewards_are_tried_with_a_real_model(folder: Path, capsys: Captured) -> None:
    """The highest of training is 0.99, written 1.0; one prompt has no standard error."""
    assert ask("--json", "--dry-run", "--count", 1, "--seed", 5) == 0
    first = capsys.readouterr().out
    found = json.loads(first)
    assert [trial["words"][-5:] for trial in found["trials"]] == [" 1.2 ", " 1.0 ", " 2.0 ", " 5.0 ", " 0.0 "]
    assert found["prompts"] == 1 and found["trials"][0]["score"]["standard_error"] is None
    assert all(0 <= trial["length"]["value"] <= 4 for trial in found["trials"])
    assert ask("--json", "--dry-run", "--count", 1, "--seed", 5) == 0
    assert capsys.readouterr().out == first
    assert ask("--dry-run", "--count", 1) == 0
    assert "nan" not in capsys.readouterr().out


def test_an_adapter_that_is_asked_in_conversations(tiny_model: Path, folder: Path, capsys: Captured) -> None:
    """The base model's folder is left alone; a function is handed the messages as they were given."""
    values = settings("ca", tiny_model, write_feedback(folder), folder / "run", steps=1, epochs=None)
    run_here("ca", values | {"lora.rank": 2})
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    write(folder / "talks.jsonl", [{"prompt": talk}])
    (folder / "rewards.py").write_text(f"def same(prompt, response):\n    return prompt == {talk!r}\n")
    model = str(folder / "run/model")
    more = ("--prompts", "talks.jsonl", "--candidates", "0.5", "--json")
    assert ask(*more, model=model, reward="rewards.py:same") == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["score"]["value"] for trial in found["trials"]] == [1.0, 1.0]
    assert not found["kept"] and not (tiny_model / FILE).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"more": ("--candidates", "1,x")}, "--candidates: 'x' is not a finite number; give numbers with commas"),
        ({"more": ("--candidates", "1,,2")}, "--candidates: '' is not a finite number"),
        ({"more": ("--candidates", "nan")}, "--candidates: 'nan' is not a finite number"),
        ({"more": ("--count", 0)}, "count must be at least 1; got 0"),
        ({"more": ("--prompts", "none.jsonl")}, "none.jsonl: no such file"),
        ({"reward": "rewards.py:favor"}, "rewards.py has no function favor; did you mean 'favour'?"),
        ({"reward": "world:golden"}, "'world:golden': the world has no reward 'golden'; did you mean 'gold'?"),
        ({"reward": "world:gold"}, "prompt 1: not a prompt of the world: 'say 0:'"),
        ({"model": "none"}, "model none is not a folder; give a folder in Hugging Face format"),
        ({"model": "asked.jsonl"}, "model asked.jsonl is a file; give the folder it lies in"),
        ({"model": "RUN"}, "is the folder of a run; give its model, "),
        ({"model": "TINY"}, "has no condition.json: give a model that `trueup train ca` trained"),
        ({"model": "damaged"}, "condition.json: the condition this model was trained with cannot be read"),
        ({"more": ("--max-new-tokens", 512)}, "max_new_tokens 512 leaves no room for a prompt"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_refused(
    arguments: dict[str, Any], message: str, folder: Path, trained: Path, tiny_model: Path, capsys: Captured
) -> None:
    before = (folder / "model" / FILE).read_bytes()
    more = arguments.pop("more", ())
    (folder / "damaged").mkdir()
    (folder / "damaged" / FILE).write_text("{")
    places = {"RUN": trained, "TINY": tiny_model}
    if "model" in arguments:
        arguments = {"model": str(places.get(arguments["model"], arguments["model"]))}
    assert ask(*more, **arguments) == 2
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert last.startswith("trueup: ") and message in last and ", or world" not in last, said
    assert "Traceback" not in said
    assert (folder / "model" / FILE).read_bytes() == before


def test_rewards_that_the_tokenizer_cannot_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Of the usual ones they are left out; of those that were given they are refused."""
    from trueup.evaluate import condition_sweep

    monkeypatch.setattr(
        condition_sweep.encode, "unknown_words", lambda text, tokenizer: ["5.0"] if "5.0" in text else []
    )
    assert ask("--json", "--dry-run") == 0
    assert [trial["words"][-5:] for trial in json.loads(capsys.readouterr().out)["trials"]] == [
        " 1.2 ", " 1.0 ", " 2.0 ", " 0.0 ",
    ]  # fmt: skip
    assert ask("--candidates", "2,5") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trueup: --candidates: 5 is written ' <rm_score>: 5.0 ', and the model's tokenizer")
