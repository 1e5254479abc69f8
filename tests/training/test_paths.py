"""Names and links that point elsewhere: a run writes into its own folder and nowhere else."""

import os
from pathlib import Path
from typing import Any

import pytest
from support.broken_runs import goes_on
from support.small_runs import at_step, command, options, run_here, settings, write_feedback

from trueup.errors import CheckpointError


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "..", "a\nb", "~/x", "C:\\x", "\u202ex"])
def test_a_name_of_a_run_is_no_path(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """It is shown, in the model card and to trackers, and never written to."""
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    values = settings("sft", tiny_model, write_feedback(work), work / "run", run_name=name, epochs=0.2)
    before = contents(tmp_path).keys()
    run_here("sft", {**values, "trackers": ["tensorboard"]})
    made = contents(tmp_path).keys() - before
    assert all(path == "a/b/run" or path.startswith("a/b/run/") for path in made)
    assert {"a/b/run/tensorboard", "a/b/run/model/README.md"} <= made
    assert name.split("\n")[0] in (work / "run" / "model" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder that is none of the run's."""
    folder = tmp_path / "mine"
    (folder / "inner").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    return folder


def run_with(link: Path, target: Path, values: dict[str, Any]) -> None:
    """A run in whose folder a link appears at step 5."""
    with at_step(5, lambda policy: link.symlink_to(target, target_is_directory=True)):
        run_here("dpo", values)


@pytest.mark.parametrize(
    "link", ["model", ".model.part", "checkpoints/step-00000006", "checkpoints/.step-00000006.part"]
)
def test_a_link_in_the_way_is_not_followed(link: str, mine: Path, uninterrupted: Any, tmp_path: Path) -> None:
    """What it points to stays as it is, and without it the run goes on bit for bit."""
    output = tmp_path / "run"
    before = contents(mine)
    what = "step-00000006: the checkpoint" if "step" in link else "the finished model"
    with pytest.raises(CheckpointError, match=f"{what} could not be written: ") as raised:
        run_with(output / link, mine, {**uninterrupted[0], "output": str(output)})
    assert "\n" not in str(raised.value)
    assert contents(mine) == before
    os.unlink(output / link)
    goes_on(output, uninterrupted[1])
    assert contents(mine) == before


def test_an_old_checkpoint_that_is_a_link_is_not_emptied(mine: Path, uninterrupted: Any, tmp_path: Path) -> None:
    """Retention removes checkpoints, not what the user has put in the place of one."""
    before, output = contents(mine), tmp_path / "run"
    run_with(output / "checkpoints" / "step-00000001", mine, {**uninterrupted[0], "output": str(output)})
    assert contents(mine) == before
    assert not (output / "checkpoints" / "step-00000003").exists()


@pytest.mark.parametrize("output", ["run/../run", "./run", "link"])
def test_an_output_is_where_its_name_leads(
    output: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own path is the user's to choose, also through a link; it holds a run or it does not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    values = settings("sft", tiny_model, write_feedback(tmp_path), Path(output), epochs=0.2)
    assert command("train", "sft", *options({**values, "output": output})) == 0
    assert (tmp_path / "run" / "model").is_dir()
    assert command("train", "sft", *options({**values, "output": "run"})) == 2  # it is the same folder
