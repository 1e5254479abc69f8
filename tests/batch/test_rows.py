"""Index types: row numbers, scores and labels of a whole batch; and sums and means of the rows of `LogProbs`."""

import torch

from trueup.batch.rows import LogProbs, Pairs, PairsWithTarget, Points, Rankings
from trueup.feedback import records


def test_pairs_add_the_first_row_of_their_group() -> None:
    relations = [records.PairRelation(((0, 1, 1.0), (2, 1, 0.75))), records.PairRelation(((1, 0, 1.0),))]
    pairs = Pairs.collate(relations, [0, 3])
    assert pairs.chosen_P.tolist() == [0, 2, 4]
    assert pairs.rejected_P.tolist() == [1, 1, 3]
    assert pairs.probability_P.tolist() == [1.0, 0.75, 1.0]
    assert (pairs.chosen_P.dtype, pairs.probability_P.dtype) == (torch.int64, torch.float32)


def test_rankings_number_their_groups() -> None:
    rankings = Rankings.collate([records.RankRelation((0.5, -1.0, 2.0)), records.RankRelation((3.0, 3.0))], [0, 3])
    assert rankings.score_N.tolist() == [0.5, -1.0, 2.0, 3.0, 3.0]
    assert rankings.group_N.tolist() == [0, 0, 0, 1, 1]
    assert rankings.num_groups == 2


def test_points_keep_labels_and_flags_in_row_order() -> None:
    relations = [records.PointRelation((1.0, 0.25), (True, False)), records.PointRelation((0.0,), (False,))]
    points = Points.collate(relations, [0, 2])
    assert points.label_N.tolist() == [1.0, 0.25, 0.0]
    assert points.demonstration_N.tolist() == [True, False, False]
    assert (points.label_N.dtype, points.demonstration_N.dtype) == (torch.float32, torch.bool)


def test_no_pair_at_all_keeps_the_dtypes() -> None:
    pairs = Pairs.collate([records.PairRelation(())], [0])
    assert pairs.chosen_P.shape == (0,)
    assert pairs.chosen_P.dtype == torch.int64


def test_pairs_with_a_target_imitate_what_their_collate_says() -> None:
    relations = [records.PairRelation(((0, 1, 1.0), (2, 1, 0.75))), records.PairRelation(((1, 0, 1.0),))]
    chosen = PairsWithTarget.collate_chosen(relations, [0, 3])
    assert chosen.target_P.tolist() == chosen.pairs.chosen_P.tolist() == [0, 2, 4]
    demonstrated = [
        records.DemonstratedPairRelation(relation, at) for relation, at in zip(relations, (3, 1), strict=True)
    ]
    marked = PairsWithTarget.collate(demonstrated, [0, 4])
    assert marked.pairs.chosen_P.tolist() == [0, 2, 5]
    assert marked.pairs.probability_P.tolist() == [1.0, 0.75, 1.0]
    assert marked.target_P.tolist() == [3, 3, 5]
    assert PairsWithTarget.collate([], []).target_P.dtype == torch.int64


def test_rows_without_tokens_are_zero_wherever_they_stand() -> None:
    token_S = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    log_probs = LogProbs(token_S, torch.tensor([0, 2, 0, 1, 0]))
    assert log_probs.sum.tolist() == [0.0, -3.0, 0.0, -0.5, 0.0]
    assert log_probs.mean.tolist() == [0.0, -1.5, 0.0, -0.5, 0.0]
    log_probs.mean.sum().backward()
    assert token_S.grad is not None
    assert token_S.grad.tolist() == [0.5, 0.5, 1.0]


def test_a_log_probability_of_zero_counts_as_a_token() -> None:
    log_probs = LogProbs(torch.tensor([0.0, -3.0, 0.0]), torch.tensor([3]))
    assert log_probs.mean.tolist() == [-1.0]


def test_bfloat16_tokens_are_added_in_float32() -> None:
    # In bfloat16, 256 + 1 is 256: a sum in it would stop growing there.
    token_S = torch.full((600,), -1.0, dtype=torch.bfloat16)
    log_probs = LogProbs(token_S, torch.tensor([600]))
    assert log_probs.sum.dtype == torch.float32
    assert log_probs.sum.tolist() == [-600.0]
