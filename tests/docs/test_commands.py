"""Every command of README and docs runs as it stands, in an empty folder with the files that the page speaks of."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest
import yaml
from support.faulty_server import FaultyServer
from support.online_runs import online, write_prompts, write_reward
from support.page_commands import answer, at, commands
from support.run_folders import dpo_lines, make_run
from support.small_runs import metrics_of, model_bytes, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model
from support.tiny_reward_models import save_reward

from trueup.cli.app import run
from trueup.feedback.canonical import write_examples
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example, Prompt, Response
from trueup.labelling.serving import opened
from trueup.methods import METHODS
from trueup.settings.command_settings import LabelSettings

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONVERTING = (DOCS / "feedback.md").read_text().partition("\n## Converting\n")[2].partition("\n## ")[0]


def text_of(page: str) -> str:
    return CONVERTING if page == "docs/feedback.md" else (ROOT / page).read_text()


def of_readme(tiny_model: Path) -> None:
    here = Path.cwd()
    save_tiny_model(here / "MODEL")
    save_tiny_model(here / "OTHER", seed=1)
    write_prompts(here)
    kinds = write_feedback(here)
    thumbs = [{"prompt": f"say {n}:", "completion": f" {n}", "label": bool(n % 2)} for n in range(8)]
    Path("thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumbs))
    Path("scored.jsonl").write_text(kinds["rankings"].read_text())
    Path("judge.py").write_text("def score(prompt, response):\n    return -len(response)\n")
    trl = {"model_name_or_path": "MODEL", "dataset_name": str(kinds["pairs"]), "output_dir": "runs/trl"}
    Path("your_trl_config.yaml").write_text(yaml.safe_dump({**trl, "max_steps": 2}))
    ours = {"model": "MODEL", "data": ["pairs.jsonl"], "output": "runs/tr", "steps": 2}
    Path("run.yaml").write_text(yaml.safe_dump(ours))


def of_gathering(tiny_model: Path) -> None:
    here = Path.cwd()
    write_feedback(here, count=8)
    shutil.copytree(tiny_model, "A")
    save_tiny_model(here / "B", seed=1)
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {at}:"}) + "\n" for at in range(4)))
    Path("rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")


def of_online(tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "M")
    write_prompts(Path.cwd())
    save_reward(Path("runs") / "rm" / "model")


def of_evaluating(tiny_model: Path) -> None:
    data = write_feedback(Path.cwd())
    for method, name in (("tr-dpo", "new"), ("dpo", "old")):
        run_here(method, settings(method, tiny_model, data, Path("runs") / name))
    shutil.copytree(tiny_model, "M")
    write_prompts(Path.cwd()).rename("held_out.jsonl")
    Path("rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")


def of_label(tiny_model: Path) -> None:
    Path("MODEL").symlink_to(tiny_model)
    examples = [Example(Prompt(f"say {at}:"), (Response(" a"), Response(" b"))) for at in range(4)]
    write_examples("candidates.jsonl", examples)
    settings = LabelSettings(data=("candidates.jsonl",), output="people.jsonl")
    clicks = opened(settings)
    assert clicks.add("ann", 0, "first")
    clicks.close()


def of_reports(tiny_model: Path) -> None:
    for name in ("dpo", "tr-dpo"):
        make_run(Path("runs") / name, dpo_lines(3))


def of_export(tiny_model: Path) -> None:
    data = write_feedback(Path.cwd())
    run_here("tr-dpo", settings("tr-dpo", tiny_model, data, Path("runs/tr-dpo")))
    run_here("dpo", settings("dpo", tiny_model, data, Path("runs/lora"), **{"lora.rank": 4}))


def of_chat(tiny_model: Path) -> None:
    data = write_feedback(Path.cwd())
    for method in ("tr-dpo", "dpo"):
        run_here(method, settings(method, tiny_model, data, Path("runs") / method, steps=2, epochs=None))
    Path("MODEL").symlink_to(tiny_model)


def of_before(tiny_model: Path) -> None:
    values = {"method": "dpo", **settings("dpo", tiny_model, write_feedback(Path.cwd()), Path("runs/dpo"))}
    Path("run.yaml").write_text(yaml.safe_dump(values))


def of_adapters(tiny_model: Path) -> None:
    write_feedback(Path.cwd())
    Path("M").symlink_to(tiny_model)


def of_start(tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "MODEL")
    thumbs = [f"say {n}:, {n},{'up' if n % 2 else 'down'}" for n in range(40)]
    Path("feedback.csv").write_text("\n".join(["question,answer,thumb", *thumbs]) + "\n")
    write_prompts(Path.cwd()).rename("held_out.jsonl")


def after_gathering(said: str) -> None:
    assert [len(one.responses) for one in read_feedback(["best.jsonl"]).examples] == [1] * 4


def after_online(said: str) -> None:
    assert model_bytes(Path("runs/again")) == model_bytes(Path("runs/oaif"))


def after_converting(said: str) -> None:
    """What a command leaves out is said as the page says it; nothing else is."""
    shown = [line for line in re.findall(r"^    (.+)$", CONVERTING, re.MULTILINE) if "trueup " not in line]
    assert len(shown) == 4
    assert "\n".join(shown) in said


ROW = re.compile(r"\| +(\S+) +\| ' score (\S+)' \| +(\S+) \+- (\S+) \| +(\S+) \+- (\S+) \| ([\w, ]*?) +\|")
"""What was asked for, as what, mean and error of reward and of length, marks."""


def after_condition(said: str) -> None:
    """The same rewards with the same marks; means within four standard errors, as other machines round otherwise."""
    found, shown = ROW.findall(said), ROW.findall(text_of("docs/methods/ca.md"))
    assert len(shown) == 4
    assert [(row[0], row[1], row[6]) for row in found] == [(row[0], row[1], row[6]) for row in shown]
    for got, wanted in zip(found, shown, strict=True):
        for place in (2, 4):
            error = (float(got[place + 1]) ** 2 + float(wanted[place + 1]) ** 2) ** 0.5
            assert abs(float(got[place]) - float(wanted[place])) < 4 * error, (got, wanted)
    assert "the model asks for the best already: 0.9326" in said


@dataclass(frozen=True)
class Page:
    """How the commands of a page are run."""

    count: int
    """Commands that it shows."""
    files: Callable[[Path], object] = lambda tiny_model: None
    """Makes what the page speaks of."""
    smaller: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Command or method -> options by which it takes a moment; what is given twice counts as given last."""
    after: Callable[[str], object] = lambda said: None
    """Looks at what has come of them, and what was said."""
    dear: bool = False


