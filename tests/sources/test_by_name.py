"""Examples by name: files of any kind together, the built-in world, and a part held out."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from support.refusals import refused
from support.small_runs import metrics_of, run_here, settings, write_feedback

from trueup.display import collected
from trueup.feedback.records import Example, Origin, Prompt, Response
from trueup.sources.by_name import check_overlap, examples_named, split


def test_files_of_different_formats(tmp_path: Path) -> None:
    """The same pairs as CSV, Parquet and a folder of `datasets` are the same examples."""
    pairs = datasets.Dataset.from_json(str(write_feedback(tmp_path, count=3)["pairs"]), cache_dir=str(tmp_path / "c"))
    names = [str(tmp_path / name) for name in ("pairs.csv", "pairs.parquet", "folder")]
    pairs.to_csv(names[0])
    pairs.to_parquet(names[1])
    pairs.save_to_disk(names[2])
    gathered = examples_named(names)
    plain = [replace(example, prompt=replace(example.prompt, origin=None)) for example in gathered.examples]
    assert plain[:3] == plain[3:6] == plain[6:] and len(plain) == 9
    assert [str(example.origin) for example in gathered.examples[::3]] == [
        f"{names[0]}:2",
        f"{names[1]}:1",
        f"{names[2]}:1",
    ]
    for name in names[:2]:
        assert gathered.fingerprints[name] == hashlib.sha256(Path(name).read_bytes()).hexdigest()
    assert set(gathered.fingerprints) == set(names)


def test_the_world_is_a_source_by_name() -> None:
    with collected() as lines:
        gathered = examples_named(["world:pairs?count=5&seed=1"])
    assert len(gathered.examples) == 5
    assert lines == ["world:pairs?count=5&seed=1: 5 examples of the built-in world"]
    again, other = (examples_named([f"world:pairs?count=5&seed={seed}"]) for seed in (1, 2))
    assert again == gathered
    assert set(other.fingerprints.values()) != set(gathered.fingerprints.values())


def test_world_and_files_go_together(tmp_path: Path) -> None:
    name = str(write_feedback(tmp_path, count=3)["pairs"])
    gathered = examples_named([name, "world:rankings?count=2"])
    assert [example.origin.file == name for example in gathered.examples if example.origin] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert set(gathered.fingerprints) == {name, "world:rankings?count=2"}


EXAMPLES = [Example(Prompt(f"prompt {number}"), (Response("x", demonstration=True),)) for number in range(20)]


def test_a_split_is_disjoint_complete_and_in_order() -> None:
    train, held_out = split(EXAMPLES, 0.25, seed=3)
    assert (len(train), len(held_out)) == (15, 5)
    place = {example.prompt.content: number for number, example in enumerate(EXAMPLES)}
    for part in (train, held_out):
        assert [place[one.prompt.content] for one in part] == sorted(place[one.prompt.content] for one in part)
    assert {one.prompt.content for one in train} | {one.prompt.content for one in held_out} == set(place)
    assert split(EXAMPLES, 0.25, seed=3) == (train, held_out) != split(EXAMPLES, 0.25, seed=4)
    assert split(EXAMPLES, 0.0, seed=0) == (tuple(EXAMPLES), ())


def test_all_examples_of_a_prompt_are_on_one_side() -> None:
    """Forty examples of eight prompts: as many prompts as it takes to come to a quarter, and no more."""
    often = [
        replace(one, prompt=replace(one.prompt, origin=Origin("a", number + 1)))
        for number, one in enumerate(EXAMPLES[:8] * 5)
    ]
    for seed in range(5):
        train, held_out = split(often, 0.25, seed)
        assert len(held_out) == 10
        assert not {one.prompt.content for one in train} & {one.prompt.content for one in held_out}
        check_overlap((one.prompt for one in train), held_out, allowed=False)
    with refused(r"of 5 examples leaves one part empty"):
        split([EXAMPLES[0]] * 5, 0.25, 0)


def test_overlap_names_what_is_evaluated_on_a_prompt_of_training() -> None:
    tools = replace(EXAMPLES[0], prompt=replace(EXAMPLES[0].prompt, tools=({"name": "add"},)))
    shared = replace(EXAMPLES[2], prompt=replace(EXAMPLES[2].prompt, origin=Origin("a", 7)))
    with refused(r"^1 of 3 .* also trained on \(a:7\)"):
        check_overlap((one.prompt for one in EXAMPLES[:3]), [shared, EXAMPLES[3], tools], allowed=False)


@pytest.mark.parametrize("count, fraction", [(20, 0.01), (20, 0.99), (1, 0.5), (0, 0.5)])
def test_an_empty_part_is_refused(count: int, fraction: float) -> None:
    with refused(f"eval_fraction {fraction} of {count} examples leaves one part empty"):
        split(EXAMPLES[:count], fraction, seed=0)


def test_a_run_on_files_of_different_kinds(tiny_model: Path, tmp_path: Path) -> None:
    """24 pairs, and 24 rankings of three, each of which holds three pairs: DPO learns from all of them.
    Demonstrations compare nothing: they are counted as left out, with where they stand."""
    files = write_feedback(tmp_path)
    values = settings("dpo", tiny_model, files, tmp_path / "run", epochs=1)
    values["data"] = [str(files[kind]) for kind in ("pairs", "rankings", "demonstrations")]
    result = run_here("dpo", values)
    assert result.steps == 12  # 48 prompts in batches of 4
    steps = [line for line in metrics_of(tmp_path / "run") if "loss" in line]
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert sum(line["loss"] for line in steps[-3:]) / 3 < 0.65
    written = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "96 pairs" in written and "discarded: 24 for nothing compares two responses" in written
    assert all(json.dumps(name)[1:-1] in written for name in values["data"])
