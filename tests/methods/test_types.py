"""Combinations that make no sense do not pass a type checker."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trueup.methods import METHODS

ROOT = Path(__file__).parents[2]

SNIPPET = """\
from trueup.batch.rows import Demonstrations, LogProbs, Pairs, PairsWithTarget, Points, Rankings
from trueup.feedback import views
from trueup.feedback.records import PairRelation
from trueup.methods.kinds import Method, pairwise, with_settings, without_reference
from trueup.objectives.dpo import dpo
from trueup.objectives.pointwise_dpo import pointwise_dpo
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.unlikelihood import unlikelihood
from trueup.references.choices import Cached, Frozen, NoReference, TrustRegion

right: Method[PairRelation, Pairs, LogProbs] = Method(views.pairs, Pairs.collate, dpo, Frozen())
moving: Method[PairRelation, Pairs, LogProbs] = Method(views.pairs, Pairs.collate, dpo, TrustRegion())
targeted: Method[PairRelation, PairsWithTarget, None] = Method(
    views.pairs, PairsWithTarget.collate_chosen, slic_hf, NoReference()
)
built: Method = pairwise(with_settings(dpo, beta=0.3), Frozen())
alone: Method = without_reference(views.points, Points.collate, with_settings(unlikelihood, weight=2.0))

# refused
dpo_on_points = Method(views.points, Points.collate, dpo, Frozen())
dpo_on_rankings_index = Method(views.pairs, Rankings.collate, dpo, Frozen())
points_view_of_pairs = Method(views.points, Pairs.collate, dpo, Frozen())
dpo_without_reference = Method(views.pairs, Pairs.collate, dpo, NoReference())
cached_that_moves = Cached(alpha=0.6)
demonstrations_that_are_not_there = Method(views.pairs, PairsWithTarget.collate, slic_hf, NoReference())
points_in_pairs: Method = pairwise(with_settings(pointwise_dpo, beta=0.3), Frozen())
no_reference: Method = pairwise(with_settings(dpo, beta=0.3), NoReference())
reference_not_given: Method = without_reference(views.points, Points.collate, with_settings(pointwise_dpo, beta=0.3))
view_of_others: Method = without_reference(views.pairs, Points.collate, unlikelihood)
index_of_others: Method = without_reference(views.demonstrations, Demonstrations.collate, unlikelihood)
no_such_setting: Method = pairwise(with_settings(dpo, gamma=0.3), Frozen())
"""
FIRST_WRONG = SNIPPET.splitlines().index("# refused") + 2
WRONG = range(FIRST_WRONG, len(SNIPPET.splitlines()) + 1)
"""Lines of the snippet, counted from 1, that must each be refused; all the others must pass."""


def test_a_type_checker_knows_every_method() -> None:
    stub = (ROOT / "src/trueup/methods/__init__.pyi").read_text()
    named = set(re.findall(r"^from trueup\.methods\.\w+ import \w+ as (\w+)$", stub, re.MULTILINE))
    others = {"METHODS", "Beta", "Method", "MethodInfo", "method"}
    assert named == {info.build.__name__ for info in METHODS.values()} | others


@pytest.mark.slow
def test_a_type_checker_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    file = tmp_path / "combinations.py"
    file.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=800)
    refused = {int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error:" in line}
    assert refused == set(WRONG), checked.stdout
