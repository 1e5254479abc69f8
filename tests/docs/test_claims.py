"""The engine of benchmarks/claims: how settings are chosen, what is made once, what is said of it; and its pages."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trueup.config.resolve import resolve

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks/claims"


@pytest.fixture(scope="module")
def claims() -> Iterator[dict[str, Any]]:
    """The programs, by name; as they are imported by their bare names, they are forgotten afterwards."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def test_where_the_end_of_a_grid_wins_it_grows(claims: dict[str, Any]) -> None:
    tuning = claims["tuning"]
    assert [tuning.neighbour(0.003, by) for by in (-2, -1, 0, 1, 2)] == [0.0003, 0.001, 0.003, 0.01, 0.03]
    asked = []

    def score(place: dict[str, float], best: float) -> float:
        asked.append((place["rate"], place["beta"]))
        return -abs(place["rate"] - 0.1) - abs(place["beta"] - 0.3)

    assert tuning.search({"rate": 0.01, "beta": 0.3}, score) == ({"rate": 0.1, "beta": 0.3}, True)
    assert len(asked) == len(set(asked)) <= tuning.SETTINGS_AT_MOST + 3
    assert {(0.03, 0.3), (0.3, 0.3), (0.1, 0.1), (0.1, 1.0)} <= set(asked)
    assert tuning.search({"rate": 1.0}, lambda place, best: place["rate"])[1] is False


def book_of(engine: Any, path: Path, golds: dict[float, list[float]]) -> tuple[Any, list[tuple[float, int]]]:
    """A row whose runs give these values on the tuning seeds, and 1 on others; and what was run."""
    made: list[tuple[float, int]] = []

    def perform(settings: dict[str, Any], seed: int) -> dict[str, Any]:
        rate = settings["learning_rate"]
        made.append((rate, seed))
        place = engine.TUNING.index(seed) if seed in engine.TUNING else -1
        return {"gold": golds.get(rate, [-1.0] * 3)[place] if place >= 0 else 1.0}

    rows = {"row": engine.Row({"method": "sft", "data": "d{seed}"}, {"learning_rate": 0.003})}
    rows["like it"] = engine.Row({"method": "dpo"}, like="row")
    return engine.Book(engine.Journal(path, perform), rows, range(1, 6)), made


def test_what_is_chosen_is_steady_and_not_what_is_reported(claims: dict[str, Any], tmp_path: Path) -> None:
    engine = claims["engine"]
    golds = {0.003: [0.4, 0.42, 0.41], 0.01: [0.9, 0.9, -0.3], 0.001: [0.3, 0.9, 0.9]}
    book, made = book_of(engine, tmp_path / "journal", golds)
    assert book.place("row") == {"learning_rate": 0.003}
    assert sorted(made) == [(0.001, 11), *((rate, seed) for rate in (0.003, 0.01) for seed in engine.TUNING)]
    assert [run["gold"] for run in book.runs("row")] == [1.0] * 5
    assert [seed for _, seed in made[7:]] == [1, 2, 3, 4, 5] and not {1, 2, 3, 4, 5} & set(engine.TUNING)
    assert book.settings("like it", book.place("like it")) == {"learning_rate": 0.003, "method": "dpo"}


def test_a_program_that_was_killed_goes_on(claims: dict[str, Any], tmp_path: Path) -> None:
    engine, path = claims["engine"], tmp_path / "journal"
    book, made = book_of(engine, path, {0.003: [0.4, 0.4, 0.4]})
    runs = book.runs("row")
    path.write_text(path.read_text()[:-9])  # in the middle of the last line
    again, made_again = book_of(engine, path, {0.003: [0.4, 0.4, 0.4]})
    assert again.runs("row") == runs and made_again == [(0.003, 5)]
    assert runs[0]["gold"] == 1.0 and len(runs[0]["commit"]) == 40
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [seed for _, seed in made]


