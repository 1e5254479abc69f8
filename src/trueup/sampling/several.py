"""The policy and further models that write beside it, as RRHF samples from several (Yuan et al., 2023,
https://arxiv.org/abs/2304.05302)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.sampling.sampler import Sampled, Sampler
from trueup.sampling.streams import another_seed


class SeveralSamplers:
    """Asks each, and puts the policy's responses first.

    Args:
        policy: the only one that is refreshed and saved.
        encoder: the policy's.
        others: further models, each with its encoder; they stay as they are.
    """

    def __init__(self, policy: Sampler, encoder: Encoder, others: Sequence[tuple[Sampler, Encoder]]) -> None:
        self.policy = policy
        self.others = [(sampler, _same_tokens(other, encoder)) for sampler, other in others]

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """As many responses of each model; see `trueup.sampling.sampler.Sampler`.

        Token ids of a further model are kept where the policy has the same tokens, log-probabilities never: they are
        not the policy's.
        """
        found = self.policy.sample(prompts, responses, seed=seed)
        for number, (sampler, same) in enumerate(self.others, start=1):
            written = sampler.sample(prompts, responses, seed=another_seed(seed, number))
            for place, several in enumerate(written):
                found[place] += tuple(
                    replace(one, ids=one.ids if same else None, log_probs=None) for one in several
                )
        return found

    def refresh(self, version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.policy.refresh(version)

    def state(self) -> Mapping[str, Tensor]:
        """See `trueup.sampling.sampler.Sampler`."""
        return self.policy.state()

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """See `trueup.sampling.sampler.Sampler`."""
        self.policy.restore(tensors, version)


def _same_tokens(one: Encoder, other: Encoder) -> bool:
    """Whether ids of the one say the same with the other, and end a response there too."""
    same = one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    return same and set(one.end_ids) <= set(other.end_ids)
