"""Combinations that make no sense do not pass a type checker."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SNIPPET = """\
from trueup.batch.index import Pairs, PairsWithTarget, Points, Rankings
from trueup.batch.logprobs import LogProbs
from trueup.feedback import views
from trueup.feedback.records import PairRelation
from trueup.methods.method import Method
from trueup.objectives.dpo import dpo
from trueup.objectives.slic_hf import slic_hf
from trueup.references.choices import Cached, Frozen, NoReference, TrustRegion

right: Method[PairRelation, Pairs, LogProbs] = Method(views.pairs, Pairs.collate, dpo, Frozen())
moving: Method[PairRelation, Pairs, LogProbs] = Method(views.pairs, Pairs.collate, dpo, TrustRegion())
targeted: Method[PairRelation, PairsWithTarget, None] = Method(
    views.pairs, PairsWithTarget.collate_chosen, slic_hf, NoReference()
)
dpo_on_points = Method(views.points, Points.collate, dpo, Frozen())
dpo_on_rankings_index = Method(views.pairs, Rankings.collate, dpo, Frozen())
points_view_of_pairs = Method(views.points, Pairs.collate, dpo, Frozen())
dpo_without_reference = Method(views.pairs, Pairs.collate, dpo, NoReference())
cached_that_moves = Cached(alpha=0.6)
demonstrations_that_are_not_there = Method(views.pairs, PairsWithTarget.collate, slic_hf, NoReference())
"""
WRONG = range(15, 21)
"""Lines of the snippet, counted from 1, that must each be refused; all the others must pass."""


@pytest.mark.slow
def test_a_type_checker_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    file = tmp_path / "combinations.py"
    file.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    refused = {int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error:" in line}
    assert refused == set(WRONG), checked.stdout