def test_intervals_and_verdicts(claims: dict[str, Any]) -> None:
    engine, verdicts = claims["engine"], claims["verdicts"]
    found = verdicts.spread([1.0, 2.0, 3.0, 4.0, 10.0])
    assert (found.mean, found.median) == (4.0, 3.0)
    assert found.high - found.mean == pytest.approx(2.7764 * 12.5**0.5 / 5**0.5, rel=1e-4)
    told = {
        (low, high, within): verdicts.verdict(verdicts.Spread(0.0, 0.0, low, high), within)
        for low, high, within in (
            (0.1, 0.2, None), (-0.2, -0.1, None), (-0.1, 0.1, None), (-0.04, 0.01, 0.05), (0.06, 0.1, 0.05),
            (-0.2, -0.06, 0.05), (-0.06, 0.0, 0.05),
        )
    }  # fmt: skip
    assert [one.removeprefix("does not hold here: ") for one in told.values()] == [
        "holds", "the other way round", "no difference seen", "holds", "better", "worse", "not decided",
    ]  # fmt: skip
    ones, others = [{"golds": [1.0, 0.5, 0.0]}] * 2, [{"golds": [0.0, 0.5, 0.5]}] * 2
    assert verdicts.wins(ones, others)[0] == pytest.approx(0.5)
    assert verdicts.wins([{}], others) is None
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    assert engine.flops_of(lambda: left @ right) == 2 * 3 * 4 * 5


def test_the_frontier(claims: dict[str, Any]) -> None:
    """Half way in log KL between (1, 0.2) and (4, 0.4) a frontier is at (2, 0.3); behind its last point it is level,
    and a point that has less gold at a higher KL is none of it."""
    above, others = claims["frontier"].above, [(4.0, 0.4), (1.0, 0.2), (8.0, 0.1)]
    assert above([(1.0, 0.3), (4.0, 0.5)], others) == pytest.approx(0.1)
    assert above(others, [(1.0, 0.3), (4.0, 0.5)]) == pytest.approx(-0.1)
    assert above([(2.0, 0.35), (3.0, -9.0)], others) == pytest.approx(0.0)  # from 0.05 above to 0.05 below
    assert above([(16.0, 0.7)], others) == pytest.approx(0.3)


NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_can_be_run(claims: dict[str, Any], name: str, tmp_path: Path) -> None:
    """Its settings are those of its method; and what is compared are rows."""
    engine, claim = claims["engine"], claims[name].CLAIM
    book = engine.Book(engine.Journal(tmp_path / "journal", lambda *_: {}), claim.rows, (1,), 8)
    for row in claim.rows:
        own = engine.filled(book.settings(row, book.place(row)), 3, book.small)
        assert "{" not in str(own.get("data", "")) and own["steps"] >= 2
        if own["method"] not in ("none", "start"):
            for of in (own, own.pop("reward_from", None), own.pop("start", None)):
                given = dict(of or own)
                resolve(
                    given.pop("method"),
                    overrides={**given, "model": "world", "output": str(tmp_path / "run")},
                )
    assert {side for one in claim.compared for side in (one.one, one.other)} <= set(claim.rows)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_current(claims: dict[str, Any], name: str) -> None:
    pages, found = claims["pages"], json.loads((FOLDER / f"{name}.json").read_text())
    assert pages.page(claims[name].CLAIM, found) == (ROOT / f"docs/claims/{name}.md").read_text()
    assert set(found["rows"]) == set(claims[name].CLAIM.rows)
    assert len(found["seeds"]) >= 5 and len(found["tuning_seeds"]) >= 3


def test_the_index_is_current(claims: dict[str, Any]) -> None:
    results = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in claims["pages"].NAMES}
    assert sorted(results) == NAMES
    assert claims["pages"].index(results) == (ROOT / "docs/claims/index.md").read_text()
    start = (ROOT / "docs/start.md").read_text()
    assert claims["pages"].with_table(start, results) == start
    assert claims["pages"].by_feedback(results).count("\n") > 15
