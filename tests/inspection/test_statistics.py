"""Numbers of toy feedback worked by hand, laws of distributions and histograms, and names of what is no file."""

import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faulty_feedback import canonical, inspected, pair, point, ranked

from trueup.inspection import statistics as numbers
from trueup.inspection.inspection import Inspection
from trueup.inspection.screen import short_names
from trueup.inspection.statistics import QUANTILES, Distribution, Labels, LongerChosen, Seen, bins, distribution


def lengths_of(inspection: Inspection) -> dict[str, list[int]]:
    examples = inspection.training.examples
    return numbers.lengths_by_kind(examples, [numbers.character_lengths(one) for one in examples])[0]


def test_views(tmp_path: Path) -> None:
    rows = [canonical({"content": "abcd", "score": 1}, {"content": "efgh", "score": 0})]
    rows += [canonical({"content": "ijkl", "demonstration": True}), canonical({"content": "mnop", "label": 0.25})]
    views = inspected(tmp_path, *rows).views
    assert views["pairs"] == Seen(1, 1, {"nothing compares two responses": 2})
    assert views["rankings"] == Seen(1, 1, {"a single response cannot be ranked": 2})
    assert (views["points"].units, views["points"].examples) == (2, 2)
    assert list(views["points"].discarded.values()) == [1]
    assert views["demonstrations"] == Seen(2, 2, {"no response labelled 1": 1})


def test_lengths_of_pairs(tmp_path: Path) -> None:
    rows = (
        pair("12", "123", "1"), pair("abcd", "12345", "1234567"), pair("1", "12", "ab"), pair("9", "5", "5"),
    )  # fmt: skip
    inspection = inspected(tmp_path, *rows)
    kinds = {"prompts": [2, 4, 1, 1], "chosen": [3, 5, 2], "rejected": [1, 7, 2], "other_responses": [1, 1]}
    assert lengths_of(inspection) == kinds
    assert inspection.longer_chosen == LongerChosen(pairs=3, longer=1, equal=1)
    table = inspection.lengths
    assert table is not None and list(table) == ["unit", *kinds] and table["unit"] == "characters"
    assert [table["rejected"][name] for name in ("count", "minimum", "maximum")] == [3, 1, 7]


def test_a_response_in_the_middle_of_a_ranking_counts_on_both_sides(tmp_path: Path) -> None:
    row = {"prompt": "p", "responses": ["a", "bb", "ccc", "dddd"], "scores": [3, 2, 1, 1]}
    inspection = inspected(tmp_path, row)
    assert lengths_of(inspection) == {"prompts": [1], "chosen": [1, 2], "rejected": [2, 3, 4]}
    assert inspection.longer_chosen == LongerChosen(pairs=5, longer=0, equal=0)


def test_lengths_of_messages_are_of_what_was_written(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "12345"}, {"role": "user", "content": "123"}]
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": "1234567"}]}
    assert lengths_of(inspected(tmp_path, row)) == {"prompts": [8], "other_responses": [7]}


def test_labels_and_scores(tmp_path: Path) -> None:
    labels = [point(value, f"p {n}") for n, value in enumerate((1, 1, 0, 0.5, 0.9, 0.1))]
    inspection = inspected(tmp_path, *labels)
    assert inspection.labels == Labels(good=3, bad=2, middle=1, graded=3)
    assert inspection.scores is None
    scores = inspected(tmp_path, ranked(1, 2, 3), ranked(-4, 8, prompt="q")).scores
    assert scores is not None
    assert (scores.count, scores.minimum, scores.mean, scores.maximum) == (5, -4, 2, 8)
    assert list(scores.quantiles.values()) == pytest.approx([-3, 1, 2, 3, 7])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    made = distribution(values)
    assert made is not None
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert made.quantiles == pytest.approx({str(part): cuts[round(part * 20) - 1] for part in QUANTILES})
    assert made.mean == pytest.approx(statistics.fmean(values))


def test_numbers_of_nothing_and_of_one() -> None:
    assert distribution([]) is None
    assert distribution([7.0]) == Distribution(1, 7.0, 7.0, {str(part): 7.0 for part in QUANTILES}, 7.0)


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_every_length_is_in_one_bin(lengths: list[int]) -> None:
    made = bins(lengths)
    assert sum(made.values()) == len(lengths)
    for (first, last), count in made.items():
        assert count == sum(first <= one <= last for one in lengths)
    edges = list(made)
    assert all(before[1] + 1 == after[0] for before, after in pairwise(edges))
    assert made[edges[0]] and made[edges[-1]]


def test_bins_by_hand() -> None:
    assert bins([0, 1, 3, 4, 7, 15]) == {(0, 0): 1, (1, 1): 1, (2, 3): 1, (4, 7): 2, (8, 15): 1}


def test_the_name_of_what_is_no_file_is_not_shortened() -> None:
    """Names of files as the screen shows them are asserted in cli/test_inspect.py."""
    names = ["world:pairs", "hub:owner/pairs"]
    assert short_names(names) == dict(zip(names, names, strict=True))
