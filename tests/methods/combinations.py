"""Combinations that make sense pass a type checker, and those that make none do not: `make types` checks this file,
where an error that is no longer there is one itself."""

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

dpo_on_points = Method(views.points, Points.collate, dpo, Frozen())  # type: ignore[arg-type]
dpo_on_rankings_index = Method(views.pairs, Rankings.collate, dpo, Frozen())  # type: ignore[arg-type]
points_view_of_pairs = Method(views.points, Pairs.collate, dpo, Frozen())  # type: ignore[arg-type]
dpo_without_reference = Method(views.pairs, Pairs.collate, dpo, NoReference())  # type: ignore[misc]
cached_that_moves = Cached(alpha=0.6)  # type: ignore[call-arg]
demonstrations_that_are_not_there = Method(views.pairs, PairsWithTarget.collate, slic_hf, NoReference())  # type: ignore[arg-type]
points_in_pairs: Method = pairwise(with_settings(pointwise_dpo, beta=0.3), Frozen())  # type: ignore[arg-type]
no_reference: Method = pairwise(with_settings(dpo, beta=0.3), NoReference())  # type: ignore[misc]
reference_not_given: Method = without_reference(views.points, Points.collate, with_settings(pointwise_dpo, beta=0.3))  # type: ignore[arg-type]
view_of_others: Method = without_reference(views.pairs, Points.collate, unlikelihood)  # type: ignore[arg-type]
index_of_others: Method = without_reference(views.demonstrations, Demonstrations.collate, unlikelihood)  # type: ignore[arg-type]
no_such_setting: Method = pairwise(with_settings(dpo, gamma=0.3), Frozen())  # type: ignore[call-arg]
