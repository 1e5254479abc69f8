"""RRHF as its authors published it: one divisor for all candidates of a group, by values worked by hand."""

from collections.abc import Sequence

import pytest
import torch

from trueup.batch.index import Rankings
from trueup.batch.logprobs import LogProbs
from trueup.feedback.groups import RankRelation
from trueup.objectives.rrhf import padded_length, rrhf, rrhf_padded

Tokens = Sequence[Sequence[float]]


def rows(*groups: tuple[int, Tokens]) -> LogProbs:
    """Groups of the length of a prompt and the tokens of each response."""
    every = [(prompt, row) for prompt, responses in groups for row in responses]
    return LogProbs(
        torch.tensor([token for _, row in every for token in row], dtype=torch.float64),
        torch.tensor([len(row) for _, row in every]),
        torch.tensor([prompt for prompt, _ in every]),
    )


def rankings(*scores: Sequence[float]) -> Rankings:
    first_rows = [sum(map(len, scores[:number])) for number in range(len(scores))]
    return Rankings.collate([RankRelation(tuple(given)) for given in scores], first_rows)


def test_by_hand() -> None:
    """Prompt 3, longest response 2: L = 5. p = -0.6 for the better, -0.1 for the worse: 0.5 + 0.6."""
    policy, ranked = rows((3, [[-1, -2], [-0.5]])), rankings([1.0, 0.0])
    loss = rrhf_padded(policy, None, ranked)
    assert loss.per_example.tolist() == pytest.approx([1.1])
    assert loss.metrics["loss/rank"].tolist() == pytest.approx([0.5])
    assert loss.metrics["loss/sft"].tolist() == pytest.approx([0.6])
    assert loss.metrics["rewards/chosen"].tolist() == pytest.approx([-0.6])
    assert loss.metrics["logps/chosen"].tolist() == [-3.0]
    weighted = rrhf_padded(policy, None, ranked, rank_weight=2.0, sft_weight=0.5)
    assert weighted.per_example.tolist() == pytest.approx([1.3])


def test_every_group_has_its_own_length() -> None:
    """L = 3 + 2 and 1 + 4, whatever stands beside a group."""
    policy = rows((3, [[-1, -2], [-0.5]]), (1, [[-1], [-1, -1, -1, -1], [-2]]))
    ranked = rankings([1.0, 0.0], [0.0, 2.0, 1.0])
    assert padded_length(policy, ranked).tolist() == [5, 5, 5, 5, 5]
    policy = rows((7, [[-1, -2], [-0.5]]), (1, [[-1], [-1, -1, -1, -1], [-2]]))
    assert padded_length(policy, ranked).tolist() == [9, 9, 5, 5, 5]
    loss = rrhf_padded(policy, None, ranked)
    # -3 against -0.5 over 9; -4 against -2 and -1, -2 against -1, over 5.
    assert loss.per_example.tolist() == pytest.approx([(2.5 + 3) / 9, (2 + 3 + 1 + 4) / 5])


def test_it_orders_by_sums_where_the_paper_orders_by_means() -> None:
    """Means -1 (score 1) and -2 are in order; sums -3 and -2 are not, so a longer response is held likelier."""
    policy, ranked = rows((1, [[-1, -1, -1], [-2]])), rankings([1.0, 0.0])
    assert rrhf(policy, None, ranked).per_example.tolist() == [3.0]
    assert rrhf_padded(policy, None, ranked).per_example.tolist() == [0.25 + 0.75]
    assert rrhf(policy, None, ranked).metrics["rewards/accuracies"].tolist() == [1.0]
    assert rrhf_padded(policy, None, ranked).metrics["rewards/accuracies"].tolist() == [0.0]


def published(prompt: int, responses: Tokens, scores: Sequence[float]) -> float:
    """The loss of one query as the authors' train.py computes it.

    Labels are -100 over the prompt but its last token, then the response, then -100, padded to the longest; the
    mask that lengths are counted with is made after the -100 were overwritten with 0, so it is all ones.
    """
    width = max(prompt - 1 + len(row) + 1 for row in responses)
    token = torch.zeros(len(responses), width, dtype=torch.float64)
    for number, row in enumerate(responses):
        token[number, prompt - 1 : prompt - 1 + len(row)] = torch.tensor(row, dtype=torch.float64)
    length = torch.ones_like(token).sum(-1)
    value, reward = token.sum(-1) / length, torch.tensor(scores)
    diff, reward_diff = value[None] - value[:, None], reward[None] - reward[:, None]
    rank = -diff[(reward_diff > 0) & (diff < 0)].sum()
    return float(rank - token[reward.argmax()].mean())


def test_it_is_what_the_authors_code_computes() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        lengths = torch.randint(1, 9, (2 + seed % 4,), generator=generator).tolist()
        responses = [(-3 * torch.rand(size, generator=generator)).tolist() for size in lengths]
        scores = torch.randn(len(lengths), generator=generator).tolist()
        loss = rrhf_padded(rows((1 + seed, responses)), None, rankings(scores))
        assert loss.per_example.tolist() == pytest.approx([published(1 + seed, responses, scores)], rel=1e-6)