SHORT = dict.fromkeys(("sample", "condition", "evaluate", "chat"), ("--max-new-tokens", "6"))
SMALL_ROUNDS = ("--steps", "2", "--sampler.max_new_tokens", "6", "--batch_size", "4")
PAGES = {
    "README.md": Page(
        21,
        of_readme,
        {**dict.fromkeys(("oaif", "ppo", "fa"), SMALL_ROUNDS), "train": ("--steps", "2"), **SHORT},
    ),
    "docs/feedback.md": Page(3, lambda tiny_model: write_feedback(Path.cwd()), after=after_converting),
    "docs/gathering.md": Page(11, of_gathering, {"train": ("--epochs", "1"), **SHORT}, after_gathering),
    "docs/evaluate.md": Page(6, of_evaluating, {"train": ("--steps", "2"), **SHORT}),
    "docs/label.md": Page(3, of_label, {"label": ("--export",), "train": ("--steps", "2")}),
    "docs/report.md": Page(2, of_reports),
    "docs/chat.md": Page(3, of_chat, {"train": ("--steps", "2"), **SHORT}),
    "docs/adapters.md": Page(3, of_adapters, {"train": ("--steps", "2")}),
    "docs/before_a_run.md": Page(2, of_before, {"plan": ("--measure", "1")}),
    "docs/export.md": Page(3, of_export, {"export": ("--step", "9")}),
    "docs/online.md": Page(5, of_online, {"train": SMALL_ROUNDS}, after_online),
    "docs/start.md": Page(6, of_start, {"train": ("--steps", "2"), **SHORT}),
    "docs/world.md": Page(1),
    "docs/methods/ca.md": Page(2, after=after_condition, dear=True),
}


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.many] * PAGES[one].dear) for one in PAGES])
def test_the_commands_of_a_page_one_after_the_other(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    page, given = PAGES[name], commands(text_of(name))
    assert len(given) == page.count
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    page.files(tiny_model)
    typed = cycle(["hello", "1", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    capsys.readouterr()
    said = ""
    with FaultyServer(answer) as server:
        for words in at(server.url, given):
            smaller = [more for word in words[:2] for more in page.smaller.get(word, ())]
            code = run([*words, *(() if "--resume" in words else smaller)])
            told = capsys.readouterr()
            said += told.out + told.err
            if "--resume" in words:  # the run above it has not been interrupted
                assert code == 2 and "is done" in told.err
                continue
            assert code == 0, (words, told.err)
            assert not any(word in told.err for word in ("Loading weights", "Writing model", "trueup: "))
            output = words[words.index("--output") + 1] if "--output" in words else "-"
            assert output == "-" or Path(output).exists()
            assert "--shard" in words or not output.endswith(".jsonl") or read_feedback([output]).examples
    page.after(said)


def test_pages_with_commands_are_known() -> None:
    found = {f"docs/{page.relative_to(DOCS)}" for page in DOCS.rglob("*.md") if commands(page.read_text())}
    assert found | {"README.md"} == set(PAGES)


def test_methods_named_in_pages_are_there() -> None:
    """`trueup train NAME` in running text."""
    aliases = {alias for info in METHODS.values() for alias in info.aliases}
    named = {
        name
        for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]
        if "decisions" not in page.parts
        for name in re.findall(r"trueup train ([a-z][a-z-]+)", page.read_text())
    }
    assert named - {"cal-dpo", "mine"} <= set(METHODS) | aliases
    assert set(METHODS) <= named


@pytest.mark.slow
def test_the_python_of_the_readme(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    of_readme(tiny_model)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text_of("README.md"), re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.split()
    assert printed[0] == "runs/tr-dpo/model"
    assert 0 < float(printed[1]) < 1


@pytest.mark.parametrize(
    ("method", "more"),
    [("oaif", {}), ("rrhf", {"reward_kl": 0.1, "max_length": 12})],
    ids=["scores", "penalty"],
)
def test_every_metric_of_a_round_is_named(
    method: str, more: dict[str, object], tiny_model: Path, tmp_path: Path
) -> None:
    write_reward(tmp_path)
    run_here(method, online(tiny_model, tmp_path, tmp_path / "run", **more))
    logged = {key for line in metrics_of(tmp_path / "run") for key in line if key.startswith("online/")}
    assert len(logged) > 5
    assert logged <= set(re.findall(r"`(online/\w+)`", text_of("docs/online.md")))
